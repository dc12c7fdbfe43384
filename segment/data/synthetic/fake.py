"""Large synthetic CT scans, to test how a program copes with hundreds of scans or with whole-body scans.

A scan is a body in air with a few bright, wobbly ellipsoids and noise. It is written slice by slice, so that a scan of
any size needs little memory, to an ordinary Medical Segmentation Decathlon folder.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np

from segment.data.case import Dataset
from segment.data.layouts import open_dataset
from segment.data.synthetic.made import create_once
from segment.errors import UserError

VERSION = 1
NOTICE = "The fake scans are drawn by a formula, not patients: figures on them say nothing about clinical performance."
_AIR, _BODY, _STEP = -1000, 0, 60  # HU; each structure is brighter than the one before
_NOISE = 15.0  # HU, standard deviation


def fake_dataset(
    root: str | Path,
    scans: int = 20,
    shape: Sequence[int] = (64, 64, 64),
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    labels: int = 3,
    seed: int = 0,
    compressed: bool = True,
    name: str = "fake",
) -> Dataset:
    """Open a fake data set, creating it first if it does not exist.

    Scan ``i`` is a function of ``(seed, i)``, its shape and the number of labels only.

    Args:
        root: Folder of the data set.
        scans: Number of scans.
        shape: Voxels of every scan, z y x.
        spacing: Voxel size in mm, z y x.
        labels: Number of structures besides the background, 1 to 100.
        seed: Seed of the scans.
        compressed: Whether to write ``.nii.gz``; else ``.nii``, which is faster and larger.
        name: Name of the data set.

    Returns:
        The data set: channel ``CT``; labels background, structure_1, ...

    Raises:
        UserError: If a value is invalid, or the folder contains something else or a fake data set with other settings.
    """
    path = Path(root).expanduser()
    stamp = {
        "version": VERSION,
        "seed": seed,
        "scans": scans,
        "shape": list(shape),
        "spacing": [float(mm) for mm in spacing],
        "labels": labels,
        "compressed": compressed,
    }
    _check(scans, shape, spacing, labels, seed)
    create_once(path, "the fake set", "segment_fake", stamp, lambda folder: _write(folder, stamp))
    return replace(open_dataset(path, name=name, layout="msd"), notice=NOTICE)


def _check(scans: int, shape: Sequence[int], spacing: Sequence[float], labels: int, seed: int) -> None:
    if not 1 <= scans <= 100_000 or not 0 <= seed < 2**63 or not 1 <= labels <= 100:
        raise UserError(
            f"data.scans={scans}, data.seed={seed}, data.labels={labels}: give 1 to 100000 scans, a seed of at least "
            "0, and 1 to 100 labels."
        )
    if len(shape) != 3 or not all(8 <= size <= 4096 for size in shape):
        raise UserError(f"data.shape={list(shape)}: give three numbers from 8 to 4096, in z y x order.")
    if len(spacing) != 3 or not all(0 < mm < 1000 for mm in spacing):
        raise UserError(f"data.spacing={list(spacing)}: give three numbers in mm, in z y x order.")


def _write(folder: Path, stamp: dict[str, Any]) -> dict[str, Any]:
    """Write the scans; returns the entries of dataset.json."""
    end = ".nii.gz" if stamp["compressed"] else ".nii"
    names = [f"fake_{index:04d}{end}" for index in range(stamp["scans"])]

    def write(index: int) -> None:
        with ExitStack() as files:
            image, mask = (
                files.enter_context(_nifti(folder / part / names[index], stamp["shape"], stamp["spacing"], kind))
                for part, kind in (("imagesTr", np.int16), ("labelsTr", np.uint8))
            )
            for slice_, labels in make_slices(stamp["seed"], index, stamp["shape"], stamp["labels"]):
                image.write(slice_.tobytes())
                mask.write(labels.tobytes())

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(write, range(stamp["scans"])):
            pass
    return {
        "name": "fake",
        "description": NOTICE,
        "licence": "none needed: no patient's data",
        "modality": {"0": "CT"},
        "labels": {"0": "background"} | {str(k): f"structure_{k}" for k in range(1, stamp["labels"] + 1)},
        "numTraining": len(names),
        "numTest": 0,
        "training": [{"image": f"./imagesTr/{file}", "label": f"./labelsTr/{file}"} for file in names],
        "test": [],
    }


@contextmanager
def _nifti(path: Path, shape: Sequence[int], spacing: Sequence[float], kind: type) -> Iterator[IO[bytes]]:
    """A file with its header written, ready for voxels in array order z, y, x, which is NIfTI's order (x fastest)."""
    header = nib.Nifti1Header()
    header.set_data_shape(shape[::-1])
    header.set_data_dtype(kind)
    header.set_xyzt_units("mm")
    affine = np.diag([*spacing[::-1], 1.0])
    header.set_qform(affine, code="scanner")
    header.set_sform(affine, code="scanner")
    header.set_slope_inter(1, 0)
    header["vox_offset"] = 352
    with path.open("wb") as raw, ExitStack() as stack:
        file: Any = raw
        if path.suffix == ".gz":
            # No timestamp in the file: the same scan gives the same bytes.
            file = stack.enter_context(gzip.GzipFile("", "wb", 1, raw, mtime=0))
        file.write(header.binaryblock + bytes(352 - len(header.binaryblock)))
        yield file


@dataclass(frozen=True)
class _Blob:
    """An ellipsoid with a wobbly surface, in voxels."""

    centre: np.ndarray
    radii: np.ndarray
    phases: np.ndarray

    def slice(self, z: int, shape: Sequence[int]) -> tuple[tuple[slice, slice], np.ndarray] | None:
        """Bounding box in slice z and the ellipsoid's pixels within it; None if the slice does not intersect it."""
        up = (z - self.centre[0]) / self.radii[0]
        if abs(up) > 1.25:
            return None
        box = [
            slice(max(0, math.floor(c - 1.25 * r)), min(size, math.ceil(c + 1.25 * r) + 1))
            for c, r, size in zip(self.centre[1:], self.radii[1:], shape[1:], strict=True)
        ]
        y, x = (
            (np.arange(part.start, part.stop, dtype=np.float32) - c) / r
            for part, c, r in zip(box, self.centre[1:], self.radii[1:], strict=True)
        )
        wobble = 0.15 * (np.sin(4 * y + self.phases[0])[:, None] + np.sin(4 * x + self.phases[1] + 2 * up))
        return (box[0], box[1]), up**2 + (y**2)[:, None] + x**2 < 1 + wobble


def make_slices(seed: int, index: int, shape: Sequence[int], labels: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Generate one scan slice by slice, as a function of the arguments only.

    Args:
        seed: Seed of the data set.
        index: Number of the scan.
        shape: Voxels, z y x.
        labels: Number of structures besides the background.

    Yields:
        Image, int16 HU, and labels, uint8, of each slice from the bottom: (y, x).
    """
    random = np.random.Generator(np.random.Philox(key=[seed, index]))
    size = np.array(shape, float)
    blobs = [
        _Blob(
            size * random.uniform(0.3, 0.7, 3),
            np.maximum(size * random.uniform(0.07, 0.17, 3), 1.5),
            random.uniform(0, 2 * np.pi, 2),
        )
        for _ in range(labels)
    ]
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape[1:])
    body = np.where((y / 0.9)[:, None] ** 2 + (x / 0.95) ** 2 < 1, np.float32(_BODY), np.float32(_AIR))
    body += random.uniform(-20, 20) * np.cos(3 * y)[:, None] * np.cos(2 * x)
    for z in range(shape[0]):
        mask = np.zeros(shape[1:], np.uint8)
        for value, blob in enumerate(blobs, start=1):
            found = blob.slice(z, shape)
            if found is not None:
                mask[found[0]][found[1]] = value
        image = random.standard_normal(tuple(shape[1:]), dtype=np.float32)
        image *= _NOISE
        image += body
        inside = mask > 0
        image[inside] += mask[inside] * np.float32(_STEP)
        yield np.rint(image).astype(np.int16), mask
