"""Masks on disk, matched with their references by file name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segment.data.labels import MAX_LABELS, Labels
from segment.errors import UserError
from segment.io.formats import is_image_file, listed, stem
from segment.io.images import read_label
from segment.text import printable


def pair_folders(predictions: Path, references: Path, ignore_extra: bool = False) -> list[tuple[str, Path, Path]]:
    """Match the masks of two folders by their names without the format.

    Args:
        predictions: Folder of predicted masks; files that are no images are passed over.
        references: Folder of reference masks.
        ignore_extra: Pass over predictions without a reference, where not all predicted scans have one.

    Returns:
        (case id, prediction file, reference file) of every reference, sorted by id.

    Raises:
        UserError: A folder is missing or holds no mask or two masks of one name, a reference has no prediction (it is
            not left out: that would hide failures), or a prediction has no reference.
    """
    predicted, referenced = _masks_by_stem(predictions), _masks_by_stem(references)
    missing = [name for name in referenced if name not in predicted]
    if missing:
        raise UserError(
            f"{predictions} holds no prediction for {len(missing)} of the {len(referenced)} references "
            f"in {references}: {_first_few(missing)}. Predict these scans too; masks are matched by file name."
        )
    extra = [name for name in predicted if name not in referenced]
    if extra and not ignore_extra:
        raise UserError(
            f"{references} holds no reference for {len(extra)} of the {len(predicted)} predictions in {predictions}: "
            f"{_first_few(extra)}. Add the references, or set ignore_extra=true to score the other scans only."
        )
    return [(name, predicted[name], file) for name, file in referenced.items()]


def discover_labels(pairs: Sequence[tuple[str, Path, Path]]) -> Labels:
    """Name labels after the values that masks hold, for masks that nobody gave names for.

    Args:
        pairs: (case id, prediction file, reference file).

    Returns:
        ``background`` (0) and ``label_VALUE`` for every other value found, in the order of the values.

    Raises:
        UserError: A file cannot be read or is no mask, or more than 255 values are found.
    """
    found: set[int] = {0}
    for _, *files in pairs:
        for file in files:
            found.update(np.unique(read_label(file).array).tolist())
            if len(found) > MAX_LABELS:
                raise UserError(
                    f"{file} brings the number of different label values to {len(found)}, more than {MAX_LABELS}: "
                    "it is probably an image, not a mask. Name the folder of masks."
                )
    return Labels({"background": 0, **{f"label_{value}": value for value in sorted(found - {0})}})


def _masks_by_stem(folder: Path) -> dict[str, Path]:
    """The masks of a folder by name without the format, sorted."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder. Name the folder that the masks lie in.")
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir(), key=lambda file: stem(file)):
        if not is_image_file(file):
            continue
        if stem(file) in found:
            raise UserError(
                f"{folder} holds {found[stem(file)].name} and {file.name}, two masks of one scan. Keep one."
            )
        found[stem(file)] = file
    if not found:
        raise UserError(f"{folder} holds no mask ({listed()}). Name the folder of masks.")
    return found


def _first_few(names: Sequence[str]) -> str:
    """Name the first few of many."""
    few = ", ".join(printable(name) for name in names[:3])
    return few if len(names) <= 3 else f"{few} and {len(names) - 3} more"
