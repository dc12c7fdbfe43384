"""Segmentations and structure sets beside their series: which series is meant, and one mask for each structure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType

import numpy as np

from segment.arrays import smallest_type
from segment.errors import UserError
from segment.io.dicom import segmentation, structures
from segment.io.dicom.files import damage_as_value_error
from segment.io.dicom.series import Annotation, Series


def annotated_series(annotation: Annotation, series: Sequence[Series]) -> Series | None:
    """The series that an annotation belongs to.

    Args:
        annotation: A segmentation or structure set.
        series: Those found with it.

    Returns:
        The series whose UID it names; else the only one of its frame of reference; None if neither is there.
    """
    named = [item for item in series if item.uid and item.uid in annotation.series]
    if not named and not annotation.series:
        named = [item for item in series if item.frame and item.frame == annotation.frame]
    # Echoes or times of one series have one grid; the annotation was drawn on any of them.
    return named[0] if len({item.uid for item in named}) == 1 else None


def structure_names(annotation: Annotation) -> list[str]:
    """Names of the structures of an annotation, in its order.

    Raises:
        UserError: If the file is damaged, or two structures have one name.
    """
    names = list(_module(annotation).names_of(annotation.path).values())
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{annotation.path} has two structures called {twice!r}. Rename one of them.")
    return names


def read_annotations(
    annotations: Sequence[Annotation], series: Series, values: Mapping[str, int], background: int = 0
) -> np.ndarray:
    """Make one mask of all annotations of a series.

    Args:
        annotations: Those of the series.
        series: The series.
        values: Name of a structure to its value; structures without one are left out.
        background: Value of all other voxels.

    Returns:
        Integers ``(z, y, x)`` on the grid of the series; where structures overlap, the later one of the file.

    Raises:
        UserError: If a file is damaged, lies on another grid, or two files have a structure of one name.
    """
    used = np.array([background, *values.values()])
    mask = np.full(series.grid.shape, background, smallest_type(used))
    found: dict[str, Annotation] = {}
    for annotation in annotations:
        structure_names(annotation)
        for name, voxels in structure_masks(annotation, series):
            if name not in values:
                continue
            if found.setdefault(name, annotation) is not annotation:
                raise UserError(
                    f"{annotation.path} and {found[name].path} both annotate {name!r} of one series. Keep one of them."
                )
            mask[voxels] = values[name]
    return mask


def structure_masks(annotation: Annotation, series: Series) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name and the mask, bool ``(z, y, x)`` on the grid of the series, of every structure.

    Raises:
        UserError: If the file is damaged or lies on another grid.
    """
    try:
        with damage_as_value_error():
            yield from _module(annotation).read_masks(annotation.path, series.grid)
    except ValueError as error:
        raise UserError(f"{annotation.path} cannot be read on its series {series.path}: {error}.") from error


def _module(annotation: Annotation) -> ModuleType:
    """The module that reads an annotation; both have the same functions."""
    return structures if annotation.structures else segmentation
