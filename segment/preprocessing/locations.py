"""Positions of foreground voxels of a prepared scan, from which patches are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from segment.data.labels import IGNORE

MAX_LOCATIONS = 10_000
ANNOTATED = 0  # key of the positions of annotated voxels of any class


class Locations(Mapping[int, np.ndarray]):
    """For each foreground class that occurs: (n, spatial axes) int32 voxel positions, memory-mapped on access.

    Args:
        path: The file.
        rows: First and last row (exclusive) of each class.
    """

    def __init__(self, path: Path, rows: Mapping[int, tuple[int, int]]) -> None:
        self.path = path
        self.rows = rows

    def __getitem__(self, index: int) -> np.ndarray:
        start, stop = self.rows[index]
        return np.load(self.path, mmap_mode="r", allow_pickle=False)[start:stop]

    def __iter__(self) -> Iterator[int]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def find_locations(reference: np.ndarray, n_classes: int, key: str) -> dict[int, np.ndarray]:
    """Sample up to 10,000 voxel positions per foreground class, and of annotated voxels if some are not.

    Args:
        reference: (*spatial) uint8 class indices; `IGNORE` is not a class.
        n_classes: Number of classes, background included.
        key: Seed of the random sample; the same for the same scan.

    Returns:
        Class index or `ANNOTATED` to (n, spatial axes) int32, for those that occur.
    """
    random = np.random.default_rng(int.from_bytes(key.encode()[-8:], "big"))
    flat = np.flatnonzero((reference != 0) & (reference != IGNORE))
    classes = reference.reshape(-1)[flat]
    chosen = {index: flat[classes == index] for index in range(1, n_classes)}
    if (reference == IGNORE).any():
        chosen[ANNOTATED] = np.flatnonzero(reference != IGNORE)
    found = {}
    for index, voxels in chosen.items():
        if voxels.size > MAX_LOCATIONS:
            voxels = np.sort(random.choice(voxels, MAX_LOCATIONS, replace=False))
        if voxels.size:
            found[index] = np.stack(np.unravel_index(voxels, reference.shape), axis=1).astype(np.int32)
    return found
