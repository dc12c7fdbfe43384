"""Spatial augmentation of whole batches: one resampling for rotation and scale, and mirroring."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from segment.errors import UserError


def rotation_matrix(angles: Tensor) -> Tensor:
    """Rotation about each axis in turn.

    Args:
        angles: (batch, 1) for 2D or (batch, 3) for 3D, radians.

    Returns:
        (batch, d, d) rotation matrices in x, y(, z) order.
    """
    cos, sin = torch.cos(angles), torch.sin(angles)
    size = 2 if angles.shape[1] == 1 else 3
    matrix = torch.eye(size, dtype=angles.dtype, device=angles.device).repeat(len(angles), 1, 1)
    planes = [(0, 1)] if size == 2 else [(1, 2), (0, 2), (0, 1)]
    for k, (i, j) in enumerate(planes):
        turn = torch.eye(size, dtype=angles.dtype, device=angles.device).repeat(len(angles), 1, 1)
        turn[:, i, i] = turn[:, j, j] = cos[:, k]
        turn[:, i, j] = -sin[:, k]
        turn[:, j, i] = sin[:, k]
        matrix = matrix @ turn
    return matrix


def rotate_and_scale(
    image: Tensor, reference: Tensor, angles: Tensor, scale: Tensor, spacing: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Resample image (linear) and reference (nearest) once, about the centre of the patch.

    The rotation is rigid in millimetres also where voxels are not cubes. Outside the patch the image's border is
    repeated and the reference is background.

    Args:
        image: (batch, channel, *spatial).
        reference: (batch, 1, *spatial) class indices.
        angles: (batch, 1 or 3) radians.
        scale: (batch,) factor on structure size; above 1 enlarges.
        spacing: Voxel size in mm, one a spatial axis in array order.

    Returns:
        Image and reference of the same shapes and types.
    """
    dims = image.ndim - 2
    extent = torch.tensor(
        [size * mm for size, mm in zip(reversed(image.shape[2:]), reversed(list(spacing)), strict=True)],
        dtype=torch.float32,
        device=image.device,
    )
    matrix = rotation_matrix(angles.float()) / scale.float()[:, None, None]
    matrix = matrix * extent[None, None, :] / extent[None, :, None]
    theta = torch.cat((matrix, torch.zeros(len(image), dims, 1, device=image.device)), dim=2)
    grid = functional.affine_grid(theta, [len(image), 1, *image.shape[2:]], align_corners=False)
    moved = functional.grid_sample(
        image, grid.to(image.dtype), mode="bilinear", padding_mode="border", align_corners=False
    )
    labels = functional.grid_sample(reference.float(), grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return moved, labels.to(reference.dtype)


def spatial_axes(wanted: str | Sequence[int], dims: int, key: str) -> list[int]:
    """The spatial axes (array order) that ``"all"`` or a list stands for.

    Args:
        wanted: ``"all"`` or axis numbers from 0.
        dims: Spatial dimensions.
        key: The configuration key, for the error.

    Raises:
        UserError: When it is something else or names an axis that is not there.
    """
    if wanted == "all":
        return list(range(dims))
    if isinstance(wanted, str) or not all(isinstance(axis, int) and 0 <= axis < dims for axis in wanted):
        raise UserError(f"{key}={wanted}: give all, or a list of axes from 0 to {dims - 1}; the scans are {dims}D.")
    return list(wanted)


def mirror(volume: Tensor, flips: Tensor) -> Tensor:
    """Flip each sample along its own axes.

    Args:
        volume: (batch, channel, *spatial).
        flips: (batch, spatial axes) booleans.

    Returns:
        A new tensor of the same shape.
    """
    samples = [
        torch.flip(sample, [axis + 1 for axis, flip in enumerate(row) if flip])
        for sample, row in zip(volume, flips.tolist(), strict=True)
    ]
    return torch.stack(samples)
