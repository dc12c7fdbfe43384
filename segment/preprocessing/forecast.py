"""Whether the disk has room for scans that are to be prepared, before it is full."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from segment.errors import UserError
from segment.io.geometry import Grid, canonical_grid
from segment.preprocessing.plan import Plan
from segment.preprocessing.prepare import prepared_shape, transposed

MEASURED = 8  # scans that are prepared before the size of the others is estimated from theirs
GB = 1e9


def most_bytes(grid: Grid, channels: int, masks: int, plan: Plan, value: int = 4) -> int:
    """Bytes of a prepared scan that is neither cropped nor compressed.

    Args:
        grid: Its source grid.
        channels: Image channels.
        masks: Masks beside the image, uint8.
        plan: How it is prepared.
        value: Bytes of an intensity.
    """
    canonical = canonical_grid(grid)
    shape = prepared_shape(transposed(canonical.shape, plan), transposed(canonical.spacing, plan), plan)
    return math.prod(shape) * (value * channels + masks)


def require_disk(folder: Path, left: int, written: Sequence[tuple[int, int]]) -> None:
    """Refuse to go on preparing where the disk would not hold the scans that are left.

    Args:
        folder: Where they are written.
        left: Sum of `most_bytes` of the scans that are left.
        written: Bytes on disk and `most_bytes` of scans that were prepared, from which the share of the latter that
            the others will take is estimated. Nothing is refused before there are `MEASURED`.

    Raises:
        UserError: When the free space does not suffice.
    """
    if len(written) < MEASURED:
        return
    needed = left * sum(taken for taken, _ in written) / sum(most for _, most in written)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"cache={folder.parent}: the scans that are still to be prepared will take about {needed / GB:,.1f} GB, as "
            f"measured on {len(written)} of them, but only {free / GB:,.1f} GB are free there. Free some, or give "
            "another cache=; scans that were prepared are kept."
        )
