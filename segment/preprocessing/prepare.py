"""From a scan's own grid to the network's and back: orientation, spacing, normalisation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from segment.data.geometry import Grid, canonical_grid, from_canonical, to_canonical
from segment.data.images import Image
from segment.preprocessing.plan import Plan, resampled_shape


def prepare_image(image: Image, plan: Plan) -> np.ndarray:
    """Orient to RAS axes, resample with cubic splines and normalise.

    Args:
        image: (channel, *spatial) float32 on the source grid.
        plan: The decisions.

    Returns:
        (channel, *spatial) float32, contiguous, on the plan's grid.
    """
    array = to_canonical(image.array, image.grid)
    shape = resampled_shape(image.grid, plan.spacing)
    channels = [
        _normalize(_resize(channel, shape, order=3), name)
        for channel, name in zip(array, plan.normalization, strict=True)
    ]
    return np.ascontiguousarray(np.stack(channels), dtype=np.float32)


def prepare_reference(classes: np.ndarray, grid: Grid, plan: Plan, n_classes: int) -> np.ndarray:
    """Orient and resample class indices: each class linearly, then the largest.

    Args:
        classes: (*spatial) class indices on the source grid.
        grid: The source grid.
        plan: The decisions.
        n_classes: Number of classes, background included.

    Returns:
        (*spatial) uint8, contiguous, on the plan's grid.
    """
    array = to_canonical(classes, grid)
    shape = resampled_shape(grid, plan.spacing)
    if array.shape == shape:
        return np.ascontiguousarray(array, dtype=np.uint8)
    best = np.zeros(shape, np.float32)
    result = np.zeros(shape, np.uint8)
    for index in range(n_classes):
        share = _resize((array == index).astype(np.float32), shape, order=1)
        result[share > best] = index
        best = np.maximum(best, share)
    return result


def restore(probabilities: Tensor, grid: Grid, decide: Callable[[Tensor], Tensor]) -> np.ndarray:
    """Bring class probabilities from the plan's grid to class indices on the scan's own grid.

    Args:
        probabilities: (class, *spatial) on the plan's grid; any monotone score per class will do.
        grid: The source grid.
        decide: Turns probabilities (output, *spatial) into class indices (*spatial) uint8.

    Returns:
        (*spatial) uint8 class indices in the source's shape and axis order.
    """
    shape = canonical_grid(grid).shape
    if tuple(probabilities.shape[1:]) != shape:
        mode = "trilinear" if len(shape) == 3 else "bilinear"
        probabilities = functional.interpolate(probabilities[None].float(), shape, mode=mode, align_corners=False)[0]
    classes = decide(probabilities).cpu().numpy()
    return np.ascontiguousarray(from_canonical(classes, grid))


def _resize(array: np.ndarray, shape: Sequence[int], order: int) -> np.ndarray:
    """Interpolate to a shape with voxel edges aligned; overshoot of the splines is clipped to the former range."""
    if array.shape == tuple(shape):
        return array
    zoom = [new / old for new, old in zip(shape, array.shape, strict=True)]
    result = ndimage.zoom(array, zoom, order=order, mode="nearest", grid_mode=True)
    if result.shape != tuple(shape):
        raise AssertionError(f"resampling gave {result.shape} for {tuple(shape)}")
    return np.clip(result, array.min(), array.max())


def _normalize(channel: np.ndarray, name: str) -> np.ndarray:
    if name == "none":
        return channel
    if channel.min() == channel.max():
        # The rounding error of the mean over that of the deviation would be 1 everywhere.
        return np.zeros_like(channel)
    mean, deviation = channel.mean(dtype=np.float64), channel.std(dtype=np.float64)
    return ((channel - mean) / max(deviation, 1e-8)).astype(np.float32)
