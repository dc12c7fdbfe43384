"""One seed gives the same weights, bit for bit: for any number of workers, stopped and resumed, in fp32 and bf16."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from segment.errors import UserError
from segment.runs.curves import read_curves

# Narrow, and of few voxels: bf16 is emulated on processors without it. Their bottlenecks have few planes.
NETWORKS = {
    "unet": ("network=unet", "network.encoder.features=[4,8,12]", "plan.patch_size=[8,8,8]"),
    "attention_unet": ("network=attention_unet", "network.encoder.features=[4,8,8,8,8]", "plan.patch_size=[32,16,16]"),
    "unet_small": ("network=unet_small", "plan.patch_size=[16,8,8]"),
    "nnunet_plain": ("network=nnunet_plain", "network.encoder.features=[4,8]", "plan.patch_size=[4,8,8]"),
}
pytestmark = pytest.mark.usefixtures("without_pages")
STOP = "+callbacks.stop={_target_: stopping.StopAtBatch}"


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "weights.safetensors")


def assert_same(run: Path, other: Path) -> None:
    first, second = weights(run), weights(other)
    assert first.keys() == second.keys()
    assert [name for name, value in first.items() if not torch.equal(value, second[name])] == []


FAST = (("unet_small", "32-true"), ("unet", "bf16-mixed"))
BOTH = [
    pytest.param(name, precision, marks=[pytest.mark.slow] * ((name, precision) not in FAST))
    for name in NETWORKS
    for precision in ("32-true", "bf16-mixed")
]


@pytest.mark.parametrize(("name", "precision"), BOTH)
def test_workers_and_resuming_change_no_weight(run_train, make_dataset, tmp_path, monkeypatch, name, precision):
    root = make_dataset(tmp_path / "data", n=4)
    given = (
        *NETWORKS[name], f"trainer.precision={precision}", "trainer.max_steps=4", "sampler.steps_per_epoch=2",
        "plan.batch_size=1", "trainer.check_val_every_n_epoch=2", STOP,
    )  # fmt: skip
    whole = run_train(root, "whole", *given)
    assert_same(whole, run_train(root, "workers", *given, "sampler.workers=2"))
    monkeypatch.setenv("STOP_AT_BATCH", "3")
    part = run_train(root, "part", *given, "sampler.workers=1", "trainer.max_time=00:01:00:00")
    assert json.loads((part / "provenance.json").read_text())["steps"] == 3
    monkeypatch.delenv("STOP_AT_BATCH")
    run_train(root, "part", *given)
    assert_same(whole, part)


@pytest.mark.parametrize(
    ("accumulated", "stop", "callbacks"),
    [
        (2, 5, "ema"),  # within a step
        pytest.param(3, 6, "ema", marks=pytest.mark.slow),  # after an epoch
        pytest.param(2, 6, "default", marks=pytest.mark.slow),  # within an epoch
        *[
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((3, 7, "default"), (2, 4, "default"), (3, 8, "ema"))
        ],
    ],
)
def test_accumulated_gradients_are_those_of_an_uninterrupted_run(
    run_train, make_dataset, tmp_path, monkeypatch, accumulated, stop, callbacks
):
    root = make_dataset(tmp_path / "data", n=4)
    given = (
        f"trainer.accumulate_grad_batches={accumulated}", f"sampler.steps_per_epoch={2 * accumulated}",
        "trainer.max_steps=6", "trainer.check_val_every_n_epoch=2", "network.encoder.stage.dropout=0.2",
        f"callbacks={callbacks}", "plan.batch_size=1", STOP,
    )  # fmt: skip
    whole = run_train(root, "whole", *given)
    monkeypatch.setenv("STOP_AT_BATCH", str(stop))
    part = run_train(root, "part", *given, "trainer.max_time=00:01:00:00")
    # A stop within a step waits for its end.
    assert json.loads((part / "provenance.json").read_text())["steps"] == -(-stop // accumulated)
    monkeypatch.delenv("STOP_AT_BATCH")
    run_train(root, "part", *given)
    assert json.loads((part / "provenance.json").read_text())["steps"] == 6
    assert_same(whole, part)
    first, second = (read_curves(run / "tensorboard", ["train/loss"])["train/loss"] for run in (whole, part))
    assert first.to_dict() == second.to_dict()


def test_an_epoch_that_ends_within_a_step_is_refused(run_train, make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", n=4)
    with pytest.raises(UserError, match=r"sampler\.steps_per_epoch=4.*such as 6"):
        run_train(root, "run", "trainer.accumulate_grad_batches=3", "sampler.steps_per_epoch=4")
    assert not (tmp_path / "runs").exists()
