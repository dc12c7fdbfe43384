"""Intensities on a common scale, one way a channel, as nnU-Net does before it resamples (Isensee et al. 2021)."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from segment.preprocessing.plan import Intensity, Plan

EPS = 1e-8  # least standard deviation or range that is divided by


def normalize(image: np.ndarray, plan: Plan) -> None:
    """Normalise every channel as the plan names it; the array is changed in place.

    - ``zscore``: less the mean, over the standard deviation of all voxels.
    - ``masked_zscore``: those of the voxels that are not 0 in every channel, holes in them filled; the rest stays 0.
    - ``ct``: clipped to the 0.5th and 99.5th percentile of the training scans' foreground, then less its mean, over its
      standard deviation.
    - ``percentiles``: clipped to the scan's own 0.5th and 99.5th percentile, then as ``zscore``.
    - ``rescale``: least value to 0, greatest to 1.
    - ``rgb``: over 255.
    - ``none``: left as it is.

    A constant channel becomes 0 under ``zscore``, ``percentiles`` and ``rescale``.

    Args:
        image: (channel, *spatial) float32, cropped, not yet resampled.
        plan: Names the way of each channel.

    Raises:
        ValueError: When ``rgb`` meets values outside 0..255, or ``ct`` has no intensities of the training scans.
    """
    inside = _inside(image) if "masked_zscore" in plan.normalization else None
    for number, name in enumerate(plan.normalization):
        channel = image[number]
        if name == "zscore":
            _standardize(channel)
        elif name == "masked_zscore":
            assert inside is not None
            values = channel[inside]
            _standardize(values)
            channel[inside] = values
        elif name == "ct":
            if number >= len(plan.intensities):
                raise ValueError(
                    f"normalization ct of channel {number} needs the plan's intensities, which are missing"
                )
            _standardize_ct(channel, plan.intensities[number])
        elif name == "percentiles":
            np.clip(channel, *np.percentile(channel, (0.5, 99.5)).astype(np.float32), out=channel)
            _standardize(channel)
        elif name == "rescale":
            channel -= channel.min()
            channel /= max(channel.max(), np.float32(EPS))
        elif name == "rgb":
            low, high = channel.min(), channel.max()
            if low < 0 or high > 255:
                raise ValueError(f"normalization rgb takes values 0..255, but channel {number} has {low:g}..{high:g}")
            channel /= np.float32(255)


def _inside(image: np.ndarray) -> np.ndarray:
    """Voxels that are not 0 in every channel, and the holes among them."""
    inside = (image != 0).any(axis=0)
    # A flat image is a scan of one slice, whose every voxel lies at the border: nothing is a hole.
    return inside if inside.ndim == 2 else ndimage.binary_fill_holes(inside)


def _standardize_ct(channel: np.ndarray, foreground: Intensity) -> None:
    np.clip(channel, np.float32(foreground.low), np.float32(foreground.high), out=channel)
    channel -= np.float32(foreground.mean)
    channel /= np.float32(max(foreground.sd, EPS))


def _standardize(values: np.ndarray) -> None:
    """Less the mean, over the standard deviation; float64 sums, slice by slice so that no wide copy is made."""
    if not values.size:
        return
    mean = float(values.mean(dtype=np.float64))
    parts = values.reshape(-1) if values.ndim == 1 else values
    squares = 0.0
    for start in range(0, len(parts), step := max(1, len(parts) * (1 << 20) // parts.size)):
        apart = parts[start : start + step].astype(np.float64).ravel() - mean
        squares += float(apart @ apart)
    deviation = (squares / values.size) ** 0.5
    values -= np.float32(mean)
    values /= np.float32(max(deviation, EPS))
