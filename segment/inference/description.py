"""The content of a model.json: plain data, checked before anything is built from it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from safetensors.torch import save_file
from torch import nn

from segment.data.labels import Labels
from segment.errors import UserError
from segment.files import read_mapping, write_json, written_whole
from segment.inference.conformal import Missed
from segment.inference.exported import Export
from segment.inference.postprocessing import MAX_STEPS, Step
from segment.inference.precision import PRECISIONS
from segment.inference.windows import SlidingWindows
from segment.preprocessing.cascade import network_channels
from segment.preprocessing.plan import STORED, Plan
from segment.validation import Number, one_of, whole

FORMAT = 5  # of model.json; larger numbers are from newer versions
# What is written tells versions that would leave a part out that they cannot read it.
IN_TORCH, EXPORTED, POSTPROCESSED, CASCADED, AS_STORED = 1, 2, 3, 4, 5
PREVIOUS = "previous"  # the model folder of a cascade's first stage, in that of the second
MAX_JSON_BYTES = 1 << 20


@dataclass(frozen=True)
class Pruned:
    """How a network was pruned: the entry ``pruned`` of a model.json.

    Attributes:
        ratio: The share of its channels that was removed.
        steps: Optimiser steps that it was trained for afterwards.
        parameters: Number of them, before and after.
        gflop: 10^9 floating point operations of one window, before and after.
        weights: SHA-256 of the weights before.
    """

    ratio: Number
    steps: int
    parameters: tuple[int, int]
    gflop: tuple[Number, Number]
    weights: str


@dataclass(frozen=True)
class Description:
    """The content of a ``model.json``; what is not listed here is as in `Model`.

    Attributes:
        format: Version of the format.
        network: ``_target_`` description of the network with all its arguments.
        labels: Name of each label to its value or, for a region, its values.
        region_order: The value that each region writes into a mask; None without regions.
        export: For an exported network, how it was made; it has files of its own instead of weights.safetensors.
        postprocessing: Steps that its masks were scored after.
        conformal: What conformal masks of each structure miss of the validation scans; empty if not calibrated.
        pruned: How the network was pruned; None if it was not.
    """

    format: Annotated[int, whole(1, FORMAT)]
    dataset: str
    network: dict[str, Any]
    plan: Plan
    labels: dict[str, Any]
    channels: tuple[str, ...]
    inference: dict[str, Any]
    region_order: tuple[int, ...] | None = None
    precision: Annotated[str, one_of(PRECISIONS)] | None = None
    export: Export | None = None
    postprocessing: Annotated[tuple[Step, ...], Field(max_length=MAX_STEPS)] = ()
    codes: dict[str, dict[str, Any]] = field(default_factory=dict)
    conformal: dict[str, Missed] = field(default_factory=dict)
    pruned: Pruned | None = None


def format_for(content: Mapping[str, Any]) -> int:
    """The least format of a model.json with this content."""
    if content["plan"].get("orientation") == STORED:
        return AS_STORED
    if content["plan"].get("previous_stage"):
        return CASCADED
    return POSTPROCESSED if content.get("postprocessing") else EXPORTED if content.get("export") else IN_TORCH


def check_format(path: Path, written: Any) -> None:
    """Raise for files from a newer version, in which the same keys may have another meaning."""
    if type(written) is int and written > FORMAT:
        raise UserError(
            f"{path}: has format {written}, but this version of segment reads formats up to {FORMAT}. Install a "
            "newer version of segment."
        )


def check_description(model: Description, labels: Labels) -> None:
    """Raise for a description that no training writes, before it is used to prepare a scan."""
    axes, channels = len(model.plan.spacing), len(model.channels)
    try:
        model.plan.check(channels)
    except ValueError as error:
        raise ValueError(f"plan.{error}") from error
    channels = network_channels(model.plan, labels)
    for key, value in {"spatial_dims": axes, "in_channels": channels, "out_channels": labels.outputs}.items():
        if model.network.get(key, value) != value:
            raise ValueError(f"network.{key} is {model.network[key]}, but the rest of the model needs {value}")
    known = inspect.signature(SlidingWindows).parameters
    try:  # unknown keys are reported when they are used
        SlidingWindows(**{key: value for key, value in model.inference.items() if key in known}).flips(axes)
    except (UserError, TypeError) as error:
        raise ValueError(f"inference: {error}") from error


def write_model(folder: Path, network: nn.Module, description: Description) -> None:
    """Write a model folder.

    Args:
        folder: Created if missing.
        network: Source of the weights.
        description: The content of its model.json; the format is the least one that it needs.
    """
    state = {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}
    with written_whole(folder / "weights.safetensors") as temporary:
        save_file(state, temporary)
    content = asdict(description)
    write_json(folder / "model.json", content | {"format": format_for(content)})


def set_calibration(folder: Path, inference: Mapping[str, Any], missed: Mapping[str, Missed]) -> None:
    """Write what was found on validation scans into a model folder, in place of what it had.

    Args:
        folder: The model folder.
        inference: Arguments of the windows that were found.
        missed: What conformal masks of each structure miss.
    """
    content = read_mapping(folder / "model.json", largest=MAX_JSON_BYTES)
    own = {name: asdict(one) for name, one in missed.items()}
    write_json(folder / "model.json", content | {"inference": {**content["inference"], **inference}, "conformal": own})


def set_postprocessing(folder: Path, steps: Sequence[Step]) -> None:
    """Write post-processing into a model folder, in place of what it had.

    Args:
        folder: The model folder.
        steps: The steps; none writes the file of a model without post-processing.
    """
    content = read_mapping(folder / "model.json", largest=MAX_JSON_BYTES)
    changed = content | {"postprocessing": [asdict(step) for step in steps]}
    write_json(folder / "model.json", changed | {"format": format_for(changed)})
