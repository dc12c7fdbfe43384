"""Intensity normalisation per channel, as in nnU-Net before resampling (Isensee et al. 2021)."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from segment.preprocessing.plan import Intensity, Plan

_ROUNDING = float(np.finfo(np.float32).eps)


def normalize(image: np.ndarray, plan: Plan) -> None:
    """Normalise every channel in place with the method given by the plan.

    - ``zscore``: subtract the mean and divide by the standard deviation of all voxels.
    - ``masked_zscore``: the same over the voxels that are nonzero in any channel, with holes filled; the rest stays 0.
    - ``ct``: clip to the 0.5th and 99.5th percentile of the training scans' foreground, then subtract its mean and
      divide by its standard deviation.
    - ``percentiles``: clip to the scan's own 0.5th and 99.5th percentile, then ``zscore``.
    - ``rescale``: scale linearly from minimum and maximum to 0 and 1.
    - ``rgb``: divide by 255.
    - ``none``: unchanged.

    A constant channel becomes 0 under ``zscore``, ``percentiles`` and ``rescale``. The unit of the values does not
    matter: a diffusion coefficient may be in m^2/s, about 1e-9.

    Args:
        image: (channel, *spatial) float32, cropped, not yet resampled.
        plan: Gives the method of each channel.

    Raises:
        ValueError: If ``rgb`` is given values outside 0..255, or ``ct`` lacks the intensities of the training scans.
    """
    inside = _nonzero_region(image) if "masked_zscore" in plan.normalization else None
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
            largest = _largest(channel)
            channel -= channel.min()
            channel /= _divisor(float(channel.max()), largest)
        elif name == "rgb":
            low, high = channel.min(), channel.max()
            if low < 0 or high > 255:
                raise ValueError(
                    f"normalization rgb requires values 0..255, but channel {number} has {low:g}..{high:g}"
                )
            channel /= np.float32(255)


def _nonzero_region(image: np.ndarray) -> np.ndarray:
    """Voxels that are nonzero in any channel, with holes filled."""
    inside = (image != 0).any(axis=0)
    # A 2D image is a scan of one slice, with every voxel at the border: there are no holes.
    return inside if inside.ndim == 2 else ndimage.binary_fill_holes(inside)


def _standardize_ct(channel: np.ndarray, foreground: Intensity) -> None:
    np.clip(channel, np.float32(foreground.low), np.float32(foreground.high), out=channel)
    channel -= np.float32(foreground.mean)
    channel /= _divisor(foreground.sd, max(abs(foreground.low), abs(foreground.high)))


def _standardize(values: np.ndarray) -> None:
    """Subtract the mean, divide by the standard deviation; float64 sums, slice by slice to avoid a float64 copy."""
    if not values.size:
        return
    mean = float(values.mean(dtype=np.float64))
    parts = values.reshape(-1) if values.ndim == 1 else values
    squares = 0.0
    for start in range(0, len(parts), step := max(1, len(parts) * (1 << 20) // parts.size)):
        deviations = parts[start : start + step].astype(np.float64).ravel() - mean
        squares += float(deviations @ deviations)
    divisor = _divisor((squares / values.size) ** 0.5, _largest(values))
    values -= np.float32(mean)
    values /= divisor


def _largest(values: np.ndarray) -> float:
    """The largest absolute value."""
    return max(abs(float(values.min())), abs(float(values.max())))


def _divisor(spread: float, largest: float) -> np.float32:
    """A standard deviation or range, but not below the rounding error of the values, which is no intensity."""
    return np.float32(max(spread, _ROUNDING * largest) or 1)
