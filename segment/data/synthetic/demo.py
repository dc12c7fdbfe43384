"""The demo set: synthetic brain scans from one public template, so that a first run needs no download or patient data.

Every scan is the MNI152 template with its tissue maps (from the nilearn wheel) under a random smooth deformation,
with random contrast, bias field, Rician noise and grid. The scans are written to an ordinary Medical Segmentation
Decathlon folder and read like any other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from segment.data.case import Dataset
from segment.data.layouts import open_dataset
from segment.data.synthetic.made import create_once
from segment.errors import UserError
from segment.io.template import brain_map

VERSION = 1
LABELS = {"background": 0, "csf_other": 1, "grey_matter": 2, "white_matter": 3}
NOTICE = (
    "The demo scans are random deformations of one template (MNI152), not patients: figures on them say nothing about "
    "clinical performance."
)
_BOX = (slice(22, 175), slice(23, 213), slice(0, 161))  # the brain in the template's voxels, with a margin
_CENTRE = np.array([0.0, -18.0, 4.0])  # middle of the brain in MNI mm
_EXTENT = np.array([138.0, 174.0, 148.0])  # its size in mm: left-right, back-front, down-up
_BLUR_MM = 0.9  # averaging by a voxel of 3-4 mm, as a Gaussian's standard deviation
# Fluid in sulci thinner than a voxel would rarely be the largest part, so it is weighted more.
_SULCI = np.array([2.5, 1.0, 1.0]).reshape(3, 1, 1, 1)
_ORIENTATIONS = ("RAS", "LPS", "LAS", "PIR", "RAS", "LPS", "ASL", "RPI")
# Half of the scans share a spacing: resampling between coarse grids would remove most thin fluid.
_SPACINGS = ((3.2, 3.2, 3.2), (3.0, 3.0, 3.5), (3.2, 3.2, 3.2), (3.5, 3.5, 3.5), (3.2, 3.2, 3.2), (3.0, 3.2, 3.2))
_LICENCE = """\
These scans are no patients' scans. They are random deformations, with random contrast, bias field and noise, of the
ICBM 152 nonlinear symmetric template (version 2009a) and its grey and white matter probability maps, taken from the
nilearn package. Made by segment.data.synthetic.demo, version {version}, seed {seed}, {scans} scans.

Licence of the template, which holds for these scans as well:

Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill
University. Permission to use, copy, modify, and distribute this software and its documentation for any purpose and
without fee is hereby granted, provided that the above copyright notice appear in all copies. The authors and McGill
University make no representations about the suitability of this software for any purpose. It is provided "as is"
without express or implied warranty. The authors are not responsible for any data loss, equipment damage, property loss,
or injury to subjects or patients resulting from the use or misuse of this software package.

Reference: V. S. Fonov, A. C. Evans, R. C. McKinstry, C. R. Almli, D. L. Collins. Unbiased nonlinear average
age-appropriate brain templates from birth to adulthood. NeuroImage 47, S102 (2009).
"""


def demo_dataset(root: str | Path = "data/demo", scans: int = 24, seed: int = 0, name: str = "demo") -> Dataset:
    """Open the demo set, creating it first if it does not exist (a few seconds).

    Scan ``i`` is a function of ``(seed, i)`` only. Scans differ in shape, spacing (3-4.5 mm) and orientation.

    Args:
        root: Folder of the data set.
        scans: Number of scans, at least 1.
        seed: Seed of the deformations.
        name: Name of the data set.

    Returns:
        The data set: channel ``T1``; labels background, csf_other (in the brain, neither grey nor white), grey_matter,
        white_matter.

    Raises:
        UserError: If the folder contains something else or a demo set with another seed or size, or the template is
            not installed.
    """
    path = Path(root).expanduser()
    if not 1 <= scans <= 10_000 or not 0 <= seed < 2**63:
        raise UserError(f"data.scans={scans}, data.seed={seed}: give 1 to 10000 scans and a seed of at least 0.")
    stamp = {"version": VERSION, "seed": seed, "scans": scans}
    create_once(path, "the demo set", "segment_demo", stamp, lambda folder: _write(folder, stamp))
    return replace(open_dataset(path, name=name, layout="msd"), notice=NOTICE)


def _write(folder: Path, stamp: dict[str, int]) -> dict[str, Any]:
    """Write the scans and the licence; returns the entries of dataset.json."""
    template = brain_template()
    listed = []
    for index in range(stamp["scans"]):
        name = f"demo_{index:03d}.nii.gz"
        image, mask, affine = make_scan(template, stamp["seed"], index)
        _save(folder / "imagesTr" / name, image, affine)
        _save(folder / "labelsTr" / name, mask, affine)
        listed.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    (folder / "LICENSE.txt").write_text(_LICENCE.format(**stamp), encoding="utf-8")
    return {
        "name": "demo",
        "description": NOTICE,
        "reference": "ICBM 152 nonlinear symmetric template 2009a, as carried in nilearn",
        "licence": "the template's own: free use with its copyright notice, see LICENSE.txt",
        "modality": {"0": "T1"},
        "labels": {str(value): label for label, value in LABELS.items()},
        "numTraining": len(listed),
        "numTest": 0,
        "training": listed,
        "test": [],
    }


def _save(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, code="scanner")
    image.set_sform(affine, code="scanner")
    nib.save(image, path)


@dataclass(frozen=True, eq=False)
class Template:
    """The template, cropped to the brain, float32 0..1, axes x, y, z.

    Attributes:
        maps: ``(4, x, y, z)``: T1 intensity, then the probabilities of brain, grey and white matter.
        affine: ``(4, 4)`` voxel to MNI mm.
    """

    maps: np.ndarray
    affine: np.ndarray


def brain_template() -> Template:
    """The template, cropped and smoothed as by scanning it."""
    maps: list[np.ndarray] = []
    affine = np.eye(4)
    for part in ("t1", "gm", "wm"):
        whole, placed = brain_map(part, "The demo set")
        maps.append(whole[_BOX].astype(np.float32) / 255)
        affine = placed @ nib.affines.from_matvec(np.eye(3), [axis.start for axis in _BOX])
    brain = ndimage.binary_fill_holes(maps[0] > 0).astype(np.float32)
    smooth = [ndimage.gaussian_filter(part, _BLUR_MM) for part in (maps[0], brain, maps[1], maps[2])]
    return Template(np.stack(smooth), affine)


def make_scan(template: Template, seed: int, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Generate one scan, as a function of seed and index only.

    Args:
        template: The template to deform.
        seed: Seed of the data set.
        index: Number of the scan.

    Returns:
        T1 image, int16; labels, uint8, values 0..3, of the same shape, axes x, y, z as in nibabel; the affine.
    """
    rng = np.random.Generator(np.random.Philox(key=[seed, index]))
    shape, affine = _grid(rng, index)
    voxels = np.stack(np.meshgrid(*[np.arange(size) for size in shape], indexing="ij")).reshape(3, -1)
    places = affine[:3, :3] @ voxels + affine[:3, 3:]
    sources = _deform(rng, places)
    inverse = np.linalg.inv(template.affine)
    sources = inverse[:3, :3] @ sources + inverse[:3, 3:]
    t1, brain, grey, white = (
        ndimage.map_coordinates(part, sources, order=1, mode="constant").reshape(shape) for part in template.maps
    )
    tissues = np.stack([np.clip(1 - grey - white, 0, 1), grey, white])
    largest = (tissues * _SULCI).argmax(axis=0) + 1
    mask = np.where(brain > 0.5, largest, 0).astype(np.uint8)
    tissues[0] *= brain
    return _appearance(rng, t1, tissues, places.reshape(3, *shape)), mask, affine


def _grid(rng: np.random.Generator, index: int) -> tuple[tuple[int, ...], np.ndarray]:
    """Draw a clinical grid around the brain: orientation, spacing, margins and a slight tilt."""
    codes = _ORIENTATIONS[index % len(_ORIENTATIONS)]
    spacing = np.array(_SPACINGS[rng.integers(len(_SPACINGS))])
    ornt = nib.orientations.axcodes2ornt(codes)
    turn = np.zeros((3, 3))
    for axis, (world, sign) in enumerate(ornt.astype(int)):
        turn[world, axis] = sign
    tilt = Rotation.from_rotvec(rng.uniform(-0.12, 0.12, 3)).as_matrix()
    extent = np.abs(turn.T @ (_EXTENT + rng.uniform(16, 28, 3)))
    shape = np.ceil(extent / spacing).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = tilt @ turn * spacing
    affine[:3, 3] = _CENTRE + rng.uniform(-3, 3, 3) - affine[:3, :3] @ ((shape - 1) / 2)
    return tuple(int(size) for size in shape), affine


def _deform(rng: np.random.Generator, places: np.ndarray) -> np.ndarray:
    """Map points in the scan, ``(3, n)`` mm, to the template: a small affine map and a smooth displacement."""
    turn = Rotation.from_rotvec(rng.uniform(-0.08, 0.08, 3)).as_matrix()
    scale = rng.uniform(0.97, 1.1, 3)
    centred = places - _CENTRE[:, None]
    moved = (turn * scale) @ centred
    for step, size in ((70.0, 3.2), (35.0, 1.2)):  # broad differences of shape, then finer ones; mm
        # Nodes spanning 280 mm cover every voxel of the widest grid.
        nodes = np.full(3, int(280 / step) + 3)
        knots = rng.normal(0, size, (3, *nodes))
        at = centred / step + (nodes[:, None] - 1) / 2
        moved = moved + np.stack([ndimage.map_coordinates(part, at, order=3, mode="nearest") for part in knots])
    return moved + _CENTRE[:, None]


def _appearance(rng: np.random.Generator, t1: np.ndarray, tissues: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Simulate the scanner: tissue contrast, gamma, bias field, Rician noise, gain; int16."""
    shift = rng.uniform([-0.12, -0.05, 0.0], [-0.02, 0.05, 0.06])  # keeps the brightness order of T1
    signal = np.clip(t1 / 0.9 + np.tensordot(shift, tissues, axes=1), 0, None) ** rng.uniform(0.9, 1.9)
    centred = (places - _CENTRE[:, None, None, None]) / 100
    first, second = rng.normal(0, 0.09, 3), rng.normal(0, 0.09, 3)
    bias = np.exp(np.tensordot(first, centred, axes=1) + np.tensordot(second, centred**2, axes=1))
    sigma = rng.uniform(0.01, 0.03)
    noise = rng.normal(0, sigma, (2, *t1.shape))
    noisy = np.hypot(signal * bias + noise[0], noise[1])
    return np.round(noisy * rng.uniform(250, 1200)).astype(np.int16)
