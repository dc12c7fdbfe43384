"""How many labelled scans a pretraining saves: Dice against their number, from scratch and from weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segment.errors import UserError
from segment.metrics.standard import LEAD
from segment.runs.folder import RunFolder
from segment.runs.scans import parted, scan_rows
from segment.runs.settings import differences
from segment.statistics.bootstrap import bootstrap_interval, mean_of_means, resample_weights
from segment.text import table

SCRATCH = "scratch"
TEACHER = "mean teacher"
# What may differ between the runs of a curve: where they start, how they are fine-tuned, and how many scans they see.
VARIED = ("weights", "labelled", "seed", "augment.seed", "parameters", "mean_teacher")


@dataclass(frozen=True)
class Point:
    """The runs of one start with one number of labelled scans.

    Attributes:
        start: `SCRATCH`, or the name of the run whose weights they started from.
        labelled: Number of training scans.
        seeds: Number of runs.
        mean: Foreground Dice, mean over labels of the mean over scans, of the scans' means over the seeds.
        interval: 95 % interval over the scans; None with fewer than two.
    """

    start: str
    labelled: int
    seeds: int
    mean: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Saving:
    """What one start saves at one number of labelled scans, beside training from scratch.

    Attributes:
        start: Name of the run whose weights it started from.
        labelled: Number of its training scans.
        equal: Number with which training from scratch is as good, interpolated over the logarithm of the numbers;
            infinity where it is not with any that was tried, 0 where it is with fewer than any.
        saved: 1 - labelled / equal; negative where from scratch needs fewer. None where it is not known.
        interval: Its 95 % interval over the scans, within the numbers that were tried; None where not known.
    """

    start: str
    labelled: int
    equal: float
    saved: float | None
    interval: tuple[float, float] | None

    def __str__(self) -> str:
        """A sentence."""
        text = f"With {self.labelled} labels {self.start} is as good as "
        if self.equal == math.inf:
            return f"{text}no number of labels that was tried from scratch: it is better."
        if not self.equal or self.saved is None:
            return f"With {self.labelled} labels {self.start} is worse than scratch with any number that was tried."
        text += f"{self.equal:.0f} from scratch, labels saved {self.saved:.0%}"
        return text + (f" ({self.interval[0]:.0%} to {self.interval[1]:.0%})." if self.interval else ".")


@dataclass(frozen=True)
class Efficiency:
    """Points and savings of a data set.

    Attributes:
        points: By start, then number of scans.
        savings: By start, then number of scans.
        scans: Number of scans that every run was scored on.
    """

    points: Sequence[Point]
    savings: Sequence[Saving]
    scans: int

    def text(self) -> str:
        """A table, one row per number of scans, and the sentences."""
        starts = list(dict.fromkeys(point.start for point in self.points))
        found = {(point.start, point.labelled): point for point in self.points}
        numbers = sorted({point.labelled for point in self.points})
        rows = [[str(n), *(_cell(found.get((start, n))) for start in starts)] for n in numbers]
        seeds = sorted({point.seeds for point in self.points})
        said = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        lines = [table(["labels", *starts], rows, left=[])]
        lines += [f"Foreground Dice on {self.scans} scans, 95 % interval over scans, mean of {said} seeds."]
        return "\n".join([*lines, *map(str, self.savings)])

    def as_json(self) -> dict[str, Any]:
        """Plain values; infinity as null."""
        savings = [asdict(one) | {"equal": one.equal if math.isfinite(one.equal) else None} for one in self.savings]
        return {"points": [asdict(one) for one in self.points], "savings": savings, "scans": self.scans}


def label_efficiency(runs: Sequence[RunFolder], resamples: int = 2000, seed: int = 12345) -> Efficiency:
    """Compare training from scratch and from weights over the number of labelled scans.

    Args:
        runs: Finished runs of one data set, fold, network, plan and number of steps.
        resamples: Bootstrap resamples of the scans.
        seed: Of the resamples.

    Raises:
        UserError: When runs differ in more than `VARIED`, were scored on other scans, or none is from scratch.
    """
    tables: dict[tuple[str, int], list[np.ndarray]] = {}
    scans = _same(runs)
    for run in runs:
        key = (_start(run), len(run.provenance["split"]["train"]))
        tables.setdefault(key, []).append(scan_rows(parted(run.scans)[0], LEAD.name).to_numpy())
    with np.errstate(invalid="ignore"):
        values = {key: np.mean(found, axis=0) for key, found in sorted(tables.items(), key=lambda item: item[0])}
    ordered = sorted(values, key=lambda key: (key[0] != SCRATCH, key))
    if len([key for key in ordered if key[0] == SCRATCH]) < 2 or ordered[-1][0] == SCRATCH:
        raise UserError(
            "runs: give runs from scratch with two numbers of labels at least, and others from weights= or of "
            "mean_teacher."
        )
    points = [
        Point(*key, len(tables[key]), mean_of_means(values[key]), bootstrap_interval(values[key])) for key in ordered
    ]
    drawn = {key: _resampled(values[key], resamples, seed) for key in ordered}
    savings = [_saving(key, values, drawn) for key in ordered if key[0] != SCRATCH]
    return Efficiency(points, savings, scans)


def _same(runs: Sequence[RunFolder]) -> int:
    """Check that runs differ in what may differ only; the number of their scans."""
    first = runs[0]
    own = tuple(f"{key}." for key in VARIED)
    for run in runs:
        if not run.provenance:
            raise UserError(f"{run.path}: has no provenance.json, so what it trained on is not known.")
        rows = differences(first.config, run.config)
        changed = [row for row in rows if not f"{row[0]}.".startswith(own)]
        if changed:
            key, there, here = changed[0]
            raise UserError(
                f"{run.path}: differs from {first.path} in {key} ({here}, not {there}), which would change Dice too. "
                "Give runs that differ in weights, labelled, seed, parameters and mean_teacher alone."
            )
        if [*parted(run.scans)[0]["case"]] != [*parted(first.scans)[0]["case"]]:
            raise UserError(f"{run.path}: was scored on other scans than {first.path}. Give runs of one fold.")
    return int(parted(first.scans)[0]["case"].nunique())


def _start(run: RunFolder) -> str:
    """What the runs are called: where they start, and whether they learned from images without masks too."""
    weights, teacher = run.config.get("weights"), run.config.get("mean_teacher") or {}
    start = Path(str(weights)).name if weights else SCRATCH
    if not teacher.get("weight"):
        return start
    return f"{start}, {TEACHER}" if weights else TEACHER


def _resampled(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Foreground mean of every resample of the scans; the same scans for all tables of one length."""
    scored, filled = np.isfinite(values), np.nan_to_num(values)
    parts = []
    for weights in resample_weights(len(values), resamples, seed):
        counts = weights @ scored
        with np.errstate(invalid="ignore", divide="ignore"):
            parts.append(np.nanmean((weights @ filled) / counts, axis=1))
    return np.concatenate(parts)


def _saving(
    key: tuple[str, int], values: Mapping[tuple[str, int], np.ndarray], drawn: Mapping[tuple[str, int], np.ndarray]
) -> Saving:
    start, labelled = key
    numbers = np.array(sorted(n for name, n in values if name == SCRATCH), float)
    curve = np.array([mean_of_means(values[SCRATCH, int(n)]) for n in numbers])
    equal = equal_labels(mean_of_means(values[key]), numbers, curve)
    if not 0 < equal < math.inf:
        return Saving(start, labelled, equal, None, None)
    curves = np.stack([drawn[SCRATCH, int(n)] for n in numbers], axis=1)
    found = [equal_labels(value, numbers, one) for value, one in zip(drawn[key], curves, strict=True)]
    saved = 1 - labelled / np.clip(found, numbers[0], numbers[-1])
    low, high = np.quantile(saved, [0.025, 0.975])
    return Saving(start, labelled, equal, 1 - labelled / equal, (float(low), float(high)))


def equal_labels(value: float, numbers: np.ndarray, curve: np.ndarray) -> float:
    """The smallest number of labels with which a curve reaches a value, linear over the logarithm of the numbers.

    Args:
        value: The value.
        numbers: (n,) numbers of labels, rising.
        curve: (n,) values of the curve.

    Returns:
        The number; 0 if the curve starts above the value, infinity if it never reaches it.
    """
    reached = np.flatnonzero(curve >= value)
    if not len(reached):
        return math.inf
    i = int(reached[0])
    if i == 0:
        return float(numbers[0]) if curve[0] == value else 0.0
    part = (value - curve[i - 1]) / (curve[i] - curve[i - 1])
    return float(np.exp(np.log(numbers[i - 1]) + part * np.log(numbers[i] / numbers[i - 1])))


def _cell(point: Point | None) -> str:
    if point is None:
        return "-"
    interval = f" ({point.interval[0]:.3f} to {point.interval[1]:.3f})" if point.interval else ""
    return f"{point.mean:.3f}{interval}"
