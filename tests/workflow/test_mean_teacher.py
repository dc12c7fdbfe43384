"""Mean teacher: images without masks change what is learned, their masks do not, and a resumed run is the same."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from segment.errors import UserError
from segment.runs.curves import read_curves
from segment.training.consistency import MeanTeacher

pytestmark = pytest.mark.usefixtures("without_pages")
GIVEN = (
    "network=unet_small", "network.encoder.features=[4,8]", "plan.configuration=2d", "plan.patch_size=[16,16]",
    "plan.batch_size=2", "plan.from=train", "labelled=1", "mean_teacher.weight=5", "trainer.max_steps=4",
    "sampler.steps_per_epoch=2", "trainer.precision=32-true", "trainer.check_val_every_n_epoch=2", "inference=plain",
    "+callbacks.stop={_target_: stopping.StopAtBatch}",
)  # fmt: skip


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "weights.safetensors")


def same(run: Path, other: Path) -> bool:
    first, second = weights(run), weights(other)
    return all(torch.equal(value, second[name]) for name, value in first.items())


def change(path: Path) -> None:
    """Turn a file's voxels around."""
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[::-1].copy(), image.affine), path)


def test_the_teacher_is_the_model_and_resuming_is_exact(run_train, make_dataset, tmp_path, monkeypatch):
    root = make_dataset(tmp_path / "data", n=5, shape=(4, 20, 20))
    whole = run_train(root, "whole", *GIVEN)
    monkeypatch.setenv("STOP_AT_BATCH", "3")
    part = run_train(root, "part", *GIVEN, "trainer.max_time=00:01:00:00")
    monkeypatch.delenv("STOP_AT_BATCH")
    run_train(root, "part", *GIVEN)
    assert same(whole, part)
    state = torch.load(whole / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    name = next(iter(weights(whole)))
    assert torch.equal(weights(whole)[name], state[f"teacher.{name}"])
    assert not torch.equal(state[f"network.{name}"], state[f"teacher.{name}"])


def unlabelled(root: Path, run: Path, folder: str) -> Path:
    """A file of a training scan that the run did not use the mask of."""
    (used,) = json.loads((run / "provenance.json").read_text())["split"]["train"]
    other = next(case for case in json.loads((run / "splits.json").read_text())[0]["train"] if case != used)
    (found,) = root.glob(f"{folder}/{other}*")
    return found


@pytest.mark.slow
def test_images_without_masks_are_learned_from_and_their_masks_are_not(run_train, make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", n=5, shape=(4, 20, 20))
    whole = run_train(root, "whole", *GIVEN)
    change(unlabelled(root, whole, "labelsTr"))
    assert same(whole, run_train(root, "other_mask", *GIVEN))
    change(unlabelled(root, whole, "imagesTr"))
    assert not same(whole, run_train(root, "other_image", *GIVEN))


@pytest.mark.slow
def test_a_heavier_consistency_makes_network_and_teacher_agree(run_train, make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", n=4, shape=(4, 20, 20))
    more = ("trainer.max_steps=24", "sampler.steps_per_epoch=24", "trainer.log_every_n_steps=1", "mean_teacher.ramp=0")
    more = (*more, "mean_teacher.noise=1", "optimizer.lr=0.01", "trainer.check_val_every_n_epoch=1")
    last = {}
    for weight in (0.001, 300):
        run = run_train(root, str(weight), *GIVEN, *more, f"mean_teacher.weight={weight}")
        last[weight] = read_curves(run / "tensorboard", ["train/consistency"])["train/consistency"].iloc[-8:].mean()
    assert last[300] < 0.5 * last[0.001]


def test_mean_teacher_without_scans_to_learn_from_is_refused(run_train, make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", n=4, shape=(4, 20, 20))
    with pytest.raises(UserError, match="no scan to learn from without its mask"):
        run_train(root, "run", *GIVEN, "labelled=null")
    with pytest.raises(UserError, match=r"callbacks\.ema: is not combined"):
        run_train(root, "run", *GIVEN, "callbacks=ema")


def test_weight_and_momentum_rise():
    settings = MeanTeacher(weight=2, momentum=0.9, ramp=0.5)
    assert settings.weight_at(0, 100) == pytest.approx(2 * np.exp(-5))
    assert [settings.weight_at(step, 100) for step in (50, 99)] == [2, 2]
    assert [settings.momentum_at(step) for step in (0, 1, 99)] == [0, 0.5, 0.9]
    with pytest.raises(UserError, match=r"mean_teacher\.momentum=1\.5"):
        MeanTeacher(momentum=1.5)
