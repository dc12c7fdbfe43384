"""Gives the network of a new run its initial weights, and records in the run folder what it took."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities.rank_zero import rank_zero_only

from segment.files import read_mapping
from segment.networks.transfer import HEADS
from segment.training.modules.base import TrainingModule
from segment.training.pretrained import load_weights
from segment.workflow.experiment import Experiment, Parts
from segment.workflow.prepare import Work

STARTED = "weights.json"


def start(experiment: Experiment, parts: Parts, work: Work, module: TrainingModule) -> dict[str, Any] | None:
    """Load ``weights=`` into the network of a new run; a resumed one has its checkpoint.

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
    else:
        labels, take = work.dataset.labels.declared, parts.parameters.take
        found = load_weights(module.network, experiment.weights, take, labels, parts.architecture)
        rank_zero_only(print)(f"Starting from {found}.")
        record = asdict(found)
    names = [name for name, _ in module.network.named_parameters()]
    new = [name for name in (record or {}).get("initial", ()) if name in names]
    module.hold(new or [name for name in names if name.startswith(HEADS)])
    return record


def started_from(folder: Path) -> dict[str, Any] | None:
    """What the network of a run took from ``weights=``; None if it started from random ones."""
    file = folder / STARTED
    return read_mapping(file) if file.is_file() else None
