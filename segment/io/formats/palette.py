"""Files whose numbers are indices into a table of colours.

As an image, such a file holds its colours: three channels, or one if all of them are grey. As a mask, it holds its
greys if the table is one of different greys, as many programs save grey images, and otherwise the indices, as the masks
of Pascal VOC and DAVIS, whose colours are only for display.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from segment.io.formats.base import Header


def with_palette(header: Header, table: np.ndarray) -> Header:
    """The header of a file with a palette, from that of its indices.

    Args:
        header: Of the indices, one channel.
        table: uint8 (index, red-green-blue).

    Returns:
        The header as an image; `Header.as_mask` is that of the labels.
    """
    if _is_grey(table):
        return replace(header, as_mask=header)
    return replace(header, channels=3, components=1, colour=True, as_mask=header)


def apply_palette(indices: np.ndarray, table: np.ndarray, header: Header) -> np.ndarray:
    """Look up what a file with a palette holds.

    Args:
        indices: Integers (..., y, x).
        table: uint8 (index, red-green-blue).
        header: From `with_palette`, or its `Header.as_mask`.

    Returns:
        (channel, ..., y, x): colours or greys of an image, labels of a mask.

    Raises:
        IndexError: If an index is not in the table, and what is read is not the indices.
    """
    if header.as_mask is None and not (_is_grey(table) and _are_different(table)):
        return indices[np.newaxis]
    colours = table if header.channels == 3 else table[:, :1]
    return np.stack([colour[indices] for colour in colours.T])


def _is_grey(table: np.ndarray) -> bool:
    return bool((table == table[:, :1]).all())


def _are_different(table: np.ndarray) -> bool:
    """Whether no colour occurs twice, but for a run of one at the end, with which programs fill the table."""
    used = max(np.flatnonzero((table != table[-1]).any(axis=1)), default=-1) + 1
    if used == len(table) - 1:
        used = len(table)
    return 0 < len(np.unique(table[:used], axis=0)) == used
