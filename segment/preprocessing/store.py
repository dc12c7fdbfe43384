"""Cache of prepared scans on disk, keyed by their input, so that work is not repeated and no stale result is used.

One folder per scan: ``image.b2nd`` and ``reference.b2nd`` (Blosc2 arrays of small compressed blocks, so that the cost
of reading a patch is independent of the scan's size), ``locations.npy``, and ``entry.txt`` with sizes and checksums;
for the second stage of a cascade also ``previous.b2nd``, the first stage's mask.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segment.data.case import Case, Dataset
from segment.errors import UserError
from segment.files import partial_folder, remove_leftovers, write_text
from segment.io.formats import version_of
from segment.io.geometry import Grid, grid_difference
from segment.io.images import Image, read_grid, read_image, read_label
from segment.memory import available_memory
from segment.parallel import Room, cores, with_others
from segment.preprocessing.chunks import Chunked, checksum, rounded, write_chunked
from segment.preprocessing.forecast import most_bytes, require_disk
from segment.preprocessing.locations import Locations, find_locations
from segment.preprocessing.plan import Plan
from segment.preprocessing.prepare import (
    Placement,
    preparation_bytes,
    prepare_image,
    prepare_reference,
    require_preparable,
)
from segment.remembered import state_of

FORMAT = 3
EXACT = "float32"  # the type in which scans are prepared
VERIFIED = ".verified"  # folder of notes on entries whose bytes were compared with their checksums


@dataclass(frozen=True)
class Prepared:
    """One prepared scan, read lazily: slicing reads only the slice.

    Attributes:
        image: (channel, *spatial) float32.
        reference: (*spatial) uint8 class indices, 255 where unannotated; None for a scan without a label.
        locations: For each foreground class that occurs: (n, spatial axes) int32 voxel positions, at most 10,000; if
            some voxels are unannotated, also under `segment.preprocessing.locations.ANNOTATED` those of annotated ones
            of any class.
        placement: Origin of the scan.
        previous: (*spatial) uint8 class indices, the mask of a cascade's first stage; None in other stages.
    """

    image: Chunked
    reference: Chunked | None
    locations: Mapping[int, np.ndarray]
    placement: Placement
    previous: Chunked | None = None

    def whole(self) -> np.ndarray:
        """The image (channel, *spatial) float32; in a second stage, the first one's mask is the last channel."""
        return self.with_previous(self.image[...])

    def with_previous(self, image: np.ndarray) -> np.ndarray:
        """An image (channel, *spatial) float32 of this scan, in a second stage with the first one's mask."""
        if self.previous is None:
            return image
        return np.concatenate([image, self.previous[...][None].astype(np.float32)])


class Store:
    """Prepared scans of one data set under one plan.

    Args:
        folder: Folder of prepared scans of all data sets.
        dataset: The data set; its labels are part of the key.
        plan: How scans are prepared.
        hashes: SHA-256 of every image and label file, by path.
        previous: File and SHA-256 of each scan's mask by a cascade's first stage, by case id.
        dtype: How intensities are stored, ``float32`` or ``float16``, which rounds them and takes half the disk; part
            of the key.
    """

    def __init__(
        self,
        folder: Path,
        dataset: Dataset,
        plan: Plan,
        hashes: Mapping[str, str],
        previous: Mapping[str, tuple[Path, str]] | None = None,
        dtype: str = EXACT,
    ) -> None:
        self.folder = folder
        self.dataset = dataset
        self.plan = plan
        self.hashes = hashes
        self.previous = previous or {}
        self.dtype = np.dtype(dtype)

    def path(self, case: Case) -> Path:
        """Folder of a prepared scan: a function of the files' bytes and of how they are prepared."""
        plan = self.plan
        recipe: dict[str, Any] = {
            "format": FORMAT,
            "files": [self.hashes[str(file)] for file in case.files],
            "label": case.label is not None,
            "spacing": plan.spacing,
            "normalization": plan.normalization,
            "transpose": plan.transpose,
            "intensities": [
                asdict(channel)
                for name, channel in zip(plan.normalization, plan.intensities, strict=False)
                if name == "ct"
            ],
            "labels": dict(self.dataset.labels),
            "ignore": self.dataset.labels.ignore,
        }
        if any(readers := [version_of(file) for file in case.files]):
            recipe["readers"] = readers
        if self.dtype != EXACT:
            recipe["dtype"] = self.dtype.name
        if case.id in self.previous:
            recipe["previous"] = self.previous[case.id][1]
        return self.folder / hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:32]

    def prepare(self, cases: Sequence[Case], progress: Callable[[int], None] = lambda done: None) -> None:
        """Prepare missing or damaged scans on all cores; an interrupted preparation resumes where it stopped.

        The checksums of those that are there are compared, so a run trains on what was once prepared. An entry whose
        files nobody has changed since is not read again. Several processes that prepare the same scans share them.

        Args:
            cases: Scans to prepare.
            progress: Called after each scan with the number of scans done.

        Raises:
            UserError: If a file cannot be read or image and label do not match, naming both, or if the disk will not
                hold all scans.
        """
        remove_leftovers(self.folder)
        entries = {self.path(case): case for case in cases}
        with ThreadPoolExecutor(cores()) as pool:
            intact = pool.map(self._is_intact, entries)
            missing = [case for case, found in zip(entries.values(), intact, strict=True) if not found]
        done = len(cases) - len(missing)
        progress(done)
        room = Room(available_memory() // 2)  # a larger scan is prepared alone

        def prepare(case: Case) -> None:
            if self._is_intact(self.path(case)):  # another process has prepared it meanwhile
                return
            grid, channels = read_grid(case.images[0]), len(self.dataset.channels)
            with room.taken(preparation_bytes(grid, channels, self.plan)):
                self._prepare(case)

        most = {case.id: self._most_bytes(case) for case in missing}
        left, written = sum(most.values()), list[tuple[int, int]]()
        for case, _ in with_others(prepare, missing, self._lock):
            left -= most[case.id]
            written.append((self.size([case]), most[case.id]))
            require_disk(self.folder, left, written)
            done += 1
            progress(done)
        for case in missing:
            self._note(self.path(case))

    def size(self, cases: Sequence[Case]) -> int:
        """Bytes that prepared scans take on disk."""
        return sum(file.stat().st_size for folder in {*map(self.path, cases)} for file in folder.iterdir())

    def error(self, cases: Sequence[Case]) -> float:
        """Largest absolute error of the stored intensities of prepared scans, in units of normalised intensity."""
        return max(((_entry(self.path(case)) or {}).get("error", 0.0) for case in cases), default=0.0)

    def _most_bytes(self, case: Case) -> int:
        masks = (case.label is not None) + (case.id in self.previous)
        return most_bytes(read_grid(case.images[0]), len(self.dataset.channels), masks, self.plan, self.dtype.itemsize)

    def _lock(self, case: Case) -> Path:
        return self.folder / f".lock-{self.path(case).name}"

    def _is_intact(self, folder: Path) -> bool:
        """Whether an entry is complete and its files have the bytes that were written; reads them unless noted."""
        entry = _entry(folder)
        if entry is None:
            return False
        with contextlib.suppress(OSError):
            state = state_of([folder / name for name in entry["files"]])
            if state is not None and (self.folder / VERIFIED / folder.name).read_text(encoding="utf-8") == state:
                return True
        began = time.time()
        if not _has_checksums(folder, entry):
            return False
        self._note(folder, began)
        return True

    def _note(self, folder: Path, read: float | None = None) -> None:
        """Note that an entry's files have the bytes that were written, as of a time in seconds; None: now."""
        entry = _entry(folder)
        with contextlib.suppress(OSError):  # a store that this user may only read is read again each time
            state = entry and state_of([folder / name for name in entry["files"]], read)
            if state:
                write_text(self.folder / VERIFIED / folder.name, state)

    def _prepare(self, case: Case) -> None:
        """Create one entry in a temporary folder and move it into place."""
        grid, channels = read_grid(case.images[0]), len(self.dataset.channels)
        require_preparable(grid, channels, self.plan, str(case.images[0]))
        target = self.path(case)
        with partial_folder(self.folder) as temporary:
            self._write(case, temporary)
            temporary.chmod(0o755)  # a temporary folder is private
            if target.exists() and not self._is_intact(target):
                shutil.rmtree(target, ignore_errors=True)
            try:
                temporary.rename(target)
            except OSError:
                # Another process prepared the same scan meanwhile.
                if _entry(target) is None:
                    raise

    def _write(self, case: Case, folder: Path) -> None:
        image = self._read(case)
        try:
            prepared, placement = prepare_image(image, self.plan)
        except ValueError as error:
            raise UserError(f"{case.images[0]}: {error}. Choose another plan.normalization.") from error
        grid = image.grid
        del image  # frees the memory of a whole scan
        stored, off = self._rounded(case, prepared)
        write_chunked(folder / "image.b2nd", stored, self.plan.patch_size)
        entry: dict[str, Any] = {
            "error": off,
            "grid": {"shape": grid.shape, "affine": grid.affine.tolist()},
            "box": placement.box,
            "image": prepared.shape,
        }
        del prepared, stored
        if case.label is not None:
            reference = prepare_reference(self._classes(case, case.label, grid), placement, self.plan)
            write_chunked(folder / "reference.b2nd", reference, self.plan.patch_size)
            found = find_locations(reference, len(self.dataset.labels), self.path(case).name)
            rows = np.cumsum([0, *(len(voxels) for voxels in found.values())]).tolist()
            entry["locations"] = {str(key): rows[i : i + 2] for i, key in enumerate(found)}
            np.save(
                folder / "locations.npy", np.concatenate([np.zeros((0, reference.ndim), np.int32), *found.values()])
            )
        if case.id in self.previous:
            mask = self._classes(case, self.previous[case.id][0], grid)
            write_chunked(folder / "previous.b2nd", prepare_reference(mask, placement, self.plan), self.plan.patch_size)
        entry["files"] = {
            file.name: [(status := file.stat()).st_size, status.st_mtime_ns, checksum(file)]
            for file in folder.iterdir()
        }
        text = json.dumps(entry)
        (folder / "entry.txt").write_text(f"{zlib.crc32(text.encode())}\n{text}", encoding="utf-8")

    def _rounded(self, case: Case, image: np.ndarray) -> tuple[np.ndarray, float]:
        """A prepared image in the type in which it is stored, and the largest error that this makes."""
        if self.dtype == EXACT:
            return image, 0.0
        try:
            return rounded(image, self.dtype)
        except OverflowError as error:
            raise UserError(
                f"{case.images[0]}: its normalised intensities are {error}. Give cache_dtype={EXACT}, or another "
                "plan.normalization."
            ) from error

    def _read(self, case: Case) -> Image:
        image = read_image(case.images)
        if image.array.shape[0] != len(self.dataset.channels):
            raise UserError(
                f"{case.images[0]}: {image.array.shape[0]} channels, but data set {self.dataset.name!r} has "
                f"{len(self.dataset.channels)} ({', '.join(self.dataset.channels)}). Fix the file or data.channels."
            )
        return image

    def _classes(self, case: Case, file: Path, grid: Grid) -> np.ndarray:
        """Class indices of a mask of a case, which must have the grid of its image."""
        label = read_label(file, grid)
        difference = grid_difference(grid, label.grid)
        if difference:
            raise UserError(
                f"{file}: its grid differs from that of its image {case.images[0]}: {difference}. "
                "Resample the mask to the image's grid."
            )
        try:
            return self.dataset.labels.encode(label.array)
        except ValueError as error:
            raise UserError(f"{file}: {error}") from error

    def load(self, case: Case) -> Prepared:
        """Open a prepared scan without reading its voxels; a damaged or missing one is prepared again.

        Raises:
            UserError: If it must be prepared again and a file cannot be read.
        """
        folder = self.path(case)
        entry = _entry(folder)
        if entry is None:
            self._prepare(case)
            entry = _entry(folder)
            assert entry is not None
        shape = tuple(entry["image"])
        grid = Grid(tuple(entry["grid"]["shape"]), np.array(entry["grid"]["affine"]))
        labelled = "locations" in entry
        rows = {int(key): (start, stop) for key, (start, stop) in entry.get("locations", {}).items()}
        return Prepared(
            image=Chunked(folder / "image.b2nd", shape, np.float32, self.dtype),
            reference=Chunked(folder / "reference.b2nd", shape[1:], np.uint8) if labelled else None,
            locations=Locations(folder / "locations.npy", rows),
            placement=Placement(grid, tuple((start, stop) for start, stop in entry["box"])),
            previous=Chunked(folder / "previous.b2nd", shape[1:], np.uint8) if case.id in self.previous else None,
        )

    def whole(self, case: Case) -> tuple[np.ndarray, Placement]:
        """The image as of `Prepared.whole`, without the error of what is stored, and the scan's placement.

        An image that is stored with one is prepared again.
        """
        scan = self.load(case)
        if self.dtype == EXACT:
            return scan.whole(), scan.placement
        image, placement = prepare_image(self._read(case), self.plan)
        return scan.with_previous(image), placement


def _has_checksums(folder: Path, entry: Mapping[str, Any]) -> bool:
    """Whether the files of an entry have the bytes that were written, which takes reading them."""
    try:
        return all(checksum(folder / name) == crc for name, (_, _, crc) in entry["files"].items())
    except OSError:
        return False


def _entry(folder: Path) -> dict[str, Any] | None:
    """The content of entry.txt; None if it or a file listed in it is missing or was changed."""
    try:
        sum_, text = (folder / "entry.txt").read_bytes().split(b"\n")
        if int(sum_) != zlib.crc32(text):
            return None
        entry: dict[str, Any] = json.loads(text)
        for name, (size, written, crc) in entry["files"].items():
            status = (folder / name).stat()
            if status.st_size != size:
                return None
            if status.st_mtime_ns != written:
                if checksum(folder / name) != crc:
                    return None
                os.utime(folder / name, ns=(written, written))  # a valid copy: skip its checksum next time
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return entry
