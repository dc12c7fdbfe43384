"""Tiny scans on disk, every one with voxels of its own, for tests of names and layouts."""

from __future__ import annotations

import zlib
from pathlib import Path

import nibabel as nib
import numpy as np


def put_scans(root: Path, *names: str) -> None:
    """Write images of noise that depends on the name."""
    for name in names:
        noise = np.random.default_rng(zlib.crc32(name.encode())).integers(0, 200, (4, 5, 3))
        _save(root / name, noise.astype(np.int16))


def put_masks(root: Path, *names: str, value: int = 1) -> None:
    """Write masks whose first half along x has the value."""
    mask = np.zeros((4, 5, 3), np.uint8)
    mask[:2] = value
    for name in names:
        _save(root / name, mask)


def _save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)
