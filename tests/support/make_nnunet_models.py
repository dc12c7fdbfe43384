"""Makes tests/fixtures/nnunet: small models that nnU-Net 2.8.1 trained on made scans, and its masks of two scans.

Run it where nnU-Net is installed, with nnUNet_raw, nnUNet_preprocessed, nnUNet_results, nnUNet_n_proc_DA=1 and
nnUNet_def_n_proc=1 set. Networks, patches and training are made small; all else is as nnU-Net does it.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from scipy.ndimage import gaussian_filter

RAW, PREPARED, RESULTS = (Path(os.environ[f"nnUNet_{name}"]) for name in ("raw", "preprocessed", "results"))
FIXTURES = Path(__file__).parents[1] / "fixtures" / "nnunet"
TRAINING, ALL = 8, 10
PLANS = {"Dataset001_MadeCT": "nnUNetPlans", "Dataset002_MadeMR": "nnUNetResEncUNetMPlans"}
MODELS = {
    "ct_3d": ("Dataset001_MadeCT", "3d_fullres", [8, 24, 24], False),
    "ct_2d": ("Dataset001_MadeCT", "2d", [24, 24], False),
    "mr_resenc": ("Dataset002_MadeMR", "3d_fullres", [16, 16, 24], True),
}
random = np.random.default_rng(7)


def blob(shape, spacing, centre, radii):
    grid = np.stack(np.meshgrid(*[np.arange(n) * mm for n, mm in zip(shape, spacing, strict=True)], indexing="ij"), -1)
    return (((grid - np.array(centre)) / np.array(radii)) ** 2).sum(-1) < 1


def scan(ct, number):
    """Channels and mask (x, y, z) of a body with an organ and a lesion in it, and the voxel size."""
    if ct:
        spacing = [(1, 1, 4), (1.2, 1.2, 5), (0.9, 0.9, 4), (1, 1, 4.5)][number % 4]
        shape = [(44, 40, 12), (36, 38, 10), (48, 44, 13), (42, 46, 11)][number % 4]
    else:
        spacing = [(1, 1, 1), (1.1, 1.1, 1.3), (0.9, 1, 1.1)][number % 3]
        shape = [(30, 34, 26), (28, 30, 22), (34, 32, 26)][number % 3]
    extent = np.array(shape) * np.array(spacing)
    centre = extent * (0.5 + random.uniform(-0.06, 0.06, 3))
    radii = extent * random.uniform(0.22, 0.3, 3)
    organ = blob(shape, spacing, centre, radii)
    lesion = blob(shape, spacing, centre + radii * random.uniform(-0.3, 0.3, 3), radii * 0.45)
    body = blob(shape, spacing, extent / 2, extent * 0.48)
    channels = []
    for levels in [(40, 110, 170)] if ct else [(40, 110, 170), (60, 90, 200)]:
        image = np.where(body, levels[0], -1000 if ct else 0).astype(float)
        image[organ], image[lesion] = levels[1:]
        image += gaussian_filter(random.standard_normal(shape), 2) * 48 + random.normal(0, 12, shape)
        channels.append(np.round(image if ct else np.where(body, np.maximum(image, 1), 0)).astype(np.int16))
    return channels, np.where(lesion, 2, organ).astype(np.uint8), spacing


def save(path, array, spacing, number):
    affine = np.diag([*spacing, 1.0])
    if number % 2:  # as DICOM stores them
        affine[:2] *= -1
    affine[:3, 3] = [-20, 10, 5]
    nib.save(nib.Nifti1Image(array, affine), path)


def make_scans(folder, ct):
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(ALL):
        channels, mask, spacing = scan(ct, number)
        for index, channel in enumerate(channels):
            images = folder / ("imagesTr" if number < TRAINING else "imagesTs")
            save(images / f"scan_{number:02d}_{index:04d}.nii.gz", channel, spacing, number)
        if number < TRAINING:
            save(folder / "labelsTr" / f"scan_{number:02d}.nii.gz", mask, spacing, number)
    meaning = {"labels": {"background": 0, "organ": 1, "lesion": 2}, "channel_names": {"0": "CT"}}
    if not ct:
        meaning = {"labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2]}
        meaning["channel_names"] = {"0": "T1", "1": "T2"}
    content = {**meaning, "numTraining": TRAINING, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(content, indent=1))


def make_small(path, configuration, patch, masked):
    plans = json.loads(path.read_text())
    found = plans["configurations"][configuration]
    arguments = found["architecture"]["arch_kwargs"]
    for key in ("kernel_sizes", "strides", "n_conv_per_stage"):
        arguments[key] = arguments.get(key, [])[:3]
    if "n_blocks_per_stage" in arguments:
        del arguments["n_conv_per_stage"]
        arguments["n_blocks_per_stage"] = [1, 2, 1]
    if configuration == "3d_fullres" and not masked:
        arguments |= {"strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]], "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]]}
    arguments |= {"n_stages": 3, "features_per_stage": [4, 8, 12]}
    arguments["n_conv_per_stage_decoder"] = arguments["n_conv_per_stage_decoder"][:2]
    found |= {"patch_size": patch, "batch_size": 2, "use_mask_for_norm": [masked] * len(found["use_mask_for_norm"])}
    path.write_text(json.dumps(plans, indent=1))
    return plans


def run(*words):
    subprocess.run(list(map(str, words)), check=True)


def main():
    torch.set_num_threads(1)
    for number, (dataset, name) in enumerate(PLANS.items(), start=1):
        make_scans(RAW / dataset, ct=number == 1)
        planner = "nnUNetPlannerResEncM" if "ResEnc" in name else "ExperimentPlanner"
        run("nnUNetv2_extract_fingerprint", "-d", number, "-np", 1)
        run("nnUNetv2_plan_experiment", "-d", number, "-pl", planner)
        shutil.copytree(RAW / dataset / "imagesTs", FIXTURES / f"scans_{'ct' if number == 1 else 'mr'}")
    for folder, (dataset, configuration, patch, masked) in MODELS.items():
        number, name = int(dataset[7:10]), PLANS[dataset]
        plans = make_small(PREPARED / dataset / f"{name}.json", configuration, patch, masked)
        run("nnUNetv2_preprocess", "-d", number, "-plans_name", name, "-c", configuration, "-np", 1)
        described = json.loads((PREPARED / dataset / "dataset.json").read_text())
        plans = {**plans, "continue_training": False}
        trainer = nnUNetTrainer(plans, configuration, 0, described, device=torch.device("cpu"))
        trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 2, 60, 2
        trainer.run_training()
        made, out = RESULTS / dataset / f"nnUNetTrainer__{name}__{configuration}", FIXTURES / folder
        (out / "fold_0").mkdir(parents=True)
        for file in ("plans.json", "dataset.json", "fold_0/checkpoint_final.pth"):
            shutil.copy(made / file, out / file)
        options = ("-d", number, "-f", 0, "-c", configuration, "-p", name, "-device", "cpu", "-npp", 1, "-nps", 1)
        run("nnUNetv2_predict", "-i", RAW / dataset / "imagesTs", "-o", out / "expected", *options)
        for file in (out / "expected").glob("*.json"):
            file.unlink()


if __name__ == "__main__":
    main()
