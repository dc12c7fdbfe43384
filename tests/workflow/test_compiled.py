"""``compile=true``: the training steps of a compiled network, and every file of the run as without it."""

import pytest
import torch
from safetensors.torch import load_file
from torch._dynamo.utils import counters
from torch._inductor import config as inductor

from segment.config.compose import compose_command
from segment.config.experiment import read_experiment
from segment.errors import UserError
from segment.runs.curves import read_curves
from segment.runs.settings import differences

COMPILED = "compile=true"


def test_without_a_compiler_the_key_is_named_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match=r"compile=true: torch .* C\+\+ compiler, and there is none\."):
        read_experiment(*compose_command("train", [f"output={tmp_path / 'run'}", COMPILED]))


def test_runs_from_before_the_key_were_not_compiled():
    assert differences({}, {"compile": False}) == []
    assert differences({}, {"compile": True}) == [("compile", "False", "True")]


@pytest.mark.slow  # compiles the network three times
@pytest.mark.usefixtures("without_pages")
def test_compiled_runs_learn_the_same_and_resume(run_train, make_dataset, tmp_path, monkeypatch):
    root = make_dataset(tmp_path / "data", n=4)
    stop = "+callbacks.stop={_target_: stopping.StopAtBatch}"
    given = ("plan.batch_size=1", "callbacks=ema", stop)
    torch.compiler.reset()
    runs = [run_train(root, "plain", *given)]
    assert not counters["frames"]
    runs.append(run_train(root, "compiled", *given, COMPILED))
    assert counters["frames"]["ok"] == counters["frames"]["total"] > 0
    monkeypatch.setenv("STOP_AT_BATCH", "3")
    run_train(root, "resumed", *given, COMPILED, "trainer.max_time=00:01:00:00")
    monkeypatch.delenv("STOP_AT_BATCH")
    runs.append(run_train(root, "resumed", *given, COMPILED))

    plain, compiled, resumed = (read_curves(run / "tensorboard", ["train/loss"])["train/loss"] for run in runs)
    assert len(plain) == 4
    assert compiled.to_numpy() == pytest.approx(plain.to_numpy(), rel=1e-4)
    assert resumed.to_dict() == compiled.to_dict()
    plain, compiled, resumed = (load_file(run / "model" / "weights.safetensors") for run in runs)
    assert list(compiled) == list(plain)
    assert all(torch.equal(value, resumed[name]) for name, value in compiled.items())
    states = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in runs[:2]]
    for key in ("state_dict", "current_model_state"):
        assert list(states[1][key]) == list(states[0][key])
    described = [(run / "model" / "model.json").read_text() for run in runs]
    assert described[0] == described[1] == described[2]


@pytest.mark.slow
def test_a_network_that_cannot_be_compiled_is_said_to_be_so(run_train, make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", n=4)
    torch.compiler.reset()
    failing = inductor.patch({"cpp.cxx": ("false",), "force_disable_caches": True})
    with failing, pytest.raises(UserError, match=r"compile=true: .* cannot compile this network .* compile=false"):
        run_train(root, "run", COMPILED)
