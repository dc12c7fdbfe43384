"""One folder per scan with its images, and in it a folder with one mask per structure, as in TotalSegmentator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from segment.arrays import smallest_type
from segment.data.case import Case, Dataset
from segment.data.labels import MAX_LABELS, Labels
from segment.data.layouts.common import PARTS, by_stem, checked, image_files, named_channels, stated_fold
from segment.data.layouts.made import Recipe, make_masks
from segment.data.layouts.patients import patient_folders, picked
from segment.data.layouts.table import only_csv, read_rows
from segment.data.problems import WARNING, Problem, Report, raise_errors, reported
from segment.errors import UserError
from segment.io.geometry import Grid, grid_difference
from segment.io.images import read_grid, read_label

LOOKED_FOR = (
    "one folder per scan with its images and a folder segmentations/ of one mask per structure (TotalSegmentator)"
)
_FOLDER = "segmentations"
_IDS = ("image_id", "id", "case")


def recognise(root: Path) -> bool:
    """Whether a folder contains scans with one mask per structure.

    Args:
        root: A folder or file.

    Returns:
        True if any folder in it has an image, and an image in its folder ``segmentations``.
    """
    return any(image_files(folder) and image_files(folder / _FOLDER) for folder in patient_folders(root))


def read(
    root: Path,
    name: str,
    labels: Labels | None,
    channels: Sequence[str] | None,
    report: Report = raise_errors,
    cache: Path | None = None,
) -> Dataset:
    """Read one case from every folder, and merge its masks into one.

    ``s0011/ct.nii.gz`` with ``s0011/segmentations/liver.nii.gz``, ... is the case ``s0011``. A table such as
    ``meta.csv`` beside the folders, with a column ``image_id``, may say in its column ``split`` which scans are for
    validation and test; its other columns describe the scans.

    Args:
        root: The folder that contains the scans' folders.
        name: Name to give the data set.
        labels: The structures to use, each called like its file, and their values; None: all, by name from 1 on.
        channels: The channels to use, by name and in this order; with one image per scan, its channel name.
        report: Receives every scan whose files differ from the others'; raises by default.
        cache: Folder in which merged masks are kept; None: the command's.

    Returns:
        The data set with its valid cases; scans without a mask become test scans.

    Raises:
        UserError: If no scan has images and masks, or there are too many structures.
    """
    folders = [folder for folder in patient_folders(root) if image_files(folder)]
    found = {folder.name: by_stem(image_files(folder), report) for folder in folders}
    parts = {folder.name: by_stem(image_files(folder / _FOLDER), report) for folder in folders}
    labelled = [scan for scan in found if parts[scan]]
    if not labelled:
        raise UserError(f"{root} does not contain {LOOKED_FOR}.")
    table = labels or _named(parts)
    for scan in labelled:
        if absent := [structure for structure in table.foreground if structure not in parts[scan]]:
            what = f"There is no mask of {', '.join(absent[:5])}{' and others' if len(absent) > 5 else ''}."
            report(Problem("missing", str(root / scan / _FOLDER), what, "Add it; it is taken for absent.", WARNING))
    files, names = picked(found, labelled, root, channels, report)
    recipes = []
    for scan in labelled:
        with reported(report, "unreadable", root / scan):
            if scan in files:
                recipes.append(_recipe(scan, root / scan / _FOLDER, read_grid(files[scan][0]), parts[scan], table))
    made = make_masks(recipes, cache, report)
    rows = _rows(root)
    cases = [
        Case(
            scan,
            images,
            made.get(scan),
            about=tuple((key, value) for key, value in rows.get(scan, {}).items() if key not in (*_IDS, "split")),
            made_from=tuple(parts[scan].values()),
        )
        for scan, images in files.items()
    ]
    stated = {scan: PARTS.get(row.get("split", "").lower(), "") for scan, row in rows.items()}
    tests = {case.id for case in cases if case.label is None or stated.get(case.id) == "test"}
    training = checked((case for case in cases if case.id not in tests), root, report)
    if not training:
        raise UserError(f"{root} contains no scan with all images and masks to train on. Fix the folders.")
    return Dataset(
        name=name,
        root=root,
        cases=training,
        labels=table,
        channels=named_channels(training, channels, "data.channels", report) if len(names) == 1 else tuple(names),
        test_cases=checked((case for case in cases if case.id in tests), root, report),
        notice="Masks are merged from one file per structure: by their values, later ones over earlier ones.",
        folds=stated_fold(training, stated),
    )


def _named(parts: Mapping[str, Mapping[str, Path]]) -> Labels:
    """All structures by name."""
    structures = sorted({structure for files in parts.values() for structure in files})
    if len(structures) >= MAX_LABELS:
        raise UserError(
            f"The scans have masks of {len(structures)} structures, over {MAX_LABELS - 1}. Choose some by data.labels."
        )
    return Labels({"background": 0} | {structure: value for value, structure in enumerate(structures, 1)})


def _recipe(scan: str, folder: Path, grid: Grid, files: Mapping[str, Path], labels: Labels) -> Recipe:
    chosen = {value: files[name] for name, value in labels.foreground.items() if name in files}
    status = {value: path.stat() for value, path in chosen.items()}
    key = [[value, str(chosen[value].absolute()), s.st_size, s.st_mtime_ns] for value, s in status.items()]
    background = labels[labels.background]
    return Recipe(scan, folder, grid, [key, background], partial(_merged, grid, chosen, background))


def _merged(grid: Grid, files: Mapping[int, Path], background: int) -> np.ndarray:
    """The mask whose values are the structures; the file of a structure is nonzero where it is."""
    merged = np.full(grid.shape, background, smallest_type(np.array([background, *files])))
    for value, path in files.items():
        mask = read_label(path, grid)
        if difference := grid_difference(grid, mask.grid):
            raise UserError(f"{path}: its grid differs from that of the image: {difference}. Resample the mask to it.")
        merged[mask.array != 0] = value
    return merged


def _rows(root: Path) -> dict[str, dict[str, str]]:
    """Rows of the table beside the folders by scan; empty without one."""
    path = only_csv(root)
    if path is None:
        return {}
    columns, rows = read_rows(path, lambda problem: None)
    key = next((column for column in _IDS if column in columns), None)
    return {} if key is None else {row[key]: row for _, row in rows}
