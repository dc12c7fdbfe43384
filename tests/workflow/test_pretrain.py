"""Pretraining: every method, killed and resumed, from images alone, and what a training takes from it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from segment.commands import pretrain
from segment.config.compose import compose_command
from segment.errors import UserError
from segment.inference.limits import find_model

SMALL = (
    "data=auto", "network=unet_small", "network.encoder.features=[4,8]", "plan.batch_size=2", "trainer.max_steps=3",
    "sampler.steps_per_epoch=2", "trainer.check_val_every_n_epoch=1", "trainer.precision=32-true", "probe=4",
    "+callbacks.stop={_target_: stopping.StopAtBatch}",
)  # fmt: skip


@pytest.fixture
def run_pretrain(tmp_path) -> Callable[..., Path]:
    """``run_pretrain(root, name, *overrides) -> run folder``."""

    def run(root: Path, name: str, *overrides: str) -> Path:
        folder = tmp_path / name
        given = [f"data.root={root}", f"output={folder}", f"cache={tmp_path / 'cache'}"]
        pretrain.run(*compose_command("pretrain", [*SMALL, *given, *overrides]))
        return folder

    return run


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "weights.safetensors")


def result(run: Path) -> dict:
    return json.loads((run / "pretraining.json").read_text())


SLOW = pytest.mark.slow
METHODS = [
    pytest.param("byol", "[16,16]"),
    pytest.param("mae", "[8,16,16]", marks=SLOW),
    pytest.param("mae method.sparse=true +network.checkpointing=true", "[8,16,16]", marks=SLOW),
    pytest.param("genesis", "[16,16]", marks=SLOW),
    pytest.param("simclr", "[16,16]", marks=SLOW),
]


@pytest.mark.parametrize(("method", "patch"), METHODS)
def test_a_killed_and_resumed_pretraining_is_the_same(
    run_pretrain, make_dataset, tmp_path, monkeypatch, capsys, method, patch
):
    shape = (12, 20, 20) if patch.count(",") > 1 else (24, 24)
    root = make_dataset(tmp_path / "data", layout="folders", n=5, shape=shape, labels=1)
    given = (*f"method={method}".split(), f"plan.patch_size={patch}")
    whole = run_pretrain(root, "whole", *given)
    assert "Fine-tune it: segment train" in capsys.readouterr().out
    found = result(whole)
    assert (found["scans"], found["steps"], found["probe"]["patches"]) == (4, 3, 4)
    record = json.loads((whole / "provenance.json").read_text())
    assert record["pretraining"] == found
    assert len(record["cases"]) == 5  # those of the probe too
    monkeypatch.setenv("STOP_AT_BATCH", "1")
    part = run_pretrain(root, "part", *given, "trainer.max_time=00:01:00:00")
    assert result(part)["steps"] == 1
    monkeypatch.delenv("STOP_AT_BATCH")
    run_pretrain(root, "part", *given)
    first, second = weights(whole), weights(part)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert result(part)["last_step"] == found["last_step"]
    assert result(part)["probe"] == found["probe"]
    run_pretrain(root, "part", *given)
    assert "is finished" in capsys.readouterr().out


def test_images_alone_pretrain_what_a_training_starts_from(
    run_pretrain, run_train, make_dataset, tmp_path, without_pages
):
    root = make_dataset(tmp_path / "data", layout="folders", n=3, shape=(24, 24), labels=1)
    images = ("data.layout=images", "plan.patch_size=[16,16]")
    made = run_pretrain(root / "images", "made", "method=mae", "method.sparse=true", *images)
    assert result(made)["scans"] == 3
    assert result(made)["probe"] is None
    run = run_train(root, "tuned", "plan.patch_size=[16,16]", f"weights={made}", "trainer.max_steps=2")
    taken = json.loads((run / "weights.json").read_text())
    assert taken["parts"] == {"encoder": [16, 16], "decoder": [10, 10], "heads": [0, 2]}
    with pytest.raises(UserError, match=r"3 scans have no mask .*segment pretrain"):
        run_train(root / "images", "none", *images)
    with pytest.raises(UserError, match=r"model=.*is a pretraining.*weights="):
        find_model(made)


def test_scans_of_validation_are_used_on_request_and_said(run_pretrain, make_dataset, tmp_path, capsys):
    root = make_dataset(tmp_path / "data", layout="folders", n=3, shape=(24, 24), labels=1)
    made = run_pretrain(root, "made", "method=mae", "scans=all", "plan.patch_size=[16,16]", "trainer.max_steps=1")
    assert result(made)["scans"] == 3
    assert "scans=all: images of 1 validation and 0 test scans are used" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["fold=all"], "fold=all: a pretraining has one fold"),
        (["labelled=2"], "labelled=2: a pretraining uses no masks"),
        (["trainer.devices=2"], r"trainer\.devices=2: a pretraining uses one device"),
        (["method=simclr", "plan.batch_size=1"], r"plan\.batch_size=1: .*Give 2 or more"),
        (["method.overlap=2"], r"method\.overlap=2: give a fraction"),
        (["method=genesis", "+method.sparse=true"], r"method\.sparse=true: only masked blocks"),
        (["+method.temprature=2"], r"method\.temprature: .*Did you mean 'temperature'"),
    ],
)
def test_mistakes_are_named(run_pretrain, make_dataset, tmp_path, given, message):
    root = make_dataset(tmp_path / "data", layout="folders", n=3, shape=(24, 24), labels=1)
    with pytest.raises(UserError, match=message):
        run_pretrain(root, "made", "plan.patch_size=[16,16]", *given)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["simclr", "byol"])
def test_textures_are_learned_that_a_random_encoder_does_not_tell_apart(run_pretrain, tmp_path, method):
    root = tmp_path / "data"
    for number in range(60):
        random = np.random.default_rng(number)
        angle, (y, x) = np.pi * (number % 3) / 3, np.mgrid[:32, :32]
        wave = np.sin(1.3 * (x * np.cos(angle) + y * np.sin(angle)) + random.uniform(0, 6))
        slope = random.uniform(-40, 40) * (x / 32 - 0.5)
        image = 60 + random.uniform(-30, 30) + random.uniform(11, 18) * wave + slope + random.normal(0, 4, (32, 32))
        for kind, array in (("images", image.clip(0, 255)), ("labels", np.full((32, 32), number % 3 + 1))):
            (root / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array.astype(np.uint8)).save(root / kind / f"{number:02d}.png")
    made = run_pretrain(
        root, "made", f"method={method}", "network.encoder.features=[4,8,16]", "plan.patch_size=[16,16]",
        "plan.batch_size=16", "trainer.max_steps=120", "sampler.steps_per_epoch=40", "probe=96", "optimizer.lr=0.01",
        "augment.mirror=[]", "augment.spatial=null",
    )  # fmt: skip
    # Of three classes; seen: SimCLR 94 %, BYOL 58 to 100 % by seed, after 30 to 36 % of the random encoder.
    probe = result(made)["probe"]
    assert probe["trained"] > probe["random"] + 0.2
    assert result(made)["last_step"]["spread"] > 0.5  # BYOL without the norm of its projection: 0.1
    assert not result(made)["collapsed"]


def test_a_transformer_is_not_encoded_sparsely(run_pretrain, make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", layout="folders", n=3, shape=(40, 40), labels=1)
    given = [f"data.root={root}", f"output={tmp_path / 'made'}", "network=unetr", "plan.patch_size=[32,32]"]
    with pytest.raises(UserError, match=r"method\.sparse=true: encoder is a ViT, which sees all voxels\. Use another"):
        pretrain.run(*compose_command("pretrain", ["data=auto", *given, "method=mae", "method.sparse=true"]))
