"""Whether scans are distributed as those of a reference: tests by feature and by a classifier, charts over time.

- **By feature.** The two-sample test of Kolmogorov and Smirnov for each feature. A value that is missing, such as the
  place of an absent structure, is left out of its feature's test.
- **By a classifier.** Logistic regression learns on one half of each sample to tell the samples apart; on the other
  half its scores are compared by Mann and Whitney's test. It sees shifts of several features together (Lopez-Paz and
  Oquab 2017, "Revisiting classifier two-sample tests", https://arxiv.org/abs/1610.06545).
- All p-values are corrected together (Holm): without a shift the probability of an alarm is at most the level.
- **Over time.** Exponentially weighted moving averages (Roberts 1959) of each feature in units of the reference; they
  say when a shift began and raise no alarm themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import ks_2samp, mannwhitneyu

from segment.statistics.paired import holm

CLASSIFIER = "classifier"
FEWEST = 10
"""Scans of each sample that a test needs."""
WEIGHT, LIMIT = 0.2, 3.0  # of the newest scan in a moving average; standard deviations of the average to its limits


@dataclass(frozen=True)
class Drift:
    """The test of one feature, or of the classifier.

    Attributes:
        feature: Its name, or `CLASSIFIER`.
        reference: Median of the reference; of the classifier, the 0.5 of a guess.
        seen: Median of the other sample; of the classifier, the probability that it ranks a seen scan above a reference
            scan.
        statistic: Largest distance of the distribution functions, in [0, 1]; of the classifier as `seen`.
        p: Uncorrected.
        p_holm: Corrected for all tests.
    """

    feature: str
    reference: float
    seen: float
    statistic: float
    p: float
    p_holm: float


def drifts(features: Sequence[str], reference: np.ndarray, seen: np.ndarray, seed: int = 12345) -> list[Drift]:
    """Test every feature, and all together.

    Args:
        features: Names of the columns.
        reference: ``(scans, features)``; NaN where a value is missing.
        seen: ``(scans, features)``, likewise.
        seed: Of the halves of the classifier.

    Returns:
        The tests in order of p, the classifier among them.

    Raises:
        ValueError: If a sample has fewer than `FEWEST` scans.
    """
    if min(len(reference), len(seen)) < FEWEST:
        raise ValueError(f"{len(reference)} and {len(seen)} scans are too few; a test needs {FEWEST} of each")
    found = [_by_feature(name, reference[:, i], seen[:, i]) for i, name in enumerate(features)]
    found.append(_by_classifier(reference, seen, seed))
    corrected = holm(np.array([one[-1] for one in found]))
    tests = [Drift(*one, float(p)) for one, p in zip(found, corrected, strict=True)]
    return sorted(tests, key=lambda one: one.p)


def _by_feature(name: str, reference: np.ndarray, seen: np.ndarray) -> tuple[str, float, float, float, float]:
    """The test of one feature."""
    ours, theirs = reference[np.isfinite(reference)], seen[np.isfinite(seen)]
    if min(len(ours), len(theirs)) < FEWEST:
        ours_median = float(np.median(ours)) if len(ours) else np.nan
        return name, ours_median, float(np.median(theirs)) if len(theirs) else np.nan, 0.0, 1.0
    test = ks_2samp(ours, theirs, method="auto")
    return name, float(np.median(ours)), float(np.median(theirs)), float(test.statistic), float(test.pvalue)


def _by_classifier(reference: np.ndarray, seen: np.ndarray, seed: int) -> tuple[str, float, float, float, float]:
    """The test of all features together, on the halves that the classifier has not learnt on."""
    from sklearn.linear_model import LogisticRegression

    centre, scale = _scale(reference)
    values = np.nan_to_num(np.clip((np.concatenate([reference, seen]) - centre) / scale, -10, 10))
    is_seen = np.repeat([False, True], [len(reference), len(seen)])
    draw = np.random.default_rng(seed)
    learn = np.zeros(len(values), bool)
    for sample in (np.flatnonzero(~is_seen), np.flatnonzero(is_seen)):
        learn[draw.permutation(sample)[: len(sample) // 2]] = True
    model = LogisticRegression(C=0.1, class_weight="balanced", max_iter=500).fit(values[learn], is_seen[learn])
    scores = model.decision_function(values[~learn])
    theirs, ours = scores[is_seen[~learn]], scores[~is_seen[~learn]]
    test = mannwhitneyu(theirs, ours, alternative="greater")
    area = float(test.statistic) / (len(theirs) * len(ours))
    return CLASSIFIER, 0.5, area, area, float(test.pvalue)


def _scale(reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre and standard deviation of each feature; a feature that does not vary has a hundredth of its value."""
    counts = np.isfinite(reference).sum(axis=0)
    total = np.where(np.isfinite(reference), reference, 0).sum(axis=0)
    centre = total / np.maximum(counts, 1)
    squares = np.where(np.isfinite(reference), (reference - centre) ** 2, 0).sum(axis=0)
    spread = np.sqrt(squares / np.maximum(counts - 1, 1))
    varies = spread > 1e-6 * np.abs(centre)
    return centre, np.where(varies, spread, np.maximum(0.01 * np.abs(centre), 1e-9))


def outlyingness(reference: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Distance of each value from the reference's mean in standard deviations ``(scans, features)``; 0 if missing."""
    centre, scale = _scale(reference)
    return np.nan_to_num((seen - centre) / scale)


@dataclass(frozen=True, eq=False)
class Chart:
    """A control chart of one feature.

    Attributes:
        averages: Moving average after each scan, in standard deviations of the reference.
        limits: Its upper limit after each scan; the lower one is the negative.
    """

    averages: np.ndarray
    limits: np.ndarray

    @property
    def first_out(self) -> int | None:
        """Index of the first scan from which the average has stayed outside its limits; None if it is inside."""
        inside = np.flatnonzero(np.abs(self.averages) <= self.limits)
        start = int(inside[-1]) + 1 if len(inside) else 0
        return start if start < len(self.averages) else None


def control_chart(reference: np.ndarray, seen: np.ndarray) -> Chart:
    """The chart of one feature.

    Args:
        reference: Values of the reference ``(scans,)``.
        seen: Values in the order of time ``(scans,)``; a missing one counts as the reference's mean.
    """
    values = outlyingness(reference[:, None], seen[:, None])[:, 0]
    averages = np.zeros(len(values))
    last = 0.0
    for index, value in enumerate(values):
        last = averages[index] = WEIGHT * value + (1 - WEIGHT) * last
    count = np.arange(1, len(values) + 1)
    known = int(np.isfinite(reference).sum())
    # The mean of the reference is known from few scans itself.
    variance = WEIGHT / (2 - WEIGHT) * (1 - (1 - WEIGHT) ** (2 * count)) + 1 / max(known, 1)
    return Chart(averages, LIMIT * np.sqrt(variance))
