"""Matches masks on disk with their references by file name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segment.data.label_files import named_values
from segment.data.labels import MAX_LABELS, Labels
from segment.errors import UserError
from segment.io.formats import is_image_file, listed, stem
from segment.io.images import read_label
from segment.parallel import on_all_cores
from segment.text import printable


def pair_masks(
    predictions: Path | Sequence[Path], references: Path | Sequence[Path], ignore_extra: bool = False
) -> list[tuple[str, Path, Path]]:
    """Match masks with their references: two folders by name, lists of files by position.

    Args:
        predictions: A folder, a file or several files.
        references: Given the same way.
        ignore_extra: With folders, skip predictions without a reference.

    Returns:
        (case id, prediction file, reference file); lists of files keep their order and are named after the references.

    Raises:
        UserError: As `pair_folders`; or the numbers of files differ, are zero, or two references share a name.
    """
    sides = [[masks] if isinstance(masks, Path) and masks.is_file() else masks for masks in (predictions, references)]
    if isinstance(sides[0], Path) and isinstance(sides[1], Path):
        return pair_folders(sides[0], sides[1], ignore_extra)
    if isinstance(sides[0], Path) or isinstance(sides[1], Path):
        folder = next(side for side in sides if isinstance(side, Path))
        raise UserError(
            f"{folder} is a folder, the other side a list of files. Give two folders, or two lists of files."
        )
    if len(sides[0]) != len(sides[1]) or not sides[0]:
        raise UserError(
            f"There are {len(sides[0])} predictions and {len(sides[1])} references. Give one reference per mask."
        )
    names = [stem(file) for file in sides[1]]
    if len(set(names)) < len(names):
        duplicate = next(name for name in names if names.count(name) > 1)
        raise UserError(
            f"Two references are called {printable(duplicate)!r}, so their scans would be confused. Rename one."
        )
    return list(zip(names, sides[0], sides[1], strict=True))


def pair_folders(predictions: Path, references: Path, ignore_extra: bool = False) -> list[tuple[str, Path, Path]]:
    """Match the masks of two folders by file name without extension.

    Args:
        predictions: Folder of predicted masks; files that are not images are skipped.
        references: Folder of reference masks.
        ignore_extra: Skip predictions without a reference.

    Returns:
        (case id, prediction file, reference file) of every reference, sorted by id.

    Raises:
        UserError: A folder is missing, is empty or contains two masks with the same name, a reference has no prediction
            (leaving it out would hide failures), or a prediction has no reference.
    """
    predicted, referenced = _masks_by_stem(predictions), _masks_by_stem(references)
    missing = [name for name in referenced if name not in predicted]
    if missing:
        raise UserError(
            f"{predictions} has no prediction for {len(missing)} of the {len(referenced)} references "
            f"in {references}: {_first_few(missing)}. Predict these scans too; masks are matched by file name."
        )
    extra = [name for name in predicted if name not in referenced]
    if extra and not ignore_extra:
        raise UserError(
            f"{references} has no reference for {len(extra)} of the {len(predicted)} predictions in {predictions}: "
            f"{_first_few(extra)}. Add the references, or set ignore_extra=true to score the other scans only."
        )
    return [(name, predicted[name], file) for name, file in referenced.items()]


def discover_labels(pairs: Sequence[tuple[str, Path, Path]]) -> Labels:
    """Name labels after the values found in masks, if no names were given.

    Args:
        pairs: (case id, prediction file, reference file).

    Returns:
        ``background`` (0) and every other value found, in their order: named by a file in the folder of the references,
        the one above or that of the predictions (see `segment.data.label_files`), else ``label_VALUE``.

    Raises:
        UserError: A file cannot be read or is not a mask, more than 255 values are found, or the predictions and the
            references have no value but 0 in common.
    """
    found: set[int] = {0}
    sides: tuple[set[int], set[int]] = set(), set()
    files = [file for _, *both in pairs for file in both]
    for place, (file, values) in enumerate(zip(files, on_all_cores(_values, files), strict=True)):
        found.update(values)
        sides[place % 2].update(values)
        if len(found) > MAX_LABELS:
            raise UserError(
                f"With {file} there are {len(found)} different label values, more than {MAX_LABELS}: "
                "it is probably an image, not a mask. Give the folder of masks."
            )
    predicted, referenced = (sorted(side - {0}) for side in sides)
    if predicted and referenced and not set(predicted) & set(referenced):
        raise UserError(
            f"The predictions have the values {_first_few(predicted)} and the references {_first_few(referenced)}: "
            "none in common but 0, so every score would be 0. Give masks with the same values, or labels={NAME: VALUE} "
            "if they are meant to differ."
        )
    folder = pairs[0][2].parent
    names = named_values([folder, folder.parent, pairs[0][1].parent])
    return Labels({"background": 0, **{names.get(value, f"label_{value}"): value for value in sorted(found - {0})}})


def _values(file: Path) -> list[int]:
    """The different values of a mask."""
    return np.unique(read_label(file).array).tolist()


def _masks_by_stem(folder: Path) -> dict[str, Path]:
    """The masks of a folder by file name without extension, sorted."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder. Give the folder that contains the masks.")
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir(), key=lambda file: stem(file)):
        if not is_image_file(file):
            continue
        if stem(file) in found:
            raise UserError(
                f"{folder} contains two masks of one scan, {found[stem(file)].name} and {file.name}. Keep one."
            )
        found[stem(file)] = file
    if not found:
        raise UserError(f"{folder} contains no mask ({listed()}). Give the folder of masks.")
    return found


def _first_few(names: Sequence[str | int]) -> str:
    """The first three names or values and the number of others."""
    few = ", ".join(printable(str(name)) for name in names[:3])
    return few if len(names) <= 3 else f"{few} and {len(names) - 3} more"
