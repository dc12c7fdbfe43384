"""Models of nnU-Net: masks equal its own, and nothing in its files runs, hides or is taken for something else."""

import io
import json
import os
import shutil
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from segment.commands import convert, predict
from segment.config.compose import compose
from segment.errors import UserError
from segment.inference.limits import find_model
from segment.inference.model import load_model
from segment.inference.nnunet.checkpoint import read_fold
from segment.training.pretrained import load_weights

FIXTURES = Path(__file__).parents[1] / "fixtures" / "nnunet"
NETWORK = ["configurations", "3d_fullres", "architecture", "arch_kwargs"]
CHECKPOINT = "fold_0/checkpoint_final.pth"


@pytest.fixture
def results(tmp_path) -> Path:
    """A copy of a results folder of one fold."""
    return shutil.copytree(FIXTURES / "ct_3d", tmp_path / "ct_3d")


def expected(model: str, scan: str) -> np.ndarray:
    return np.asarray(nib.load(FIXTURES / model / "expected" / f"{scan}.nii.gz").dataobj)


def edited(path: Path, *keys: str, value: object) -> None:
    """Set a key of a JSON file."""
    content = json.loads(path.read_text())
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(content))


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as refusal:
        load_model(folder)
    words = str(refusal.value)
    assert "\n" not in words
    assert len(words) < 1000
    return words


# Scan 9 is resampled, and its file stores its axes as DICOM does.
@pytest.mark.parametrize(
    ("model", "scan"),
    [
        ("mr_resenc", "scan_09"),
        pytest.param("ct_2d", "scan_09", marks=pytest.mark.slow),
        *(pytest.param(model, "scan_08", marks=pytest.mark.slow) for model in ("ct_2d", "ct_3d", "mr_resenc")),
    ],
)
def test_masks_are_those_of_nnunet(model, scan):
    files = sorted((FIXTURES / f"scans_{model[:2]}").glob(f"{scan}_*.nii.gz"))
    found = load_model(FIXTURES / model).predict(files, probabilities=True)
    theirs = expected(model, scan)
    assert len(np.unique(theirs)) > 1
    assert (found.mask == theirs).mean() > 0.9999
    total = sum(found.probabilities.values()) if model != "mr_resenc" else np.ones(1)
    np.testing.assert_allclose(total, 1, atol=1e-5)


def test_converted_model_predicts_the_same(results, tmp_path):
    convert.run(compose("convert", [f"input={results}", f"output={tmp_path / 'model'}", "format=model"]))
    scans = f"input={FIXTURES / 'scans_ct' / 'scan_09_0000.nii.gz'}"
    predict.run(compose("predict", [f"model={tmp_path / 'model'}", scans, f"output={tmp_path / 'masks'}"]))
    made = next((tmp_path / "masks").glob("*.nii.gz"))
    assert (np.asarray(nib.load(made).dataobj) == expected("ct_3d", "scan_09")).mean() > 0.9999
    with pytest.raises(UserError, match="exists"):
        convert.run(compose("convert", [f"input={results}", f"output={tmp_path / 'model'}", "format=model"]))
    with pytest.raises(UserError, match="Give format=model"):
        convert.run(compose("convert", [f"input={results}", f"output={tmp_path / 'nifti'}"]))


@pytest.mark.slow
def test_several_folds_are_an_ensemble(results, capsys, tmp_path):
    shutil.copytree(results / "fold_0", results / "fold_1")
    with pytest.raises(UserError, match="has 2 folds"):
        find_model(results)
    scan = f"input={FIXTURES / 'scans_ct' / 'scan_09_0000.nii.gz'}"
    predict.run(compose("predict", [f"model={results}", scan, f"output={tmp_path / 'masks'}", "inference=plain"]))
    assert "mean of 2 models" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("model", "network"),
    [("mr_resenc", "nnunet_resenc_m"), pytest.param("ct_3d", "nnunet_plain", marks=pytest.mark.slow)],
)
def test_described_network_is_that_of_its_configuration(model, network):
    described, _ = read_fold(FIXTURES / model / "fold_0")
    plan = described.plan
    sizes = {"features": plan.features, "strides": plan.strides, "kernel_sizes": plan.kernel_sizes}
    words = [f"network.encoder.{key}={json.dumps(value)}" for key, value in sizes.items()]
    words += [f"network.encoder.depths={list(plan.blocks)}", f"network.decoder.depths={list(plan.decoder_blocks)}"]
    ours = OmegaConf.to_container(
        compose("train", [f"network={network}", *words, "network.deep_supervision=1"]).network, resolve=True
    )
    del ours["_partial_"]
    own = {key: value for key, value in described.network.items() if key in ours}
    assert own == ours


def test_plans_of_before_2_4_are_read(results):
    found, _ = read_fold(results / "fold_0")
    path = results / "plans.json"
    content = json.loads(path.read_text())
    configuration = content["configurations"]["3d_fullres"]
    arguments = configuration.pop("architecture")["arch_kwargs"]
    configuration |= {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 12,
        "n_conv_per_stage_encoder": arguments["n_conv_per_stage"],
        "n_conv_per_stage_decoder": arguments["n_conv_per_stage_decoder"],
        "pool_op_kernel_sizes": arguments["strides"],
        "conv_kernel_sizes": arguments["kernel_sizes"],
    }
    path.write_text(json.dumps(content))
    assert read_fold(results / "fold_0")[0] == found


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        (["image_reader_writer"], "MyReader", "image_reader_writer is MyReader"),
        (["configurations", "3d_fullres", "preprocessor_name"], "Mine", "preprocessor_name is Mine"),
        (["configurations", "3d_fullres", "normalization_schemes"], ["Mine"], "normalization_schemes is Mine"),
        (["configurations", "3d_fullres", "resampling_fn_data"], "none", "resampling_fn_data is none"),
        (["configurations", "3d_fullres", "previous_stage"], "3d_lowres", "second stage of a cascade"),
        (["configurations", "3d_fullres", "spacing"], [1, 1], "spacing"),
        (["configurations", "3d_fullres", "patch_size"], [1 << 15] * 3, "patch_size"),
        (["configurations", "3d_fullres", "architecture", "network_class_name"], "a.Primus", "is Primus"),
        ([*NETWORK, "features_per_stage"], [8192] * 3, "do not fit"),
        ([*NETWORK, "norm_op"], "BatchNorm3d", "norm_op"),
        (["configurations"], {}, "3d_fullres"),
        (["configurations"], 7, "cannot be read"),
        (["foreground_intensity_properties_per_channel"], {}, "cannot be read"),
    ],
)
def test_what_nnunet_would_do_otherwise_is_refused(results, keys, value, words):
    edited(results / "plans.json", *keys, value=value)
    assert words in refused(results)


def test_a_training_that_is_not_finished_is_explained(results):
    (results / CHECKPOINT).rename(results / "fold_0" / "checkpoint_best.pth")
    assert "Finish the training" in refused(results)
    assert "several" in refused_parent(results)


def refused_parent(results: Path) -> str:
    results.rename(results.with_name("nnUNetTrainer__nnUNetPlans__3d_fullres"))
    with pytest.raises(UserError) as refusal:
        load_model(results.parent)
    return str(refusal.value)


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.path}",)


def content_of(results: Path) -> dict:
    return torch.load(results / CHECKPOINT, weights_only=False)


@pytest.mark.parametrize("place", ["logging", "init_args", "trainer_name"])
def test_a_payload_does_not_run(results, tmp_path, place):
    torch.save(content_of(results) | {place: Payload(tmp_path / "ran")}, results / CHECKPOINT)
    assert "posix.system" in refused(results)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("damage", ["cut", "compressed", "expanded", "nan", "renamed", "no_weights", "text"])
def test_a_damaged_checkpoint_is_refused(results, damage):
    path, content = results / CHECKPOINT, content_of(results)
    weights = content["network_weights"]
    name = "encoder.stages.0.0.convs.0.conv.weight"
    if damage == "expanded":
        weights[name] = torch.zeros(1).expand(1 << 20, 1 << 20)
    elif damage == "nan":
        weights[name][0] = float("nan")
    elif damage == "renamed":
        weights["encoder.stages.9.x"] = weights.pop(name)
    elif damage == "no_weights":
        content["network_weights"] = {}
    elif damage == "text":
        weights[name] = "weights"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    elif damage == "compressed":
        packed = io.BytesIO()
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
            for entry in old.infolist():
                new.writestr(entry.filename, old.read(entry))
        path.write_bytes(packed.getvalue())
    else:
        torch.save(content, path)
    assert str(path) in refused(results)


@pytest.mark.parametrize("path", ["", "fold_0", CHECKPOINT])
def test_fine_tuning_takes_what_fits_and_says_so(results, path):
    described, source = read_fold(results / "fold_0")
    labels = {"background": 0, "organ": 1, "vessel": 2, "lesion": 3}
    _, network = read_fold(results / "fold_0")
    torch.nn.init.zeros_(network.encoder.stages[0][0].conv.weight)
    before = network.heads[0][0].weight.clone()
    started = load_weights(network, results / path, labels=labels, architecture=described.network)
    assert started.parts["encoder"] == [24, 24]
    assert started.parts["heads"] == [0, 4]
    assert set(started.initial.values()) == {"other labels"}
    assert torch.equal(network.encoder.stages[0][0].conv.weight, source.encoder.stages[0][0].conv.weight)
    assert torch.equal(network.heads[0][0].weight, before)
