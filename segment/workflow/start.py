"""Gives the network of a new run its initial weights, and records in the run folder what it took."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities.rank_zero import rank_zero_only
from torch import nn

from segment.files import file_sha256, read_mapping
from segment.inference.description import Pruned
from segment.networks.channels import channel_counts, resize
from segment.networks.padding import channels_last
from segment.networks.transfer import HEADS
from segment.preprocessing.cascade import network_channels
from segment.training.modules.base import TrainingModule
from segment.training.pretrained import load_weights
from segment.validation import read_as
from segment.workflow.experiment import Experiment, Parts
from segment.workflow.prepare import Work

STARTED = "weights.json"
CHANNELS, PRUNED = "channels", "pruned"  # in it, of a network that was pruned: what is left, and how it was


def start(experiment: Experiment, parts: Parts, work: Work, module: TrainingModule) -> dict[str, Any] | None:
    """Load ``weights=`` into the network of a new run, and prune it if asked for; a resumed one has its checkpoint.

    Args:
        experiment: The experiment.
        parts: Its components.
        work: Its data.
        module: Holds the network; told which parameters are new.

    Returns:
        What was taken, as for the file `STARTED`; None without initial weights.

    Raises:
        UserError: When the weights cannot be read, or most of them do not fit.
    """
    if experiment.weights is None:
        return None
    if (experiment.output / "checkpoints" / "last.ckpt").exists():
        record = started_from(experiment.output)
        if counts := (record or {}).get(CHANNELS):
            resize(module.network, counts)
            channels_last(module.network, module.dims)
    else:
        labels, take = work.dataset.labels.declared, parts.parameters.take
        found = load_weights(module.network, experiment.weights, take, labels, parts.architecture)
        rank_zero_only(print)(f"Starting from {found}.")
        record = asdict(found)
        if experiment.prune:
            record |= _prune(module.network, experiment.prune, work)
            record[PRUNED]["weights"] = file_sha256(Path(found.source))
            channels_last(module.network, module.dims)
    names = [name for name, _ in module.network.named_parameters()]
    new = [name for name in (record or {}).get("initial", ()) if name in names]
    module.hold(new or [name for name in names if name.startswith(HEADS)])
    return record


def _prune(network: nn.Module, ratio: float, work: Work) -> dict[str, Any]:
    """Remove a share of the channels of a network in place, and return `CHANNELS` and `PRUNED` of the record."""
    from segment.export.prune import prune, size_of  # here, since the package is an extra

    window = (1, network_channels(work.plan, work.dataset.labels), *work.plan.patch_size)
    smaller = prune(network, ratio, window)
    before, after = (size_of(one, window) for one in (network, smaller))
    counts = channel_counts(smaller)
    resize(network, counts)
    network.load_state_dict(smaller.state_dict())
    rank_zero_only(print)(
        f"Pruned: {before['parameters']:,.0f} parameters to {after['parameters']:,.0f}, {before['gflop']:.3g} GFLOP a "
        f"window to {after['gflop']:.3g}."
    )
    return {CHANNELS: counts, PRUNED: {"ratio": ratio, **{key: (before[key], after[key]) for key in before}}}


def how_pruned(experiment: Experiment, steps: int) -> Pruned | None:
    """How the network of a run was pruned and trained on; None if it was not.

    Args:
        experiment: The experiment.
        steps: Optimiser steps that it was trained for.
    """
    found = (started_from(experiment.output) or {}).get(PRUNED) if experiment.prune else None
    return None if found is None else read_as(Pruned, found | {"steps": steps}, experiment.output / STARTED)


def started_from(folder: Path) -> dict[str, Any] | None:
    """What the network of a run took from ``weights=``; None if it started from random ones."""
    file = folder / STARTED
    return read_mapping(file) if file.is_file() else None
