"""The scans that an export is compared and calibrated on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segment.errors import UserError
from segment.files import read_mapping
from segment.inference.inputs import Studies, find_scans
from segment.inference.model import Model
from segment.preprocessing.plan import Plan

NOISE = "seeded noise in the plan's range of intensities"


@dataclass(frozen=True)
class Scans:
    """Some scans, and where they are from.

    Attributes:
        source: In words: ``validation scans of the run``, ``given scans`` or `NOISE`.
        scans: Arguments of `segment.inference.model.Model.predict` for each.
    """

    source: str
    scans: Sequence[tuple[Any, ...]]

    def __str__(self) -> str:
        return f"{len(self.scans)} {self.source}"


def scans_to_compare(model: Model, given: Path | None, count: int, studies: Studies | None = None) -> Scans:
    """Choose the scans that an export is compared on.

    Args:
        model: The model.
        given: File or folder of scans; None for the validation scans of the run that contains the model.
        count: How many, evenly among them.
        studies: How series of DICOM become the channels of given scans; None: each is a scan.

    Returns:
        The scans; noise if no file is given and the run's are not there.
    """
    found = _given(model, given, count, "input", studies) or _of_run(model, "val", count)
    return found or Scans(NOISE, [noise(model.plan, len(model.channels))])


def scans_to_calibrate(
    model: Model, given: Path | None, compared: Path | None, count: int, studies: Studies | None = None
) -> Scans:
    """Choose the scans that int8 is calibrated on.

    Args:
        model: The model.
        given: File or folder of scans; None for the training scans of the run that contains the model.
        compared: File or folder of the scans to compare on, used if there are no others.
        count: How many, evenly among them.
        studies: How series of DICOM become the channels of given scans; None: each is a scan.

    Raises:
        UserError: When there are none: the range of a network's values on noise is not that on scans.
    """
    found = (
        _given(model, given, count, "calibration", studies)
        or _of_run(model, "train", count)
        or _given(model, compared, count, "input", studies)
    )
    if found is None:
        raise UserError(
            "precision=int8: is calibrated on scans, and those that the model was trained on are not there. Give some: "
            "calibration=FILE_OR_FOLDER."
        )
    return found


def noise(plan: Plan, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """A scan of seeded noise, one window large, with its affine: axes x, y, z, channel.

    Its voxels are normal, with the plan's mean and standard deviation of each channel where it has them.
    """
    shape, spacing = [*plan.patch_size], [*plan.spacing]
    if plan.sliced:
        shape, spacing = [2, *shape], [spacing[0], *spacing]
    random = np.random.default_rng(0)
    normal = [(known.mean, known.sd) for known in plan.intensities] or [(0.0, 1.0)] * channels
    parts = [random.normal(*of_channel, shape[::-1]) for of_channel in normal]
    affine = np.diag([*spacing[::-1], *[1.0] * (4 - len(spacing))])
    voxels = np.stack(parts, axis=-1).astype(np.float32)
    return (voxels if channels > 1 else voxels[..., 0]), affine


def _given(model: Model, source: Path | None, count: int, key: str, studies: Studies | None) -> Scans | None:
    if source is None:
        return None
    scans = [(files,) for _, files in find_scans(source, len(model.channels), studies, key)]
    return Scans("given scans", evenly(scans, count))


def _of_run(model: Model, split: str, count: int) -> Scans | None:
    """Scans of the run folder that contains a model; None if it is none or its scans have moved."""
    record = model.folder.absolute().parent / "provenance.json" if model.folder else Path()
    if not record.is_file():
        return None
    try:
        content = read_mapping(record)
        cases = [content["cases"][case]["images"] for case in content["split"][split]]
        scans = [[Path(file) for file in files] for files in cases]
    except (UserError, LookupError, TypeError):  # the run beside the model is not needed
        return None
    there = [(files,) for files in scans if all(file.is_file() for file in files)]
    name = {"val": "validation", "train": "training"}[split]
    return Scans(f"{name} scans of the run", evenly(there, count)) if there else None


def evenly(items: Sequence[Any], count: int) -> list[Any]:
    """At most `count` items, evenly among all."""
    taken = min(count, len(items))
    return [items[index * len(items) // taken] for index in range(taken)]
