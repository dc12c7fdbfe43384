"""Simulated comparisons: how often a difference is claimed where there is none, and found where there is one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from segment.statistics.bootstrap import FEWEST_SCANS
from segment.statistics.differences import (
    FEWEST_FOLDS,
    Contributions,
    by_folds,
    by_seeds,
    contributions,
    sign_flip_test,
    training_variance,
    two_sided,
)

SCAN_SD = 0.024
"""Standard deviation over scans of the difference between two trainings of nnU-Net's kind on MSD Task04."""

ALPHA = 0.05
_AT_ONCE = 250  # simulated comparisons


@dataclass(frozen=True)
class World:
    """What is simulated.

    Attributes:
        scans: Number of scans.
        seeds: Trainings of every method and fold.
        folds: Folds, which are trained apart.
        methods: Number of methods.
        training: Standard deviation between trainings of one method.
        effect: True advantage of the first method.
        structures: ``plain``: two labels in every scan; ``invented``: the second is in half of the scans, and a
            training invents it in a third of the others; ``rare``: the second is in a tenth of the scans.
    """

    scans: int = 52
    seeds: int = 1
    folds: int = 1
    methods: int = 2
    training: float = 0.0
    effect: float = 0.0
    structures: str = "plain"


def claims(world: World, simulations: int, seed: int = 0, flips: int = 1000) -> tuple[float, bool]:
    """Share of simulated comparisons that claim any foreground difference, and whether the claim is about methods.

    Claims as `segment compare` does at level 0.95, but for the interval of trained models, which only removes claims.
    """
    folds = np.repeat(np.arange(world.folds), -(-world.scans // world.folds))[: world.scans]
    about_methods = world.folds >= FEWEST_FOLDS or world.seeds > 1
    random, found = np.random.default_rng(seed), 0
    for start in range(0, simulations, _AT_ONCE):
        scores = list(_scores(world, min(_AT_ONCE, simulations - start), folds, random))
        if _scarce(scores[0]):
            continue
        pairs = [contributions(*pair, np.arange(world.scans)) for pair in itertools.combinations(scores, 2)]
        p = _p(world, [_foreground(pair) for pair in pairs], folds, flips)
        found += int((np.min(p, axis=0) * len(p) < ALPHA).sum())  # Holm's first step
    return found / simulations, about_methods


def _p(world: World, pairs: list[Contributions], folds: np.ndarray, flips: int) -> list[np.ndarray]:
    """p-values of the foreground, as `segment.evaluation.comparison.pairs` puts them together."""
    means = [pairs[0].seed_means[0], *(pair.seed_means[1] for pair in pairs[: world.methods - 1])]
    training = training_variance(means) if world.methods > 2 and world.seeds > 1 else None
    found = []
    for pair in pairs:
        p = sign_flip_test(pair.flips, flips)[0]
        if world.folds >= FEWEST_FOLDS:
            p = np.maximum(p, two_sided(pair.difference, by_folds(pair, folds, 1 / (world.folds - 1))))
        elif world.seeds > 1:
            p = np.maximum(p, two_sided(pair.difference, by_seeds(pair, training)))
        found.append(p)
    return found


def _foreground(found: Contributions) -> Contributions:
    one, other = (means[..., 0] for means in found.seed_means)
    return Contributions(found.difference[..., 0], found.flips[..., 0], found.influences[..., 0], (one, other))


def _scarce(scores: np.ndarray) -> bool:
    here = np.isfinite(scores[:, 0, 0, 1]).sum()
    return bool(here < min(FEWEST_SCANS, len(scores)))


def _scores(world: World, number: int, folds: np.ndarray, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Scores of every method ``(scans, seeds, simulations, 2 labels)``."""
    scans, seeds = world.scans, world.seeds
    shape = (scans, seeds, number)
    difficulty = random.normal(0.85, 0.05, (scans, 1, number))
    lesion = random.beta(1.5, 2.5, (scans, 1, number))
    holds = np.arange(scans) % {"plain": 1, "invented": 2, "rare": 10}[world.structures] == 0
    prone = random.uniform(0, 2 / 3, (scans, 1, number))  # a scan in which one invents, others do too
    for method in range(world.methods):
        training = random.normal(0, world.training, (world.folds, seeds, number))[folds]
        own = random.normal(0, SCAN_SD / np.sqrt(2), (scans, 1, number))
        common = world.effect * (method == 0) + training + own
        organ = difficulty + common + random.normal(0, 0.01, shape)
        if world.structures == "plain":
            second = difficulty + common + random.normal(0, 0.01, shape)
        else:
            second = lesion + common + random.normal(0, 0.1, (scans, 1, number)) + random.normal(0, 0.02, shape)
            empty = np.where(random.random(shape) < prone, 0.0, np.nan) if world.structures == "invented" else np.nan
            second = np.where(holds[:, None, None], second, empty)
        yield np.stack([organ, second], axis=-1)


def table(simulations: int) -> Iterator[str]:
    """Lines of the table of claims without a difference, then of power."""
    yield "claims in % where no method differs; * these trained models only, which do differ if training varies"
    yield f"{'structures':10} {'methods':>7} {'scans':>5} {'folds':>5} {'sd':>5}  " + "".join(
        f"{f'{seeds} seeds':>9}" for seeds in (1, 2, 3, 5)
    )
    for structures, methods in (("plain", 2), ("plain", 5), ("invented", 2), ("rare", 2)):
        for scans, folds, training in itertools.product((10, 52, 260), (1, 5), (0.0, 0.002, 0.004)):
            worlds = [World(scans, seeds, folds, methods, training, 0.0, structures) for seeds in (1, 2, 3, 5)]
            cells = [_cell(*claims(world, simulations)) for world in worlds]
            yield f"{structures:10} {methods:7} {scans:5} {folds:5} {training:5.3f}  " + "".join(cells)
    yield f"\nfound in % where the first method is better by one sd of the paired difference ({SCAN_SD})"
    for folds, training in itertools.product((1, 5), (0.0, 0.002, 0.004)):
        worlds = [World(52, seeds, folds, 2, training, SCAN_SD) for seeds in (1, 2, 3, 5)]
        cells = [_cell(*claims(world, simulations)) for world in worlds]
        yield f"{'plain':10} {2:7} {52:5} {folds:5} {training:5.3f}  " + "".join(cells)


def _cell(share: float, about_methods: bool) -> str:
    return f"{100 * share:8.1f}{' ' if about_methods else '*'}"
