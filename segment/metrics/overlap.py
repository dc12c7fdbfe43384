"""Overlap of two masks: one table of voxel counts, from which the counts of every structure follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:  # importing it takes a second or two, and reading tables of scores does not need it
    import torch

Mask: TypeAlias = "np.ndarray | torch.Tensor"


def confusion(prediction: Mask, reference: Mask, n_classes: int) -> np.ndarray:
    """Count the voxels of every pair of classes in one pass.

    Both classes of a voxel are packed into one small integer before counting: with up to 16 classes that is
    a single byte, which `torch.bincount` reads directly, where `np.bincount` would first widen it to eight.

    Args:
        prediction: Class indices 0 .. n_classes - 1, any shape, integer or boolean; NumPy array or tensor.
        reference: Class indices of the same shape; array or tensor, on the device of `prediction`.
        n_classes: Number of classes, background included, at least 1.

    Returns:
        Table ``(n_classes, n_classes)`` int64; row: class of the reference, column: class of the prediction.

    Raises:
        ValueError: The shapes differ, a mask is not of an integer type or has a class out of range.
    """
    if tuple(prediction.shape) != tuple(reference.shape):
        raise ValueError(f"prediction {tuple(prediction.shape)} and reference {tuple(reference.shape)} differ in shape")
    for name, mask in (("prediction", prediction), ("reference", reference)):
        _check_classes(name, mask, n_classes)
    import torch

    if isinstance(prediction, torch.Tensor) or isinstance(reference, torch.Tensor):
        predicted, truth = torch.as_tensor(prediction), torch.as_tensor(reference)
        kind = _packed(n_classes)
        joint = (truth.to(kind) * n_classes + predicted.to(kind)).ravel()
    else:
        packed = np.dtype(str(_packed(n_classes)).removeprefix("torch."))
        counts = np.multiply(reference, n_classes, dtype=packed, casting="unsafe", order="C")
        np.add(counts, prediction, out=counts, dtype=packed, casting="unsafe")
        joint = torch.from_numpy(counts.reshape(-1))
    table = torch.bincount(joint, minlength=n_classes * n_classes)
    return table.reshape(n_classes, n_classes).to(device="cpu", dtype=torch.int64).numpy()


def _packed(n_classes: int) -> torch.dtype:
    """The narrowest integer type that holds every pair of classes and that `torch.bincount` reads."""
    import torch

    largest = n_classes * n_classes - 1
    for kind in (torch.uint8, torch.int16, torch.int32):
        if largest <= torch.iinfo(kind).max:
            return kind
    return torch.int64


def _check_classes(name: str, mask: Mask, n_classes: int) -> None:
    """Raise for classes that would be counted in a wrong cell of the table."""
    if isinstance(mask, np.ndarray):
        integral = mask.dtype == bool or np.issubdtype(mask.dtype, np.integer)
    else:
        integral = not (mask.is_floating_point() or mask.is_complex())
    if not integral:
        raise ValueError(f"{name} must hold class indices of an integer type, not {mask.dtype}")
    if 0 in mask.shape:
        return
    low, high = int(mask.min()), int(mask.max())
    if low < 0 or high >= n_classes:
        raise ValueError(f"{name} has classes {low} to {high}; {n_classes} classes allow 0 to {n_classes - 1}")
