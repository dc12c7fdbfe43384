"""Calibrates a model on validation scans: temperature, thresholds of the labels, and what conformal masks miss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from segment.data.labels import IGNORE, Labels
from segment.evaluation.postprocessing import Difference, compared, scan_dice
from segment.files import plain
from segment.inference.conformal import EDGES, Missed, edge_counts, missed_shares
from segment.inference.decision import parts
from segment.inference.quality import expected_scan_dice
from segment.inference.temperature import fit_temperature, likelihood, tempered

MAX_VOXELS = 2_000_000  # that a temperature is fitted to; one number needs no more
RISKS = (0.05, 0.1, 0.2)


class Sample:
    """Collects every so-manieth voxel of scans on the plan's grid, with its probabilities, while they are predicted.

    Args:
        labels: Meaning of the outputs.
        voxels: Number of voxels of all scans.
    """

    def __init__(self, labels: Labels, voxels: int) -> None:
        self.labels = labels
        self.step = -(-voxels // MAX_VOXELS)
        self.found: list[tuple[Tensor, Tensor]] = []

    def add(self, index: int, plane: Tensor, truth: Tensor) -> None:
        """Add voxels of a plane.

        Args:
            index: Its number; the voxels that are taken depend on it, so that they form no column.
            plane: (output, *plane) in [0, 1].
            truth: (*plane) class indices.
        """
        taken = slice(index * 7919 % self.step, None, self.step)
        classes = truth.flatten()[taken]
        known = classes != IGNORE
        self.found.append((plane.flatten(1)[:, taken][:, known].cpu(), classes[known].cpu()))

    def temperature(self) -> tuple[float, dict[str, float]]:
        """The temperature; and the number of voxels, and their negative log-likelihood before and after it."""
        if not self.found:
            return 1.0, {"voxels": 0}
        probabilities, classes = (torch.cat(some, dim=-1) for some in zip(*self.found, strict=True))
        regions, truth = bool(self.labels.regions), classes
        if regions:
            own = self.labels.structures.values()
            truth = torch.stack([torch.isin(classes, torch.tensor(one, dtype=classes.dtype)) for one in own])
        found = fit_temperature(probabilities, truth, regions)
        pairs = {"nll_before": probabilities, "nll": tempered(probabilities, found, regions)}
        fits = {key: likelihood(value, truth, regions) for key, value in pairs.items()}
        return found, {"voxels": classes.numel(), **fits}


@dataclass
class Counts:
    """Voxels of validation scans by probability, and the Dice of their most probable labels.

    Attributes:
        labels: Meaning of outputs and masks.
        edges: Of each scan (structure, 2, `EDGES`).
        dice: Of each scan (structure,), by case; NaN for a structure that is in neither mask.
        expected: Expected Dice of the same masks, by case and structure.
    """

    labels: Labels
    edges: list[np.ndarray] = field(default_factory=list)
    dice: dict[str, np.ndarray] = field(default_factory=dict)
    expected: dict[str, dict[str, float]] = field(default_factory=dict)

    def add(self, case: str, probabilities: np.ndarray, mask: np.ndarray, truth: np.ndarray) -> None:
        """Count a scan.

        Args:
            case: Its id.
            probabilities: (output, *spatial) on its own grid, such as a memory-mapped file.
            mask: (*spatial) class indices, the most probable ones.
            truth: (*spatial) class indices of the reference.
        """
        counts = np.zeros((len(self.labels.structures), 2, len(EDGES)), np.int64)
        for part in parts(probabilities):
            own, known = truth[part], truth[part] != IGNORE
            for index, classes in enumerate(self.labels.structures.values()):
                output = index if self.labels.regions else classes[0]
                counts[index] += edge_counts(probabilities[output, part][known], np.isin(own[known], classes))
        self.edges.append(counts)
        self.dice[case] = scan_dice(mask, truth, self.labels)
        self.expected[case] = expected_scan_dice(probabilities, mask, self.labels)

    def thresholds(self) -> dict[str, float]:
        """Of each structure the threshold of the highest mean Dice over the scans, the closest to 0.5 of equal ones.

        Where the reference lacks a structure, an empty mask counts as 1 and any other as 0. What several labels do to
        each other where all are above their thresholds is not looked at.
        """
        outside, inside = np.moveaxis(np.flip(np.cumsum(np.flip(self.edges, -1), -1), -1), 2, 0).astype(np.float64)
        truth = inside[..., :1]
        total = outside + inside + truth
        dice = np.divide(2 * inside, total, out=np.ones_like(total), where=total > 0).mean(axis=0)
        distance = np.abs(EDGES - 0.5)
        best = [min(range(len(EDGES)), key=lambda edge: (-round(own[edge], 9), distance[edge])) for own in dice]
        return dict(zip(self.labels.structures, (round(float(EDGES[edge]), 6) for edge in best), strict=True))

    def missed(self) -> dict[str, Missed]:
        """What conformal masks of each structure miss."""
        inside = np.stack(self.edges)[:, :, 1]
        return {name: missed_shares(inside[:, index]) for index, name in enumerate(self.labels.structures)}


def decision_record(rule: str, argmax: Mapping[str, np.ndarray], scans: pd.DataFrame, names: Sequence[str]) -> Any:
    """A decision rule beside the most probable labels, paired scan by scan, for ``summary.json``.

    Args:
        rule: Its name.
        argmax: Dice (structure,) of the most probable labels, by case.
        scans: Scores with the rule, whose validation scans are those cases.
        names: Of the structures.
    """
    wide = scans.pivot(index="case", columns="name", values="dice").reindex(index=list(argmax), columns=list(names))
    found: Difference = compared(np.stack(list(argmax.values())), wide.to_numpy(float), names)
    lowest = "" if np.isnan(list(found.labels.values())).all() else found.lowest
    return plain({"rule": rule, "scans": len(argmax), "lowest": lowest, **asdict(found)})


def conformal_record(missed: Mapping[str, Missed]) -> dict[str, Any]:
    """The thresholds of conformal masks for ``summary.json``: by structure, the scans and by risk the threshold."""
    return {
        name: {"scans": own.scans, "thresholds": {f"{risk:g}": own.threshold(risk) for risk in RISKS}}
        for name, own in missed.items()
    }


def expectation_record(table: pd.DataFrame) -> dict[str, dict[str, float | int | None]]:
    """How well the expected Dice tells the real one.

    Args:
        table: One row per (scan, label) with ``name``, ``dice`` and ``expected_dice``.

    Returns:
        Name of the structure, and ``foreground`` for the mean over structures of each scan, to the number of scans
        ``n``, their ``correlation`` (Pearson; None below three scans or without any spread), ``mean_absolute_error``
        and ``mean_error`` (expected minus real).
    """
    scored = table.dropna(subset=["dice"])
    groups = {str(name): rows for name, rows in scored.groupby("name", sort=False)}
    groups["foreground"] = scored.groupby("case")[["dice", "expected_dice"]].mean()
    return {name: _agreement(rows) for name, rows in groups.items()}


def _agreement(rows: pd.DataFrame) -> dict[str, float | int | None]:
    real, expected = rows["dice"].to_numpy(float), rows["expected_dice"].to_numpy(float)
    if not len(real):
        return {"n": 0, "correlation": None, "mean_absolute_error": None, "mean_error": None}
    spread = len(real) > 2 and real.std() > 0 and expected.std() > 0
    error = expected - real
    return {
        "n": len(real),
        "correlation": float(np.corrcoef(real, expected)[0, 1]) if spread else None,
        "mean_absolute_error": float(np.abs(error).mean()),
        "mean_error": float(error.mean()),
    }
