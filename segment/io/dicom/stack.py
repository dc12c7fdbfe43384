"""Slices as a volume: their order, the voxel grid, and what makes a series no volume."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segment.io.dicom.slices import Slice
from segment.io.geometry import Grid

UNEVEN = 0.05  # of the slice distance: how far a slice may lie from where even spacing puts it
TILTED = 0.1  # of the smallest pixel size: how far the slices of a stack may be shifted sideways
SAME_PLACE = 1e-3  # mm along the normal
_SAME_DIRECTION = 1e-3
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices in the order of their positions.

    Attributes:
        slices: Those of the volume, along the normal of the slices: the cross product of row and column direction.
        grid: Their voxel grid; None if they are no volume.
        fault: Why they are no volume and what to do, two sentences without the last full stop; empty if they are.
        notes: What was left out or assumed, as sentences.
    """

    slices: tuple[Slice, ...]
    grid: Grid | None
    fault: str = ""
    notes: tuple[str, ...] = ()


def stacks_of(slices: Sequence[Slice]) -> list[Stack]:
    """Order the slices of one series.

    Slices of one position are told apart by echo, time, b-value or acquisition, each a volume of its own. Copies of a
    slice are left out.

    Args:
        slices: In any order, of one size.

    Returns:
        One stack for each volume; a single one if the slices are none.
    """
    unique, notes = _without_copies(slices)
    if len(unique) == 1 and unique[0].position is None:
        return [Stack(tuple(unique), _flat_grid(unique[0]), notes=notes)]
    if any(item.position is None or item.orientation is None or item.spacing is None for item in unique):
        return [
            Stack(tuple(unique), None, "its slices lack position, orientation or pixel spacing. Export it again", notes)
        ]
    first = unique[0]
    turned = [item for item in unique if not _close(item.orientation, first.orientation)]
    if turned:
        return [
            Stack(
                tuple(unique), None, "its slices lie in different orientations, as in a localiser. Leave it out", notes
            )
        ]
    if any(not _close(item.spacing, first.spacing) for item in unique):
        return [Stack(tuple(unique), None, "its slices have different pixel sizes. Leave out those of one size", notes)]
    repeats = Counter(round(place / SAME_PLACE) for place in _places(unique))
    if max(repeats.values()) == 1:
        return [_stack(unique, notes)]
    parts = _told_apart(unique)
    if parts is None:
        doubled = sum(count > 1 for count in repeats.values())
        fault = (
            f"{doubled} of its {len(repeats)} positions have several different slices, which neither echo, time, "
            "b-value nor acquisition tells apart. Keep one slice for each position"
        )
        return [Stack(tuple(unique), None, fault, notes)]
    return [
        _stack(part, (*notes, f"Its slices form {len(parts)} volumes, told apart by {keyword}."))
        for keyword, part in parts
    ]


def _without_copies(slices: Sequence[Slice]) -> tuple[list[Slice], tuple[str, ...]]:
    """Leave out files with the instance UID of another; files without one are all kept."""
    kept: dict[tuple[str, int], Slice] = {}
    for item in slices:
        kept.setdefault((item.instance or str(item.path), item.frame), item)
    copies = len(slices) - len(kept)
    notes = (f"{copies} file(s) are copies of slices and were left out.",) if copies else ()
    return list(kept.values()), notes


def _close(a: Sequence[float] | None, b: Sequence[float] | None) -> bool:
    return a is not None and b is not None and bool(np.allclose(a, b, rtol=0, atol=_SAME_DIRECTION))


def _axes(item: Slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors along a row, along a column and normal to both, in LPS+."""
    assert item.orientation is not None
    row, column = np.reshape(item.orientation, (2, 3))
    return row, column, np.cross(row, column)


def _places(slices: Sequence[Slice]) -> np.ndarray:
    """Positions along the normal, in mm."""
    normal = _axes(slices[0])[2]
    return np.array([item.position for item in slices], dtype=float) @ normal


def _told_apart(slices: Sequence[Slice]) -> list[tuple[str, list[Slice]]] | None:
    """Divide slices of repeated positions by the first attribute with which every part has each position once."""
    everywhere = {round(place / SAME_PLACE) for place in _places(slices)}
    for keyword in dict.fromkeys(name for item in slices for name, _ in item.marks):
        parts: dict[str, list[Slice]] = {}
        for item in slices:
            parts.setdefault(dict(item.marks).get(keyword, ""), []).append(item)
        found = [[round(place / SAME_PLACE) for place in _places(part)] for part in parts.values()]
        if len(parts) > 1 and all(len(part) == len(everywhere) and set(part) == everywhere for part in found):
            return [(keyword, part) for part in parts.values()]
    return None


def _stack(slices: Sequence[Slice], notes: tuple[str, ...]) -> Stack:
    """Order slices of distinct positions and check that they are evenly spaced in a straight line."""
    places = _places(slices)
    order = np.argsort(places)
    ordered, places = tuple(slices[index] for index in order), places[order]
    row, column, normal = _axes(ordered[0])
    if not np.allclose([row @ row, column @ column, row @ column], [1, 1, 0], atol=_SAME_DIRECTION):
        return Stack(ordered, None, "the directions of its rows and columns are not orthogonal. Export it again", notes)
    positions = np.array([item.position for item in ordered], dtype=float)
    first, (down, along) = ordered[0], ordered[0].spacing or (1.0, 1.0)
    step = (places[-1] - places[0]) / (len(places) - 1) if len(places) > 1 else first.depth or 1.0
    if len(ordered) == 1:
        notes = (*notes, f"It has one slice; its thickness of {step:g} mm is the one that the file gives.")
        return Stack(ordered, _grid(ordered, positions[0], row * along, column * down, normal * abs(step)), notes=notes)
    fault = _uneven(places, step) or _tilted(positions, normal, min(down, along))
    if fault:
        return Stack(ordered, None, fault, notes)
    return Stack(ordered, _grid(ordered, positions[0], row * along, column * down, normal * step), notes=notes)


def _grid(slices: Sequence[Slice], origin: np.ndarray, across: np.ndarray, down: np.ndarray, step: np.ndarray) -> Grid:
    affine = np.eye(4)
    affine[:3] = np.stack([across, down, step, origin], axis=1)
    return Grid((len(slices), *slices[0].size), _LPS_TO_RAS @ affine)


def _flat_grid(item: Slice) -> Grid:
    """The grid of a projection, such as an X-ray image: pixels of the detector's size, else of 1 mm."""
    down, along = item.spacing or (1.0, 1.0)
    return Grid(item.size, np.diag([along, down, 1.0, 1.0]))


def _uneven(places: np.ndarray, step: float) -> str:
    """Say where slices are missing or unevenly spaced; empty if they are even."""
    gaps = np.diff(places)
    usual = float(np.median(gaps))
    expected = places[0] + step * np.arange(len(places))
    if np.abs(places - expected).max() <= UNEVEN * step:
        return ""
    multiples = gaps / usual
    if np.abs(multiples - np.round(multiples)).max() < 2 * UNEVEN and multiples.max() > 1.5:
        wide = np.flatnonzero(multiples > 1.5)
        where = ", ".join(f"{places[index]:.4g} and {places[index + 1]:.4g}" for index in wide[:5])
        count = int(np.round(multiples[wide] - 1).sum())
        missing = "1 slice is missing" if count == 1 else f"{count} slices are missing"
        return f"{missing}, between the positions {where} mm along its normal. Copy them again"
    return (
        f"its slices are {gaps.min():.4g} to {gaps.max():.4g} mm apart, while a volume has one distance. Resample it, "
        "or keep the slices of one distance"
    )


def _tilted(positions: np.ndarray, normal: np.ndarray, pixel: float) -> str:
    """Say by how much a gantry was tilted; empty if the slices lie straight above each other."""
    whole = positions - positions[0]
    sideways = np.linalg.norm(whole - np.outer(whole @ normal, normal), axis=1)
    if sideways.max() <= TILTED * pixel:
        return ""
    angle = np.degrees(np.arctan2(sideways[-1], abs(whole[-1] @ normal)))
    return (
        f"its slices are shifted sideways, as by a gantry tilted by {angle:.3g} degrees, so that its axes are not "
        "orthogonal. Straighten it with a program that resamples, such as dcm2niix"
    )
