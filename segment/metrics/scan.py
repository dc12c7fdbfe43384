"""Scores of one scan, with one policy for structures that a mask does not hold.

Absent in both masks: no score, the status says so and means leave it out. Absent in one: the worst score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from segment.metrics.overlap import Mask, confusion, dice_and_iou

Status = Literal["ok", "both_empty", "missed", "invented"]
STATUSES: tuple[str, ...] = get_args(Status)


@dataclass(frozen=True)
class LabelScore:
    """Scores of one label in one scan.

    Attributes:
        label: Class index, from 1.
        name: Name of the label.
        dice: Dice in [0, 1]; NaN exactly when `status` is ``both_empty``.
        iou: Intersection over union in [0, 1]; NaN exactly when `status` is ``both_empty``.
        reference_voxels: Voxels of the label in the reference.
        predicted_voxels: Voxels of the label in the prediction.
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


def score_scan(prediction: Mask, reference: Mask, names: Sequence[str]) -> list[LabelScore]:
    """Score every label of one scan.

    Args:
        prediction: Class indices, any shape, integer; NumPy array or tensor.
        reference: Class indices of the same shape.
        names: Name of every class in the order of the indices; the first is the background and gets no score.

    Returns:
        One score a label, in the order of `names`.

    Raises:
        ValueError: The masks differ in shape, are not integer or hold a class that has no name.
    """
    table = confusion(prediction, reference, len(names))
    dice, iou = dice_and_iou(table)
    referenced, predicted = table.sum(axis=1), table.sum(axis=0)
    return [
        LabelScore(
            label=index,
            name=name,
            dice=float(dice[index]),
            iou=float(iou[index]),
            reference_voxels=int(referenced[index]),
            predicted_voxels=int(predicted[index]),
            status=label_status(int(referenced[index]), int(predicted[index])),
        )
        for index, name in enumerate(names)
        if index > 0
    ]
