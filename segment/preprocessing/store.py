"""Prepared scans on disk, keyed by the content they were made from, so that nothing is done twice or used stale."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segment.data.case import Case, Dataset
from segment.data.geometry import grid_difference
from segment.data.images import read_image, read_label
from segment.errors import UserError
from segment.preprocessing.plan import Plan
from segment.preprocessing.prepare import prepare_image, prepare_reference

FORMAT = 1
MAX_LOCATIONS = 10_000


@dataclass(frozen=True)
class Prepared:
    """One prepared scan; the arrays are mapped from disk, reading a patch costs the patch.

    Attributes:
        image: (channel, *spatial) float32.
        reference: (*spatial) uint8 class indices.
        locations: For each foreground class that occurs: (n, spatial axes) voxel positions, at most 10,000.
    """

    image: np.ndarray
    reference: np.ndarray
    locations: Mapping[int, np.ndarray]


class Store:
    """Prepared scans of one data set under one plan.

    Args:
        folder: Where prepared scans of all data sets lie.
        dataset: The data set; its labels are part of the key.
        plan: How scans are prepared.
        hashes: SHA-256 of every image and label file, by path.
    """

    def __init__(self, folder: Path, dataset: Dataset, plan: Plan, hashes: Mapping[str, str]) -> None:
        self.folder = folder
        self.dataset = dataset
        self.plan = plan
        self.hashes = hashes

    def path(self, case: Case) -> Path:
        """Folder of a prepared scan: a function of the files' bytes and of how they are prepared."""
        files = [*case.images, *([case.label] if case.label else [])]
        recipe = {
            "format": FORMAT,
            "files": [self.hashes[str(file)] for file in files],
            "spacing": self.plan.spacing,
            "normalization": self.plan.normalization,
            "labels": dict(self.dataset.labels),
        }
        return self.folder / hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:32]

    def prepare(self, cases: Sequence[Case], progress: Callable[[int], None] = lambda done: None) -> None:
        """Prepare the scans that are not there yet, on all cores; a killed preparation goes on where it stopped.

        Args:
            cases: Scans to prepare.
            progress: Called with the number of scans done, after each.

        Raises:
            UserError: When a file cannot be read or image and label do not fit together, naming both.
        """
        missing = [case for case in cases if not self.path(case).exists()]
        done = len(cases) - len(missing)
        progress(done)
        with ThreadPoolExecutor() as pool:
            try:
                for _ in pool.map(self._prepare, missing):
                    done += 1
                    progress(done)
            except UserError:
                pool.shutdown(cancel_futures=True)
                raise

    def _prepare(self, case: Case) -> None:
        image = read_image(case.images)
        if image.array.shape[0] != len(self.dataset.channels):
            raise UserError(
                f"{case.images[0]}: {image.array.shape[0]} channels, but data set {self.dataset.name!r} has "
                f"{len(self.dataset.channels)} ({', '.join(self.dataset.channels)}). Mend the file or data.channels."
            )
        prepared = {"image": prepare_image(image, self.plan)}
        if case.label is not None:
            label = read_label(case.label)
            difference = grid_difference(image.grid, label.grid)
            if difference:
                raise UserError(
                    f"{case.label}: its grid is not that of its image {case.images[0]}: {difference}. "
                    "Resample the mask onto the image's grid."
                )
            try:
                classes = self.dataset.labels.encode(label.array)
            except ValueError as error:
                raise UserError(f"{case.label}: {error}") from error
            reference = prepare_reference(classes, label.grid, self.plan, len(self.dataset.labels))
            prepared |= {
                "reference": reference,
                **find_locations(reference, len(self.dataset.labels), self.path(case).name),
            }
        self.folder.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=self.folder, prefix=".partial-"))
        try:
            for name, array in prepared.items():
                np.save(aside / f"{name}.npy", array)
            try:
                aside.rename(self.path(case))
            except OSError:
                # Another process prepared the same bytes meanwhile.
                if not self.path(case).exists():
                    raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def load(self, case: Case) -> Prepared:
        """Map a prepared scan from disk."""
        folder = self.path(case)
        names = range(1, len(self.dataset.labels))
        return Prepared(
            image=np.load(folder / "image.npy", mmap_mode="r"),
            reference=np.load(folder / "reference.npy", mmap_mode="r"),
            locations={i: np.load(f, mmap_mode="r") for i in names if (f := folder / f"locations_{i}.npy").exists()},
        )


def find_locations(reference: np.ndarray, n_classes: int, key: str) -> dict[str, np.ndarray]:
    """Positions of each foreground class's voxels, thinned to a fixed random 10,000.

    Returns:
        ``locations_CLASS`` to (n, spatial axes) int32, for the classes that occur.
    """
    found = {}
    random = np.random.default_rng(int.from_bytes(key.encode()[-8:], "big"))
    for index in range(1, n_classes):
        flat = np.flatnonzero(reference == index)
        if flat.size > MAX_LOCATIONS:
            flat = np.sort(random.choice(flat, MAX_LOCATIONS, replace=False))
        if flat.size:
            found[f"locations_{index}"] = np.stack(np.unravel_index(flat, reference.shape), axis=1).astype(np.int32)
    return found
