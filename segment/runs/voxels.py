"""Reads image, reference and prediction of one scan of a run from the files named in its provenance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segment.data.labels import IGNORE, Labels
from segment.errors import UserError
from segment.io.formats import is_image_file, stem
from segment.io.geometry import Grid, canonical_grid, to_canonical
from segment.io.images import Image, read_header, read_image, read_label
from segment.runs.folder import RunFolder
from segment.runs.scans import TEST


@dataclass(frozen=True, eq=False)
class ScanVoxels:
    """Image and masks of one scan in canonical axes (z inferior to superior, y posterior to anterior, x left to right).

    Attributes:
        image: float32 ``(C, z, y, x)`` or ``(C, y, x)``; zeros if only the masks of the scan are known.
        reference: Class indices ``(z, y, x)`` or ``(y, x)``; unannotated voxels count as background.
        prediction: Class indices of the same shape.
        grid: Grid of these voxels.
        n_classes: Number of classes, background included.
        oriented: Whether the scan's file says which side is left.
    """

    image: np.ndarray
    reference: np.ndarray
    prediction: np.ndarray
    grid: Grid
    n_classes: int
    oriented: bool = True


def read_voxels(run: RunFolder, case: str, split: str | None = None) -> ScanVoxels:
    """Read image, reference and prediction of one scan.

    Args:
        run: A finished run or an evaluation; its provenance lists source files of scans under ``cases`` or
            ``test_cases`` and label values under ``labels``; predictions are listed there too, or are in
            ``predictions/``, those of test scans in ``predictions/test/``.
        case: Id of the scan.
        split: Its split; only ``test`` makes a difference.

    Returns:
        Its voxels in canonical axes.

    Raises:
        UserError: A file is not listed, is missing, cannot be read or is not on the grid of the others.
        ValueError: A mask contains a value that is not a label.
    """
    masks_folder, listed = run.path / "predictions", "cases"
    if split == TEST and "test_cases" in run.provenance:
        masks_folder, listed = masks_folder / TEST, "test_cases"
    cases = run.provenance.get(listed)
    sources = cases.get(case) if isinstance(cases, dict) else None
    images, label = (sources.get("images"), sources.get("label")) if isinstance(sources, dict) else (None, None)
    files = [file for file in images if isinstance(file, str)] if isinstance(images, list) else []
    if not isinstance(images, list) or not isinstance(label, str):
        raise UserError("provenance.json does not list its image and label files.")
    labels = _labels(run)
    image = read_image([Path(file) for file in files]) if files else None
    reference = read_label(Path(label), image.grid if image else None)
    image = image or Image(np.zeros((1, *reference.array.shape), np.float32), reference.grid)
    mask = sources.get("prediction") if isinstance(sources, dict) else None
    file = Path(mask) if isinstance(mask, str) else _prediction(masks_folder, case)
    prediction = read_label(file, reference.grid)
    if not image.array.shape[1:] == reference.array.shape == prediction.array.shape:
        raise UserError("its image, reference and prediction differ in shape.")
    masks = [
        to_canonical(_without_ignored(labels.encode(mask.array)), reference.grid) for mask in (reference, prediction)
    ]
    oriented = reference.array.ndim == 3 and read_header(Path(files[0] if files else label)).oriented
    anatomical = to_canonical(image.array, image.grid)
    return ScanVoxels(anatomical, masks[0], masks[1], canonical_grid(image.grid), len(labels), oriented)


def _labels(run: RunFolder) -> Labels:
    """The labels of a run, from its provenance."""
    try:
        return Labels(run.provenance["labels"], run.provenance.get("region_order"))
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise UserError(f"provenance.json does not contain valid labels ({error}).") from error


def _without_ignored(classes: np.ndarray) -> np.ndarray:
    """Class indices with unannotated voxels set to background."""
    return np.where(classes == IGNORE, 0, classes)


def _prediction(folder: Path, case: str) -> Path:
    """The mask of a scan, found by name among the files of the folder, so that an id cannot point outside it."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    for file in files:
        if is_image_file(file) and stem(file) == case:
            return file
    raise UserError(f"{folder} contains no prediction of it.")
