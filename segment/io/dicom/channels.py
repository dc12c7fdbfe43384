"""Several series of one study as the channels of one scan, such as T1, T2 and FLAIR, or CT and PET."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from segment.errors import UserError
from segment.io.dicom.pixels import read_volume
from segment.io.dicom.series import Series
from segment.io.geometry import Grid, grid_difference
from segment.io.volumes import itk_image, write_volume
from segment.text import printable


def studies_of(series: Iterable[Series]) -> list[list[Series]]:
    """Group series by study; those whose files name none, by patient.

    Args:
        series: Series of any patients.

    Returns:
        The series of each study, in their order.
    """
    found: dict[tuple[str, str], list[Series]] = defaultdict(list)
    for item in series:
        found[item.patient, item.study].append(item)
    return list(found.values())


def channel_series(series: Sequence[Series], channels: Sequence[str], given: Mapping[str, str]) -> list[Series]:
    """Find the series of each channel by its description.

    A channel's series is the one whose description is the channel's name; else whose modality is (``CT``, ``PT``); else
    whose description has the words of the name; else has words that begin so (``T1`` in ``t1_mprage``, ``T1w``). Case
    does not matter. A series that is the only one for a channel is none for the others, so ``AX T2 FLAIR`` is no T2
    beside a channel FLAIR.

    Args:
        series: The series of one study.
        channels: Names of the channels.
        given: Channel to description, in place of its name.

    Returns:
        One series for each channel, in order.

    Raises:
        ValueError: If a channel has none or several, with the descriptions that there are.
    """
    left = {channel: _fitting(given.get(channel, channel), series) for channel in channels}
    known: dict[str, Series] = {}
    while sure := next((name for name, items in left.items() if len(items) == 1 and name not in known), None):
        known[sure] = left[sure][0]
        for name, items in left.items():
            if name != sure:
                left[name] = [item for item in items if item is not known[sure]]
    for channel in channels:
        if channel not in known:
            found = f"{len(left[channel])} series fit" if left[channel] else "no series fits"
            there = ", ".join(sorted(repr(printable(item.description or item.modality)) for item in series))
            raise ValueError(f"{found} the channel {channel!r} among those described as {there}")
    return [known[channel] for channel in channels]


def _fitting(name: str, series: Sequence[Series]) -> list[Series]:
    """The series that fit a name by the first rule that any of them fits."""
    words = _words(name)
    rules: tuple[Callable[[Series], bool], ...] = (
        lambda item: item.description.casefold() == name.casefold(),
        lambda item: item.modality.casefold() == name.casefold(),
        lambda item: bool(words) and words <= _words(item.description),
        lambda item: bool(words) and all(any(has.startswith(w) for has in _words(item.description)) for w in words),
    )
    return next((found for rule in rules if (found := [item for item in series if rule(item)])), [])


def _words(text: str) -> set[str]:
    return set(re.findall(r"[^\W_]+", text.casefold()))


def described(series: Sequence[Series], channels: Sequence[str]) -> str:
    """Which series is which channel, to be said."""
    pairs = zip(channels, series, strict=True)
    return ", ".join(f"{channel} {printable(item.description or item.modality)!r}" for channel, item in pairs)


def on_grid(series: Series, like: Series, copy: Path) -> Path:
    """A file of a series on the grid of another one: its own, or a resampled copy.

    Args:
        series: The series.
        like: The other.
        copy: NIfTI file to write where the grids differ; one that exists is used.

    Raises:
        ValueError: If they differ and the series have no frame of reference in common.
        UserError: If the series cannot be read or has several samples per voxel.
    """
    if not grid_difference(series.grid, like.grid):
        return series.path
    if not series.frame or series.frame != like.frame:
        raise ValueError(
            f"{series.description or series.path} and {like.description or like.path} have different grids and no "
            "frame of reference in common, so nothing says how they lie to each other; register them first"
        )
    if not copy.exists():
        write_volume(copy, _resampled(series, like.grid)[None], like.grid)
    return copy


def _resampled(series: Series, grid: Grid) -> np.ndarray:
    """Resample to a grid, linearly, as float32 (z, y, x); voxels outside of the series get its least value."""
    import SimpleITK as sitk

    array = read_volume(series, np.float32)
    if len(array) > 1:
        raise UserError(f"{series.path}: a series of colour images is no channel. Leave it out.")
    reference = itk_image(np.zeros(grid.shape, np.uint8), grid)
    image = itk_image(array[0], series.grid)
    moved = sitk.Resample(image, reference, sitk.Transform(), sitk.sitkLinear, float(array.min()))
    return sitk.GetArrayFromImage(moved)
