"""What predict writes beside the masks, decisions that need a whole scan, and ensembles of different plans."""

import errno
import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from oriented import affine_of
from safetensors.torch import save_file
from saved_models import PLAN, save
from scipy.stats import entropy as scipy_entropy
from torch import nn

from segment.commands import predict
from segment.config.compose import compose
from segment.errors import UserError
from segment.failures import explain_failure
from segment.inference.decision import decide_scan
from segment.inference.ensemble import ensemble
from segment.inference.held import held
from segment.inference.model import load_model
from segment.inference.uncertainty import entropy, uncertainty
from segment.inference.windows import SlidingWindows
from segment.io.fractions import write_fractions
from segment.io.geometry import Grid
from segment.io.images import read_image
from segment.runs.predictions import prediction_settings

SCAN = np.random.default_rng(0).normal(size=(30, 40)).astype(np.float32)
STEP = 1 / 65535


@pytest.fixture
def folders(tmp_path):
    """Two models with other weights and other plans, and a scan."""
    nib.save(nib.Nifti1Image(SCAN, np.diag([2.0, 0.5, 1, 1])), tmp_path / "scan.nii")
    plans = {"first": PLAN, "second": replace(PLAN, spacing=(1.0, 1.0), patch_size=(24, 16))}
    for (name, plan), scale in zip(plans.items(), (1.0, -2.0), strict=True):
        save(tmp_path / name, plan=plan)
        state = load_model(tmp_path / name).network.state_dict()
        save_file({key: value * scale for key, value in state.items()}, tmp_path / name / "weights.safetensors")
    return tmp_path / "first", tmp_path / "second"


def command(models, root, output: str, *more: str) -> tuple[np.ndarray, dict]:
    """The mask (x, y), and the content of predictions.json."""
    given = {"model": f"'[{','.join(map(str, models))}]'", "input": root / "scan.nii", "output": root / output}
    predict.run(compose("predict", [*(f"{key}={value}" for key, value in given.items()), *more]))
    mask = np.asarray(nib.load(root / output / "scan.nii").dataobj)
    return mask, json.loads((root / output / "predictions.json").read_text())


def test_maps_are_written_on_the_grid_of_the_scan_and_the_mask_stays_the_same(folders, tmp_path):
    plain, _ = command(folders[:1], tmp_path, "plain")
    mask, record = command(folders[:1], tmp_path, "masks", "probabilities=true", "uncertainty=true")
    np.testing.assert_array_equal(mask, plain)
    expected = load_model(folders[0]).predict(tmp_path / "scan.nii", probabilities=True)
    assert record["probabilities"] == list(expected.probabilities) == ["background", "tail", "head"]
    image = nib.load(tmp_path / "masks" / "probabilities" / "scan.nii.gz")
    assert image.shape == (30, 40, 1, 3)
    np.testing.assert_allclose(image.affine, expected.affine)
    found = image.get_fdata()[:, :, 0]
    whole = np.stack([*expected.probabilities.values()], axis=-1)
    np.testing.assert_allclose(found, whole, atol=2.0**-12 + STEP)
    assert image.dataobj.get_unscaled().dtype == np.uint16
    uncertain = nib.load(tmp_path / "masks" / "uncertainty" / "scan.nii.gz")
    assert uncertain.shape == (30, 40, 1, 2)
    shares = scipy_entropy(whole, axis=-1) / np.log(3)
    assert shares.max() - shares.min() > 0.01
    np.testing.assert_allclose(uncertain.get_fdata()[:, :, 0, 0], shares, atol=2e-3)
    assert uncertain.get_fdata()[..., 1].max() > 0.002  # mirrored views differ
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == [
        "predictions.json", "probabilities", "scan.nii", "uncertainty",
    ]  # fmt: skip


def test_a_disk_that_is_too_full_for_the_probabilities_is_named_and_nothing_stays_on_it(tmp_path, monkeypatch):
    array = held((2, 3), np.float32, tmp_path)
    array += 0.5
    assert array.sum() == 3
    assert [*tmp_path.iterdir()] == []

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(OSError, match="No space left") as failed:
        held((2, 3), folder=tmp_path)
    assert explain_failure(failed.value).startswith(f"{tmp_path}: No space left on device.")


def test_two_inputs_with_one_name_for_their_maps_are_refused(folders, tmp_path):
    (tmp_path / "inputs").mkdir()
    for name in ("a.nii", "a.nii.gz"):
        nib.save(nib.Nifti1Image(SCAN, np.eye(4)), tmp_path / "inputs" / name)
    given = [f"model={folders[0]}", f"input={tmp_path / 'inputs'}", f"output={tmp_path / 'm'}", "uncertainty=true"]
    with pytest.raises(UserError, match=r"a\.nii and a\.nii\.gz would have maps of the same name"):
        predict.run(compose("predict", given))


@pytest.mark.parametrize("codes", ["RAS", "PIR"])
def test_volumes_are_read_back_with_their_grid(tmp_path, codes):
    maps = np.random.default_rng(0).random((5, 4, 5, 6)).astype(np.float16)
    maps[0, 0, 0, :2] = 0, 1
    grid = Grid((4, 5, 6), affine_of(codes))
    write_fractions(tmp_path / "maps.nii.gz", maps, grid)
    found = read_image(tmp_path / "maps.nii.gz")
    np.testing.assert_allclose(found.array, maps, atol=STEP / 2 + 1e-7)
    np.testing.assert_allclose(found.grid.affine, grid.affine, atol=1e-5)
    assert found.array[0, 0, 0, :2].tolist() == [0, 1]


@pytest.mark.parametrize("average", ["probabilities", "logits"])
@pytest.mark.parametrize("regions", [False, True])
def test_mutual_information_is_what_the_entropy_of_the_mean_has_beyond_that_of_each_pass(average, regions):
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, 6, 9, generator=generator)
    networks = [nn.Conv2d(2, 3, 3, padding=1) for _ in range(2)]
    convert = torch.sigmoid if regions else lambda logits: logits.softmax(dim=0)
    with torch.inference_mode():
        logits = torch.stack([network(image[None])[0] * 3 for network in networks])
        planes = SlidingWindows(average=average).planes(
            [lambda x, own=network: own(x) * 3 for network in networks], image, (6, 9), regions, entropies=True
        )
        means = torch.stack([plane for _, plane in planes])[0].numpy()
    passes = np.stack([convert(one).numpy() for one in logits])
    mean = passes.mean(axis=0) if average == "probabilities" else convert(logits.mean(dim=0)).numpy()
    np.testing.assert_allclose(means[:-1], mean, atol=1e-6)

    def share(values: np.ndarray) -> np.ndarray:
        if regions:
            return np.mean([scipy_entropy([one, 1 - one], base=2) for one in values], axis=0)
        return scipy_entropy(values) / np.log(3)

    expected = np.stack([share(mean), (share(mean) - (share(passes[0]) + share(passes[1])) / 2).clip(0)])
    np.testing.assert_allclose(uncertainty(means, regions), expected, atol=1e-5)
    assert expected[1].max() > 0.05


def test_entropy_is_a_share_of_the_highest():
    found = entropy(torch.tensor([[[0.5, 0.0, 1.0]], [[0.5, 0.5, 1.0]]]), regions=True)
    np.testing.assert_allclose(found, [[1, 0.5, 0]], atol=1e-6)
    np.testing.assert_allclose(entropy(torch.full((4, 1, 1), 0.25), regions=False), 1)


def test_masks_of_the_highest_expected_dice_are_decided_on_the_grid_of_the_scan(folders, tmp_path):
    mask, record = command(folders[:1], tmp_path, "dice", "inference.decision=dice")
    assert record["predicted"]["decision"] == "dice"
    assert "decision is dice here, argmax for the model's scores, as requested." in record["notes"]
    model = load_model(folders[0])
    found = model.predict(tmp_path / "scan.nii", probabilities=True)
    scores = np.stack([value.T for value in found.probabilities.values()])
    expected = model.labels.decode(decide_scan(scores, model.labels, "dice")).T
    assert (expected != found.mask).any()
    np.testing.assert_array_equal(mask, expected)
    with pytest.warns(UserWarning, match="decision is dice here"):
        again = model.predict(tmp_path / "scan.nii", probabilities=True, inference={"decision": "dice"})
    np.testing.assert_array_equal(again.mask, expected)
    with pytest.raises(UserError, match=r"decision=best must be one of argmax, dice"):
        command(folders[:1], tmp_path, "wrong", "inference.decision=best")


def test_models_of_different_plans_are_averaged_on_the_grid_of_the_scan(folders, tmp_path):
    models = [load_model(folder) for folder in (folders[0], folders[0], folders[1])]
    alone = [model.predict(tmp_path / "scan.nii", probabilities=True).probabilities for model in models]
    mean = np.stack([np.mean([one[name] for one in alone], axis=0) for name in alone[0]])
    clear = np.diff(np.sort(mean, axis=0)[-2:], axis=0)[0] > 1e-4
    assert clear.mean() > 0.95
    three = (folders[0], folders[0], folders[1])
    mask, record = command(three, tmp_path, "mean", "probabilities=true")
    values = np.array([*models[0].labels.values()])
    np.testing.assert_array_equal(mask[clear], values[mean.argmax(axis=0)][clear])
    assert any((values[one_mask] != mask).any() for one_mask in (np.stack([*p.values()]).argmax(axis=0) for p in alone))
    found = nib.load(tmp_path / "mean" / "probabilities" / "scan.nii.gz").get_fdata()[:, :, 0]
    np.testing.assert_allclose(np.moveaxis(found, -1, 0), mean, atol=STEP)
    assert [one["folder"] for one in record["model"]] == [str(folder) for folder in three]
    assert len(record["predicted"]) == 2
    record["predicted"][1]["overlap"] = 0.75
    carried = {"overlap": ["0.5", "0.75"], "test_time_augmentation": "mirror all", "precision": "32-true"}
    assert prediction_settings(record) == carried | {"decision": None, "postprocessing": "none"}
    _, record = command(three, tmp_path, "again", "inference.overlap=0.25")
    assert prediction_settings(record)["overlap"] == 0.25
    assert [note.rpartition(" ")[0] for note in record["notes"]] == [
        f"{folder}: overlap is 0.25 here, 0.5 for the model's scores, as" for folder in folders
    ]
    joined, notes = ensemble(models)
    assert (len(joined.groups), notes) == (2, ())
