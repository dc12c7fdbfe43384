"""Arrays: bounding boxes, whole numbers, the smallest types that hold them, counts of values."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

MAX_VALUES = 4096  # a file with more distinct values is not a mask; bounds the size of the facts
_BLOCK = 1 << 22  # voxels counted at once, so that a whole scan is never converted to 64 bits


def smallest_type(values: np.ndarray) -> type[np.integer]:
    """The smallest of uint8, uint16 and int32 that can represent every value.

    Args:
        values: Integers.

    Returns:
        A numpy integer type.

    Raises:
        ValueError: When none of them can represent every value.
    """
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    for kind in (np.uint8, np.uint16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return kind
    raise ValueError(f"label values {low}..{high} do not fit 32 bits")


def whole_numbers(array: np.ndarray) -> np.ndarray | None:
    """Convert a mask's values to integers, whatever type they are stored as.

    Args:
        array: Numbers of any type.

    Returns:
        The same values as integers; None if there are fractions, NaN, or values beyond 32 bits.
    """
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype == np.float16:
        array = array.astype(np.float32)  # whose range holds the limit below
    if array.dtype.kind != "f":
        return array
    whole = array.astype(np.int32) if np.abs(array).max(initial=0) < 2**31 else None  # NaN compares as not smaller
    return whole if whole is not None and np.array_equal(whole, array) else None


def nonzero_box(image: np.ndarray) -> tuple[tuple[int, int], ...]:
    """The bounding box of the voxels that are nonzero in any channel; the whole array when all are 0.

    Args:
        image: (channel, *spatial).
    """
    # Slice by slice, to avoid allocating a mask of the whole scan.
    found = [np.zeros(size, bool) for size in image.shape[1:]]
    for index in range(image.shape[1]):
        inside = (image[:, index] != 0).any(axis=0)
        found[0][index] = inside.any()
        for axis in range(inside.ndim):
            found[axis + 1] |= inside.any(axis=tuple(other for other in range(inside.ndim) if other != axis))
    if not found[0].any():
        return tuple((0, size) for size in image.shape[1:])
    return tuple((int(places[0]), int(places[-1]) + 1) for places in map(np.flatnonzero, found))


def count_values(mask: np.ndarray) -> dict[int, int] | None:
    """Count how often each value occurs, in memory independent of the mask's size.

    Args:
        mask: Integers of any shape.

    Returns:
        Value to number of voxels, sorted by value; None if there are more than `MAX_VALUES` values.
    """
    counts: dict[int, int] = {}
    for block in _blocks(mask):
        if block.dtype == np.uint8:
            numbers = np.bincount(block)
            values = np.flatnonzero(numbers)
            numbers = numbers[values]
        else:
            values, numbers = np.unique(block, return_counts=True)
        if len(values) > MAX_VALUES:
            return None
        for value, number in zip(values.tolist(), numbers.tolist(), strict=True):
            counts[value] = counts.get(value, 0) + number
        if len(counts) > MAX_VALUES:
            return None
    return dict(sorted(counts.items()))


def _blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    flat = array.reshape(-1)
    return (flat[start : start + _BLOCK] for start in range(0, flat.size, _BLOCK))
