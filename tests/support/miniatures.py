"""Miniatures of the data sets in conf/data that must be downloaded: the same files and folders, synthetic content."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
import yaml
from PIL import Image

CONF = Path(__file__).parents[2] / "conf" / "data"
MADE = ("auto", "demo", "fake")  # what needs no data, or any
NEEDED = sorted(file.stem for file in CONF.glob("*.yaml") if file.stem not in MADE)
FLAT = ("asu_mayo_polyp", "chase_db1", "dic_hela", "drive", "dsb2018", "isbi2012_em", "phc_u373", "stare")
# Channels and labels in the dataset.json of the download.
DECATHLON = {
    "brain_tumour": (4, 3),
    "heart": (1, 1),
    "hippocampus": (1, 2),
    "liver": (1, 2),
    "prostate": (2, 2),
    "lung": (1, 1),
    "pancreas": (1, 2),
    "hepatic_vessel": (1, 2),
    "spleen": (1, 1),
    "colon": (1, 1),
}
CASES = {
    "btcv": ("0001", "0002", "0003"),
    "acdc": tuple(f"patient00{n}_frame{frame}" for n in (1, 2, 3) for frame in ("01", "12")),
    "lits": ("0", "2", "10"),
    "lits_liver": ("0", "2", "10"),
    "brats2018": ("Brats18_A_1", "Brats18_B_1", "Brats18_C_1"),
    "brats2021": ("BraTS2021_00000", "BraTS2021_00002", "BraTS2021_00003"),
    "kits": ("case_00000", "case_00001", "case_00002"),
    "amos": ("amos_0001", "amos_0004", "amos_0008"),
    "promise12": ("Case00", "Case01", "Case02"),
    "drive": ("01_test", "21_training", "22_training"),
    "chase_db1": ("Image_01L", "Image_01R", "Image_02L"),
    "spleen": ("spleen_2", "spleen_3", "spleen_10"),
    "prostate": ("prostate_00", "prostate_01", "prostate_02"),
}
# Files that lie beside the scans in the download and are no scans to train on.
BESIDE = {
    "acdc": ["patient001/patient001_4d.nii.gz"],
    "kits": ["case_00009/imaging.nii.gz"],
    "amos": ["imagesTs/amos_0050.nii.gz"],
}


def options(name: str) -> dict[str, Any]:
    """What conf/data/NAME.yaml says to `open_dataset`."""
    content = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    content.pop("_target_")
    return content


def write(
    name: str, root: Path, shape: Sequence[int] | None = None, spacing: Sequence[float] = (2.0, 1.0, 1.0)
) -> Path:
    """Write the miniature of a data set.

    Args:
        name: Of conf/data.
        root: Folder to write it to.
        shape: Voxels; None for a few.
        spacing: mm, z y x, of 3D scans.

    Returns:
        ``root``.
    """
    shape = shape or ((24, 24) if name in FLAT else (10, 12, 16))
    given = options(name)
    channels, values = _contents(name, given)
    rows = list(_files(name, given, len(channels)))
    for number, (images, label) in enumerate(rows):
        image, mask = _scan(shape, len(channels), values, number)
        parts = [image] if len(images) == 1 else list(image[:, np.newaxis])
        for file, part in zip(images, parts, strict=True):
            _save(root / file, part, spacing)
        _save(root / label, mask[np.newaxis], spacing)
    for number, file in enumerate(BESIDE.get(name, [])):
        image, _ = _scan(shape, len(channels), values, 50 + number)
        _save(root / file, image[:1], spacing)
    if given["layout"] == "msd":
        (root / "dataset.json").write_text(json.dumps(_described(rows, len(channels), values)))
    return root


def _contents(name: str, given: Mapping[str, Any]) -> tuple[list[str], list[int]]:
    """Channels, and the values in a mask with the background first."""
    if name in DECATHLON:
        channels, labels = DECATHLON[name]
        return [f"channel_{number}" for number in range(channels)], list(range(labels + 1))
    labels = given["labels"]
    background = labels["background"]
    several = {v for value in labels.values() for v in (value if isinstance(value, list) else [value])}
    return given["channels"], [background, *sorted(several - {background})]


def _files(name: str, given: Mapping[str, Any], channels: int) -> Iterator[tuple[list[str], str]]:
    """Image files and the mask of each case."""
    layout = given["layout"]
    for number, case in enumerate(CASES.get(name, ("a", "b", "c"))):
        if layout == "pattern":
            templates = [given["image"]] if isinstance(given["image"], str) else given["image"]
            yield [_filled(text, case, number) for text in templates], _filled(given["label"], case, number)
        elif layout == "patients":
            yield [f"{case}/{case}_{channel}.nii.gz" for channel in given["channels"]], f"{case}/{case}_seg.nii.gz"
        elif layout == "msd":
            yield [f"imagesTr/{case}.nii.gz"], f"labelsTr/{case}.nii.gz"
        else:
            end = ".png" if name in FLAT else ".tif" if name == "xenopus_kidney" else ".nii.gz"
            several = channels > 1 and end != ".png"
            images = [f"images/{case}_{n:04d}{end}" for n in range(channels)] if several else [f"images/{case}{end}"]
            yield images, f"labels/{case}{end}"


def _filled(template: str, case: str, number: int) -> str:
    """A template with its fields filled in; ``*`` is what the download has there."""
    for field in ("{case:*_frame??}", "{case:Case??}", "{case}"):
        template = template.replace(field, case)
    template = template.replace("{group}", case.partition("_")[0])
    if template.startswith("*/"):
        template = ("HGG", "HGG", "LGG")[number] + template[1:]
    return template.replace("images*", ("imagesTr", "imagesTr", "imagesVa")[number % 3]).replace(
        "labels*", ("labelsTr", "labelsTr", "labelsVa")[number % 3]
    )


def _scan(shape: Sequence[int], channels: int, values: Sequence[int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Slabs along the last axis, one per value, increasingly bright; (channels, *shape) int16 and the mask."""
    random = np.random.default_rng(seed)
    index = np.broadcast_to(np.arange(shape[-1]) * len(values) // shape[-1], shape)
    image = index * 20 + 10 + random.integers(0, 9, (channels, *shape))
    return image.astype(np.int16), np.asarray(values)[index].astype(np.uint8)


def _save(path: Path, array: np.ndarray, spacing: Sequence[float]) -> None:
    """Write (channel, *shape) in the format that the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(
            array[0].astype(np.uint8) if len(array) == 1 else np.moveaxis(array, 0, -1).astype(np.uint8)
        ).save(path)
    elif path.suffix in (".mha", ".tif"):
        image = sitk.GetImageFromArray(array[0].astype(np.uint8))
        image.SetSpacing(spacing[::-1])
        sitk.WriteImage(image, str(path))
    else:
        voxels = array[0].T if len(array) == 1 else np.moveaxis(array, 0, -1).transpose(2, 1, 0, 3)
        image = nib.Nifti1Image(voxels, np.diag([*spacing[::-1], 1.0]))
        image.header.set_xyzt_units("mm")
        nib.save(image, path)


def _described(rows: Sequence[tuple[list[str], str]], channels: int, values: Sequence[int]) -> dict[str, Any]:
    return {
        "modality": {str(number): f"channel_{number}" for number in range(channels)},
        "labels": {str(value): f"label_{value}" if value else "background" for value in values},
        "training": [{"image": f"./{images[0]}", "label": f"./{label}"} for images, label in rows],
        "test": [],
    }
