"""An export beside the network it came from: both predict the same scans."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from segment.errors import UserError
from segment.export.scans import Scans
from segment.inference.model import Model
from segment.metrics.dice import Dice
from segment.metrics.metric import Counts
from segment.text import table

WINDOWS = {"mirror": ()}
"""Windows of the comparison: those of the model's scores, once instead of once for each mirrored copy."""


@dataclass(frozen=True)
class Bound:
    """How far an export may differ from its network.

    Attributes:
        agreement: Smallest share of voxels to which both give the same class.
        logits: Largest difference of logits, as a share of the network's largest logit.
    """

    agreement: float
    logits: float = float("inf")


BOUNDS = {"fp32": Bound(0.999, 1e-3), "bf16": Bound(0.98), "int8": Bound(0.95)}


@dataclass(frozen=True)
class Comparison:
    """An export beside its network in fp32 in torch, on the same scans.

    Attributes:
        source: Where the scans are from; a model folder names no scan, since it is handed over.
        scans: How many.
        windows: Windows that both computed.
        logit_difference: Largest difference of two logits.
        largest_logit: Largest absolute logit of the network.
        agreement: Share of the windows' voxels to which both give the same class.
        dice: Dice of both masks for each structure, all scans together; None for one that is in neither.
        bound: The `Bound` that they were held to.
    """

    source: str
    scans: int
    windows: int
    logit_difference: float
    largest_logit: float
    agreement: float
    dice: Mapping[str, float | None]
    bound: Bound

    @property
    def share(self) -> float:
        """Largest difference of two logits as a share of the network's largest."""
        return self.logit_difference / max(self.largest_logit, 1e-12)

    def check(self) -> None:
        """Raise if the export differs from its network by more than the bound.

        Raises:
            UserError: When it does.
        """
        found = f"on {self.scans} {self.source} (Dice of both masks: {_in_words(self.dice)})"
        if not self.agreement >= self.bound.agreement:  # NaN compares as false
            raise UserError(
                f"precision: the export gives {self.agreement:.2%} of the voxels the same class as the network, less "
                f"than {self.bound.agreement:.2%}, {found}. Nothing was written. Export with a higher precision, or "
                "set agreement= to what you accept."
            )
        if not self.share <= self.bound.logits:
            raise UserError(
                f"precision: the logits of the export differ from the network's by up to {self.share:.2g} of the "
                f"largest, more than {self.bound.logits:g}, {found}. Nothing was written. Try the other format."
            )


class _Both(nn.Module):
    """Runs a network and its export on each window and returns the network's logits."""

    def __init__(self, network: nn.Module, export: nn.Module, regions: bool) -> None:
        super().__init__()
        self.network, self.export, self.regions = network, export, regions
        self.difference = self.largest = 0.0
        self.same = self.voxels = 0
        self.seconds: dict[str, list[float]] = {"network": [], "export": []}

    def forward(self, windows: Tensor) -> Tensor:
        """Compute the network's logits (n, output, *window)."""
        parts = []
        for window in windows.split(1):
            logits, other = self._timed("network", window), self._timed("export", window)
            self.difference = max(self.difference, float((logits - other).abs().max()))
            self.largest = max(self.largest, float(logits.abs().max()))
            first, second = ((x > 0) if self.regions else x.argmax(dim=1) for x in (logits, other))
            self.same += int((first == second).sum())
            self.voxels += first.numel()
            parts.append(logits)
        return torch.cat(parts)

    def _timed(self, name: str, window: Tensor) -> Tensor:
        started = time.perf_counter()
        logits: Tensor = getattr(self, name)(window).float()
        self.seconds[name].append(time.perf_counter() - started)
        return logits


def compare(model: Model, export: nn.Module, scans: Scans, bound: Bound) -> tuple[Comparison, dict[str, float]]:
    """Predict scans with a network and with its export.

    Args:
        model: The model with its network in torch, which runs in fp32.
        export: The exported network.
        scans: The scans.
        bound: How far they may differ.

    Returns:
        The comparison, and the median seconds a window of ``network`` and ``export``, the first window left out.
    """
    both = _Both(model.network, export, bool(model.labels.regions))
    counts = {name: np.zeros(3, np.int64) for name in model.labels.structures}
    for scan in track(scans.scans, "comparing", console=Console(stderr=True)):
        expected, found = (predicted(replace(model, network=network), scan) for network in (both, export))
        for name, values in model.labels.structures.items():
            first, second = np.isin(expected, values), np.isin(found, values)
            counts[name] += [np.count_nonzero(mask) for mask in (first & second, first, second)]
    dice = {
        name: Dice().of_counts(Counts(shared, first, second, 0)) if first + second else None
        for name, (shared, first, second) in ((name, map(int, entry)) for name, entry in counts.items())
    }
    seconds = {name: statistics.median(times[1:] or times) for name, times in both.seconds.items()}
    comparison = Comparison(
        source=scans.source,
        scans=len(scans.scans),
        windows=len(both.seconds["network"]),
        logit_difference=both.difference,
        largest_logit=both.largest,
        agreement=both.same / both.voxels,
        dice=dice,
        bound=bound,
    )
    return comparison, seconds


def predicted(model: Model, scan: tuple[Any, ...], **windows: Any) -> np.ndarray:
    """Class indices of a scan, predicted in fp32 on the CPU."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # settings that differ from those of the scores, as intended
        prediction = model.predict(*scan, inference=WINDOWS | windows, precision="32-true", accelerator="cpu")
    return model.labels.encode(prediction.mask)


def comparison_table(comparison: Comparison, seconds: Mapping[str, float], megabytes: Mapping[str, float]) -> str:
    """A comparison as text for the terminal.

    Args:
        comparison: The comparison.
        seconds: Of one window, by ``network`` and ``export``.
        megabytes: Of their files, by the same names.
    """
    rows = [
        ["largest difference of logits", f"{comparison.logit_difference:.2g}"],
        ["  of the largest logit", f"{comparison.share:.2g}"],
        ["voxels of the same class", f"{comparison.agreement:.4%}"],
    ]
    rows += [[f"Dice {name}", "-" if dice is None else f"{dice:.4f}"] for name, dice in comparison.dice.items()]
    rows += [
        [f"{what}, {name}", f"{of[name]:.3g}"]
        for what, of in (("seconds a window", seconds), ("MB", megabytes))
        for name in ("network", "export")
    ]
    heads = ["export beside its network", f"{comparison.scans} {comparison.source}"]
    return table(heads, rows, left=[heads[0]])


def _in_words(dice: Mapping[str, float | None]) -> str:
    return ", ".join(f"{name} {'-' if value is None else format(value, '.3f')}" for name, value in dice.items())
