"""What one read of a case's files tells: the facts that checking, the fingerprint and preparing go by."""

from __future__ import annotations

from dataclasses import dataclass

QUANTILES = 1001  # evenly spaced, from the least value to the greatest


@dataclass(frozen=True)
class ForegroundIntensity:
    """Intensities of one channel of one scan within its foreground (every label but the background).

    Attributes:
        mean: Mean.
        sd: Standard deviation, n below.
        quantiles: `QUANTILES` evenly spaced quantiles, least first.
    """

    mean: float
    sd: float
    quantiles: tuple[float, ...]


@dataclass(frozen=True)
class Survey:
    """Facts about one case, read once.

    Attributes:
        shape: Voxels along the anatomical axes z, y, x (after `to_canonical`); y, x for a flat image.
        spacing: Voxel size in mm along these axes.
        box: (start, stop) along each of these axes of the smallest box that holds every voxel that is not 0 in any
            channel; the whole scan when all are 0.
        intensities: One a channel; empty for a scan without foreground or without a label.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    box: tuple[tuple[int, int], ...]
    intensities: tuple[ForegroundIntensity, ...]
