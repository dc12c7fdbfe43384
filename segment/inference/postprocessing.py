"""Post-processing of masks: unlikely components are removed and holes are filled, as decided on validation scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from segment.arrays import nonzero_box
from segment.data.labels import Labels
from segment.errors import UserError
from segment.files import read_mapping, write_json
from segment.metrics.components import components
from segment.text import printable
from segment.validation import one_of, read_as

LARGEST, SMALL, HOLES = "largest", "small", "holes"
KINDS = (LARGEST, SMALL, HOLES)
MAX_SIZE = 1e9  # mm3: a cubic metre
MAX_BYTES = 1 << 20
FILE = "postprocessing.json"
MAX_STEPS = 1024  # more than two for each of 254 labels, which is what a training writes

Size = Annotated[float, Field(strict=True, gt=0, le=MAX_SIZE, allow_inf_nan=False)]


@dataclass(frozen=True)
class Step:
    """One change of a mask: an entry of ``postprocessing`` in a model.json.

    Attributes:
        kind: ``largest``: all components but the largest are removed. ``small``: components smaller than `size` are
            removed. ``holes``: background that the structure encloses becomes part of it.
        label: Name of the structure; None: all foreground as one, of which only the largest component can be kept.
        size: For ``small``: mm3, or mm2 of flat images.
    """

    kind: Annotated[str, one_of(KINDS)]
    label: str | None = None
    size: Size | None = None

    def __str__(self) -> str:
        """In words."""
        what = {
            LARGEST: "largest component only",
            SMALL: f"no component below {self.size or 0:g} mm3",
            HOLES: "holes filled",
        }
        return f"{'all foreground' if self.label is None else printable(self.label)}: {what[self.kind]}"


def check_steps(steps: Sequence[Step], labels: Labels) -> None:
    """Check the steps of a model.

    Raises:
        ValueError: When one names a structure that the model lacks, or lacks what its kind needs.
    """
    for number, step in enumerate(steps):
        if step.label is not None and step.label not in labels.structures:
            raise ValueError(f"postprocessing[{number}].label is no structure of the model")
        if step.label is None and step.kind != LARGEST:
            raise ValueError(f"postprocessing[{number}]: {step.kind} needs a label")
        if (step.size is None) == (step.kind == SMALL):
            raise ValueError(f"postprocessing[{number}]: a size belongs to {SMALL}, and to nothing else")


@dataclass(frozen=True)
class Decided:
    """The content of ``postprocessing.json``, beside the models of a cross-validation."""

    steps: Annotated[tuple[Step, ...], Field(max_length=MAX_STEPS)]


def write_postprocessing(folder: Path, steps: Sequence[Step]) -> None:
    """Write the steps that were decided for all folds into the model folder of a cross-validation."""
    write_json(folder / FILE, asdict(Decided(tuple(steps))))


def postprocessing_of(folder: Path, labels: Labels) -> tuple[Step, ...] | None:
    """Read the steps that were decided for all folds.

    Args:
        folder: The folder of a cross-validation, its model folder, or any other.
        labels: Labels of its models.

    Returns:
        The steps; None if none were decided, or it is no such folder.

    Raises:
        UserError: When the file is damaged.
    """
    path = next((place / FILE for place in (folder / "model", folder) if (place / FILE).is_file()), None)
    if path is None:
        return None
    fix = "Copy the folder again."
    steps = read_as(Decided, read_mapping(path, fix, MAX_BYTES), path, fix=fix).steps
    try:
        check_steps(steps, labels)
    except ValueError as error:
        raise UserError(f"{path}: {error}. {fix}") from error
    return steps


def words(steps: Sequence[Step]) -> str:
    """The steps in one phrase."""
    return "; ".join(map(str, steps)) or "none"


def postprocessed(mask: np.ndarray, steps: Sequence[Step], labels: Labels, spacing: Sequence[float]) -> np.ndarray:
    """Apply steps one after another.

    Args:
        mask: Class indices ``(*spatial)``; not changed.
        steps: The steps; without any, the mask itself is returned.
        labels: Meaning of the class indices. Removed voxels become background.
        spacing: mm along each axis.

    Returns:
        Class indices of the same shape and type.
    """
    if not steps:
        return mask
    changed = mask.copy()
    for step in steps:
        inside = voxels_of(changed, step.label, labels)
        box = box_of(inside)
        part = changed[box]
        if step.kind == HOLES:
            part[holes(inside[box], part)] = painted(step.label, labels)
        else:
            numbered = components(inside[box])
            sizes = np.bincount(numbered.ravel())
            part[~survivors(sizes, step, float(np.prod(spacing)))[numbered]] = 0
    return changed


def voxels_of(mask: np.ndarray, label: str | None, labels: Labels) -> np.ndarray:
    """Where a mask of class indices has a structure, or any foreground: bool of its shape."""
    if label is None:
        return mask != 0
    classes = labels.structures[label]
    return mask == classes[0] if len(classes) == 1 else np.isin(mask, classes)


def box_of(inside: np.ndarray) -> tuple[slice, ...]:
    """The bounding box of a bool array; all of it if it is False throughout."""
    return tuple(slice(*ends) for ends in nonzero_box(inside[None]))


def holes(inside: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Background of a mask that a structure encloses; both ``(*spatial)``, cut to the structure's box or larger."""
    from scipy.ndimage import binary_fill_holes

    found: np.ndarray = binary_fill_holes(inside) & (mask == 0)
    return found


def painted(label: str | None, labels: Labels) -> int:
    """The class index that is written where a structure grows."""
    place = [*labels.structures].index(str(label))
    return labels.painted[place] if labels.regions else place + 1


def survivors(sizes: np.ndarray, step: Step, volume: float) -> np.ndarray:
    """Which components a step keeps.

    Args:
        sizes: Voxels by number of the component; entry 0 is what is outside of all, which is always kept.
        step: ``largest``, of equal ones the first, or ``small``.
        volume: mm3 of a voxel, or mm2.

    Returns:
        bool of the same shape.
    """
    if step.kind == SMALL:
        kept = sizes * volume >= (step.size or 0)
    else:
        kept = np.arange(len(sizes)) == 1 + np.argmax(sizes[1:]) if len(sizes) > 1 else np.zeros(1, bool)
    kept[0] = True
    return kept
