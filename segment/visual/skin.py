"""The surface of a head as it is seen from the front and from its right, before and after a change."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

_PIXELS = 1.5  # mm of a pixel
_SMOOTHING = 1.5  # mm
_AMBIENT = 0.15  # brightness of what is turned away from the light, which stands beside the viewer


def skin_picture(before: np.ndarray, after: np.ndarray, spacing: tuple[float, ...], air: float) -> np.ndarray:
    """Draw the surface of what is brighter than air.

    Args:
        before: ``(z, y, x)``, axes inferior to superior, posterior to anterior, left to right.
        after: The same scan, changed; drawn below it.
        spacing: mm along z, y, x.
        air: The greatest value of air.

    Returns:
        uint8 ``(H, W, 3)``: views from the front and from the right.
    """
    rows = []
    for array in (before, after):
        solid = array > air
        front = _view(solid.transpose(0, 2, 1)[:, ::-1, ::-1], (spacing[0], spacing[2], spacing[1]))
        right = _view(solid[:, :, ::-1], spacing)
        rows.append(np.concatenate([front, right], axis=1))
    grey = np.concatenate(rows)
    return np.repeat(grey[..., None], 3, axis=2)


def _view(solid: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """The surface along the last axis, from its beginning: shaded by its slope; rows from superior to inferior."""
    hit = solid.any(axis=2)
    depth = np.where(hit, solid.argmax(axis=2), solid.shape[2]) * spacing[2]
    size = tuple(max(1, round(length * step / _PIXELS)) for length, step in zip(hit.shape, spacing, strict=False))
    fine = np.asarray(Image.fromarray(depth.astype(np.float32)).resize(size[::-1], Image.Resampling.BILINEAR))
    shown = np.asarray(Image.fromarray(hit).resize(size[::-1], Image.Resampling.NEAREST))
    down, across = np.gradient(ndimage.gaussian_filter(fine, _SMOOTHING / _PIXELS), _PIXELS)
    facing = (1 - 0.4 * across + 0.4 * down) / np.sqrt(1 + across**2 + down**2) / np.sqrt(1.32)
    grey = np.where(shown, _AMBIENT + (1 - _AMBIENT) * np.clip(facing, 0, 1), 0)
    return (255 * grey[::-1]).astype(np.uint8)
