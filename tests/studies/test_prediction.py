"""The interval of measured minus published figures, on simulated studies of one recipe: nine in ten contain zero."""

from dataclasses import replace

import numpy as np
import pytest

from segment.studies.figures import ALL, Measured, Published
from segment.studies.verdict import NO_RULES, judge

STUDIES = 1500
FIGURE = Published("net", "Net", "balls", "", "dice", "liver", "", ".9", "", 1, "0.5", "none", "A paper", "read")
ROW = Measured(
    "net", ALL, "dice", "liver", 0.9, 0.03, None, None, 20, 0, 1000, None, "", "", "", "2026-11-23", "", ""
)  # fmt: skip
SAME = replace(NO_RULES, same_scans=[{"run": "*", "reason": "the official test set"}])


def scores(generator, scans, trainings, training=0.002):
    """Scores (scans, trainings) of one recipe on given scans; `scans` are their effects."""
    rest = generator.normal(0, 0.01, (len(scans), trainings))
    return 0.9 + scans[:, None] + generator.normal(0, training, trainings) + rest


def coverage(study) -> float:
    generator = np.random.default_rng(0)
    intervals = np.array([study(generator).interval for _ in range(STUDIES)])
    return float(((intervals[:, 0] < 0) & (intervals[:, 1] > 0)).mean())


def of_seeds(generator, seeds, scans, same):
    effects = generator.normal(0, 0.03, scans)
    ours = scores(generator, effects, seeds)
    theirs = scores(generator, effects if same else generator.normal(0, 0.03, scans), 1).mean()
    rows = [
        replace(ROW, seed=seed, value=own.mean(), sd=own.std(ddof=1), scans=scans) for seed, own in enumerate(ours.T)
    ]
    return judge(replace(FIGURE, value=repr(float(theirs))), rows, [], SAME if same else NO_RULES)


def of_folds(generator, seeds, given, same):
    """Five folds of 20 scans; `given`: whether the published figure of every fold is known."""
    rows, figures = [], []
    for fold in range(5):
        effects = generator.normal(0, 0.03, 20)
        ours = scores(generator, effects, seeds).mean(axis=0)
        rows += [replace(ROW, fold=str(fold), seed=seed, value=value) for seed, value in enumerate(ours)]
        theirs = scores(generator, effects if same else generator.normal(0, 0.03, 20), 1).mean()
        figures.append(replace(FIGURE, fold=str(fold), value=repr(float(theirs))))
    whole = replace(FIGURE, value=repr(float(np.mean([float(figure.value) for figure in figures]))))
    return judge(whole, rows, figures if given else [], SAME if same else NO_RULES)


@pytest.mark.parametrize(
    ("study", "most"),
    [
        (lambda generator: of_seeds(generator, 3, 20, same=True), 0.92),
        (lambda generator: of_seeds(generator, 5, 50, same=True), 0.92),
        # The rest of scans and trainings is in the variance over scans and in that between seeds.
        (lambda generator: of_seeds(generator, 3, 20, same=False), 0.94),
        (lambda generator: of_seeds(generator, 5, 50, same=False), 0.94),
        (lambda generator: of_folds(generator, 1, given=True, same=True), 0.92),
        (lambda generator: of_folds(generator, 3, given=False, same=True), 0.92),
        (lambda generator: of_folds(generator, 1, given=False, same=False), 0.92),
        # The difficulty of the folds' scans cannot be taken out of one seed each.
        (lambda generator: of_folds(generator, 1, given=False, same=True), 1.0),
    ],
    ids=[
        "3 seeds, same scans", "5 seeds, same scans", "3 seeds, other scans", "5 seeds, other scans",
        "a figure of each fold", "3 seeds of each fold", "a mean over other folds", "a mean over the same folds",
    ],
)  # fmt: skip
def test_nine_in_ten_intervals_contain_the_true_difference(study, most):
    assert 0.88 <= coverage(study) <= most
