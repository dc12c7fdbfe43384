"""Scores of one scan, with one policy for structures that a mask does not hold.

Absent in both masks: no score, the status says so and means leave it out. Absent in one: the worst score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from segment.metrics.overlap import Mask, confusion, dice_and_iou

Status = Literal["ok", "both_empty", "missed", "invented"]
STATUSES: tuple[str, ...] = get_args(Status)


@dataclass(frozen=True)
class LabelScore:
    """Scores of one structure (a label, or a region of several) in one scan.

    Attributes:
        label: Number of the structure, from 1; a label's class index.
        name: Its name.
        dice: Dice in [0, 1]; NaN exactly when `status` is ``both_empty``.
        iou: Intersection over union in [0, 1]; NaN exactly when `status` is ``both_empty``.
        reference_voxels: Voxels of it in the reference.
        predicted_voxels: Voxels of it in the prediction.
        status: ``ok``; ``both_empty`` (in neither mask); ``missed`` (in the reference only);
            ``invented`` (in the prediction only).
    """

    label: int
    name: str
    dice: float
    iou: float
    reference_voxels: int
    predicted_voxels: int
    status: Status


def label_status(reference_voxels: int, predicted_voxels: int) -> Status:
    """Say which of the two masks hold a structure.

    Args:
        reference_voxels: Voxels of the structure in the reference.
        predicted_voxels: Voxels of the structure in the prediction.

    Returns:
        ``ok`` (both hold it), ``both_empty``, ``missed`` or ``invented``.
    """
    if reference_voxels and predicted_voxels:
        return "ok"
    if reference_voxels:
        return "missed"
    return "invented" if predicted_voxels else "both_empty"


def score_scan(
    prediction: Mask,
    reference: Mask,
    structures: Mapping[str, Sequence[int]],
    n_classes: int,
    ignore: int | None = None,
) -> list[LabelScore]:
    """Score every structure of one scan.

    Args:
        prediction: Class indices, any shape, integer; NumPy array or tensor.
        reference: Class indices of the same shape.
        structures: Name of every structure to the classes it consists of: one for a label, several for a region.
        n_classes: Number of classes, background included.
        ignore: Voxels of this value in the reference count in no score; None for none.

    Returns:
        One score a structure, in the order of `structures`.

    Raises:
        ValueError: The masks differ in shape, are not integer or hold a class beyond `n_classes`.
    """
    if ignore is not None and tuple(prediction.shape) == tuple(reference.shape):
        known = reference != ignore
        if not known.all():
            prediction, reference = prediction[known], reference[known]
    table = confusion(prediction, reference, n_classes)
    members = np.zeros((len(structures), n_classes), np.int64)
    for row, classes in zip(members, structures.values(), strict=True):
        row[list(classes)] = 1
    referenced, predicted = members @ table.sum(axis=1), members @ table.sum(axis=0)
    dice, iou = dice_and_iou(np.einsum("sr,rp,sp->s", members, table, members), referenced, predicted)
    return [
        LabelScore(
            label=index + 1,
            name=name,
            dice=float(dice[index]),
            iou=float(iou[index]),
            reference_voxels=int(referenced[index]),
            predicted_voxels=int(predicted[index]),
            status=label_status(int(referenced[index]), int(predicted[index])),
        )
        for index, name in enumerate(structures)
    ]
