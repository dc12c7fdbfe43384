"""Decides the post-processing of a model on validation scans, by nnU-Net's rule (Isensee et al. 2021).

A step is kept where the mean Dice over the validation scans rises and that of no label falls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence, Set
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from segment.data.labels import IGNORE, Labels
from segment.evaluation.score import Pair, read_pair, voxels_at_once
from segment.files import plain
from segment.inference.postprocessing import (
    HOLES,
    LARGEST,
    SMALL,
    Step,
    box_of,
    holes,
    painted,
    postprocessed,
    survivors,
    voxels_of,
    words,
)
from segment.io.images import read_header
from segment.metrics.components import components
from segment.metrics.overlap import confusion
from segment.metrics.scan import structure_counts
from segment.metrics.standard import LEAD
from segment.parallel import Room, on_all_cores
from segment.statistics.bootstrap import bootstrap_interval, mean_of_means
from segment.statistics.paired import paired_differences

SIZES = (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
"""Smallest sizes of components that are tried, in mm3, or mm2 of flat images."""


@dataclass(frozen=True)
class Difference:
    """Paired difference of Dice with and without steps over the scans.

    Attributes:
        mean: Mean over labels of the mean over scans; a structure that one mask correctly lacks counts as 1 there.
        ci95: Interval of it, by bootstrap over scans; None where there is none.
        labels: Mean by structure; NaN without any score.
    """

    mean: float
    ci95: tuple[float, float] | None
    labels: dict[str, float]

    @property
    def is_gain(self) -> bool:
        """Whether the mean rises and no label falls."""
        return self.mean > 0 and not any(value < 0 for value in self.labels.values())

    @property
    def lowest(self) -> str:
        """The label that gains least or loses most, and how much."""
        scored = {name: value for name, value in self.labels.items() if not math.isnan(value)}
        name = min(scored, key=scored.__getitem__)
        return f"{name} {scored[name]:+.4f}"


@dataclass(frozen=True)
class Tried:
    """The best of the steps that were tried for one structure, if any of them changes a score.

    Attributes:
        step: The step.
        difference: What it changes, after the steps that were kept before it.
        kept: Whether it is kept.
    """

    step: Step
    difference: Difference
    kept: bool


@dataclass(frozen=True)
class Decision:
    """The post-processing of a model.

    Attributes:
        steps: The steps that are kept, in the order in which they are applied.
        tried: What was found for each structure.
        count: Number of steps that were tried.
        scans: Number of scans that it was decided on.
        difference: What all kept steps change together.
    """

    steps: tuple[Step, ...]
    tried: tuple[Tried, ...]
    count: int
    scans: int
    difference: Difference

    def words(self) -> str:
        """In one phrase, for the protocol of scores."""
        kept = words(self.steps) if self.steps else f"none of {self.count} steps kept"
        return f"{kept}, decided on {self.scans} validation scans"

    def as_dict(self) -> dict[str, Any]:
        """Plain data for ``summary.json``: differences are of Dice with and without, paired scan by scan.

        ``steps``: what is kept; ``difference``: what it changes together, and ``structures``: the best step for each
        structure, in the order in which they were tried, each with the label that gains least.
        """
        return {
            "steps": [asdict(step) for step in self.steps],
            "scans": self.scans,
            "tried": self.count,
            "difference": plain(asdict(self.difference)),
            "structures": [
                {
                    "step": str(one.step),
                    "kept": one.kept,
                    "difference": one.difference.mean,
                    "ci95": plain(one.difference.ci95),
                    "lowest": one.difference.lowest,
                }
                for one in self.tried
            ],
        }


@dataclass
class _Search:
    """Steps kept so far, and what was tried."""

    pairs: Sequence[Pair]
    labels: Labels
    advance: Callable[[], None]
    steps: list[Step] = field(default_factory=list)
    tried: list[Tried] = field(default_factory=list)
    count: int = 0

    def run(self, structures: Sequence[Sequence[Step]]) -> None:
        """Try steps for each of several structures, of which at most one each is kept, the first of equal ones."""
        names = [*self.labels.structures]
        before, *tables = self.dice(self.steps, [step for steps in structures for step in steps])
        self.count += len(tables)
        for steps in structures:
            own, tables = tables[: len(steps)], tables[len(steps) :]
            found = [_difference(before, after, names) for after in own]
            best = max(range(len(steps)), key=lambda index: (found[index].is_gain, found[index].mean))
            if not np.array_equal(own[best], before, equal_nan=True):
                difference = compared(before, own[best], names)
                self.tried.append(Tried(steps[best], difference, difference.is_gain))
                self.steps += [steps[best]] if difference.is_gain else []

    def dice(self, kept: Sequence[Step], steps: Sequence[Step]) -> list[np.ndarray]:
        """Dice (scans, structures) with the kept steps alone, then with each of the other steps added."""

        def score(pair: Pair) -> list[np.ndarray]:
            with room.taken(math.prod(read_header(pair[2]).grid.shape)):
                mask, reference, spacing = read_pair(pair, self.labels)
                changed = postprocessed(mask, kept, self.labels, spacing)
                return _Scan(changed, reference, self.labels, spacing).scores(steps)

        room = Room(voxels_at_once())
        scans = []
        # Forked processes might hang after a training, whose threads hold locks.
        for scores in on_all_cores(score, self.pairs, processes=False):
            scans.append(scores)
            self.advance()
        return [np.stack(table) for table in zip(*scans, strict=True)]


def decide(pairs: Sequence[Pair], labels: Labels, advance: Callable[[float], None] = lambda share: None) -> Decision:
    """Decide which steps to keep: first for all foreground as one, then components of each structure, then its holes.

    Args:
        pairs: Masks of validation scans as they were predicted, and their references.
        labels: Labels of the values in the masks.
        advance: Called after every part of the work with its share of the whole, e.g. to update a progress bar.

    Returns:
        The decision.

    Raises:
        UserError: A file cannot be read or is not a mask, or the two masks of a scan are on different grids.
    """
    names = [*labels.structures]
    # Regions overlap, so what is kept for one may change another; labels do not.
    apart = [[name] for name in names] if labels.regions else [names]
    passes = (len(names) > 1) + 2 * len(apart) + 2
    search = _Search(pairs, labels, lambda: advance(1 / (passes * len(pairs))))
    if len(names) > 1:
        search.run([[Step(LARGEST)]])
    for group in apart:
        search.run([[Step(LARGEST, name), *(Step(SMALL, name, size) for size in SIZES)] for name in group])
    for group in apart:
        search.run([[Step(HOLES, name)] for name in group])
    steps = tuple(search.steps)
    before, after = (search.dice(kept, ())[0] for kept in ((), steps))
    total = compared(before, after, names)
    return Decision(steps, tuple(search.tried), search.count, len(pairs), total)


def compared(before: np.ndarray, after: np.ndarray, names: Sequence[str]) -> Difference:
    """The difference of two tables of Dice (scans, structures), after minus before, with its interval."""
    return replace(_difference(before, after, names), ci95=_interval(before, after))


def scan_dice(mask: np.ndarray, reference: np.ndarray, labels: Labels) -> np.ndarray:
    """Dice (structure,) of class indices (*spatial); NaN for a structure that is in neither mask."""
    return _ratios(_counts(mask, reference, labels))


def _counts(mask: np.ndarray, reference: np.ndarray, labels: Labels) -> np.ndarray:
    """Shared, predicted and reference voxels (structure, 3) of annotated parts."""
    known = reference != IGNORE
    table = confusion(mask[known], reference[known], len(labels))
    counts = structure_counts(table, labels.structures).values()
    return np.array([(one.shared, one.prediction, one.reference) for one in counts])


def _difference(before: np.ndarray, after: np.ndarray, names: Sequence[str]) -> Difference:
    """The difference of two tables of scores (scans, structures), without an interval."""
    found = _paired(before, after)
    means = {name: mean_of_means(column) for name, column in zip(names, found.T, strict=True)}
    return Difference(mean_of_means(found), None, means)


def _interval(before: np.ndarray, after: np.ndarray) -> tuple[float, float] | None:
    found = _paired(before, after)
    return bootstrap_interval(found) if np.nan_to_num(found).any() else None


def _paired(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """After minus before (scans, structures)."""
    found, _ = paired_differences(np.stack([after, before], axis=1), np.array([0]), np.array([1]), LEAD.perfect)
    return found[:, 0, 1:]


class _Scan:
    """Dice of a mask after many steps, each on its own: from the voxels of each component, which are counted once."""

    def __init__(self, mask: np.ndarray, reference: np.ndarray, labels: Labels, spacing: Sequence[float]) -> None:
        self.mask, self.reference, self.labels = mask, reference, labels
        self.volume = math.prod(spacing)
        self.counts = _counts(mask, reference, labels)
        self.found: tuple[str | None, _Components] | None = None  # of the structure that was asked for last

    def scores(self, steps: Sequence[Step]) -> list[np.ndarray]:
        """Dice (structure,) of the mask, and after each step; steps of a structure follow one another."""
        return [_ratios(counts) for counts in (self.counts, *map(self._after, steps))]

    def _after(self, step: Step) -> np.ndarray:
        """Shared, predicted and reference voxels after a step: (structure, 3)."""
        counts = self.counts.copy()
        if step.kind == HOLES:
            inside = voxels_of(self.mask, step.label, self.labels)
            box = box_of(inside)
            truth = self.reference[box][holes(inside[box], self.mask[box])]
            for place, classes in self._with({painted(step.label, self.labels)}):
                counts[place, :2] += np.isin(truth, classes).sum(), (truth != IGNORE).sum()
            return counts
        if self.found is None or self.found[0] != step.label:
            self.found = step.label, self._components(step.label)
        parts = self.found[1]
        counts[parts.places, :2] -= parts.voxels[~survivors(parts.sizes, step, self.volume)].sum(axis=0)
        return counts

    def _components(self, label: str | None) -> _Components:
        inside = voxels_of(self.mask, label, self.labels)
        box = box_of(inside)
        mask, reference = self.mask[box], self.reference[box]
        numbered = components(inside[box])
        sizes = np.bincount(numbered.ravel())
        foreground = range(1, len(self.labels))
        affected = self._with(set(foreground if label is None else self.labels.structures[label]))
        voxels = np.zeros((len(sizes), len(affected), 2), np.int64)
        for column, (_, classes) in enumerate(affected):
            predicted = np.isin(mask, classes) & (numbered > 0) & (reference != IGNORE)
            for kind, chosen in enumerate((predicted & np.isin(reference, classes), predicted)):
                voxels[:, column, kind] = np.bincount(numbered[chosen], minlength=len(sizes))
        return _Components(sizes, [place for place, _ in affected], voxels)

    def _with(self, classes: Set[int]) -> list[tuple[int, tuple[int, ...]]]:
        """Position and classes of the structures that contain any of some classes."""
        structures = enumerate(self.labels.structures.values())
        return [(place, own) for place, own in structures if classes & set(own)]


class _Components(NamedTuple):
    """Components of a structure.

    Attributes:
        sizes: Voxels of each; entry 0 is what is outside of all.
        places: The structures that share a class with it.
        voxels: Shared and predicted voxels of each component in each of these: (component, place, 2).
    """

    sizes: np.ndarray
    places: list[int]
    voxels: np.ndarray


def _ratios(counts: np.ndarray) -> np.ndarray:
    """Dice of shared, predicted and reference voxels (structure, 3); NaN for a structure that is in neither mask."""
    shared, predicted, referenced = counts.T
    total = predicted + referenced
    return np.divide(2 * shared, total, out=np.full(len(counts), np.nan), where=total > 0)
