"""Whether scans are distributed as those of a reference: tests by feature and by a classifier, charts over time.

- **By feature.** The two-sample test of Kolmogorov and Smirnov for each feature. A value that is missing, such as the
  place of an absent structure, is left out of its feature's test.
- **By a classifier.** Logistic regression learns on one half of each sample to tell the samples apart; on the other
  half its scores are compared by Mann and Whitney's test. It sees shifts of several features together (Lopez-Paz and
  Oquab 2017, "Revisiting classifier two-sample tests", https://arxiv.org/abs/1610.06545).
- **The encoder.** The same classifier on the features of the network's encoder alone (Rabanser et al. 2019, "Failing
  loudly", https://arxiv.org/abs/1810.11953, test what a network makes of its input).
- **Categories**, such as the scanner's model: Pearson's chi-squared of the table, by simulation with its margins fixed.
- **Expected quality.** The lowest point of the chart of the expected Dice, in units of its limits, among those of
  random permutations of both samples: one-sided, and sensitive to a fall that begins late.
- All p-values are corrected together (Holm): without a shift the probability of an alarm is at most the level.
- **Over time.** Exponentially weighted moving averages (Roberts 1959) of each feature in units of the reference; they
  say when a shift began and, but for the expected Dice, raise no alarm themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.signal import lfilter
from scipy.stats import MonteCarloMethod, chi2_contingency, ks_2samp, mannwhitneyu

from segment.statistics.paired import holm

CLASSIFIER, ENCODER, CHART = "classifier", "encoder", "expected_dice over time"
DRAWS = 19_999
"""Simulated tables and permutations; the smallest p, 1 in 20,000, stays small after a correction for 100 tests."""
EXPECTED = "expected_dice"
"""The feature whose chart is tested."""
_AT_ONCE = 1 << 20  # values that are permuted at once
FEWEST = 10
"""Scans of each sample that a test needs."""
WEIGHT, LIMIT = 0.2, 3.0  # of the newest scan in a moving average; standard deviations of the average to its limits


@dataclass(frozen=True)
class Drift:
    """The test of one feature, or of the classifier.

    Attributes:
        feature: Its name, `CLASSIFIER`, `ENCODER`, `CHART`, or the name of categories and the one that differs most.
        reference: Median of the reference; of a classifier, the 0.5 of a guess; of a category, its share.
        seen: Median of the other sample; of a classifier, the probability that it ranks a seen scan above a reference
            scan; of a category, its share.
        statistic: Largest distance of the distribution functions, in [0, 1]; of a classifier as `seen`; of categories
            half the sum of the differences of shares; of the chart its lowest point, -1 at its limit.
        p: Uncorrected.
        p_holm: Corrected for all tests.
    """

    feature: str
    reference: float
    seen: float
    statistic: float
    p: float
    p_holm: float


Found = tuple[str, float, float, float, float]
"""A `Drift` before the correction."""


@dataclass(frozen=True, eq=False)
class Sample:
    """What is known of the scans of one side.

    Attributes:
        features: ``(scans, features)``, in the order of time; NaN where a value is missing.
        categories: Name to the texts of the scans ``(scans,)``, such as the scanner's model.
        encoder: ``(scans, channels)``, the features of the network's encoder; None if they are not known.
    """

    features: np.ndarray
    categories: Mapping[str, Sequence[str]] = field(default_factory=dict)
    encoder: np.ndarray | None = None


def drifts(features: Sequence[str], reference: Sample, seen: Sample, seed: int = 12345) -> list[Drift]:
    """Test every feature, and all together.

    Args:
        features: Names of the columns; `EXPECTED` has its chart tested too.
        reference: The scans that the others are compared with.
        seen: The others. Categories and the encoder are tested if both sides have them.
        seed: Of the halves of the classifiers, and of simulations.

    Returns:
        The tests in order of p.

    Raises:
        ValueError: If a sample has fewer than `FEWEST` scans.
    """
    ours, theirs = reference.features, seen.features
    if min(len(ours), len(theirs)) < FEWEST:
        raise ValueError(f"{len(ours)} and {len(theirs)} scans are too few; a test needs {FEWEST} of each")
    found = [_by_feature(name, ours[:, i], theirs[:, i]) for i, name in enumerate(features)]
    found.append(_by_classifier(CLASSIFIER, ours, theirs, seed))
    if reference.encoder is not None and seen.encoder is not None:
        found.append(_by_classifier(ENCODER, reference.encoder, seen.encoder, seed))
    shared = sorted(set(reference.categories) & set(seen.categories))
    found += [_by_category(name, reference.categories[name], seen.categories[name], seed) for name in shared]
    if EXPECTED in features:
        place = list(features).index(EXPECTED)
        found.append(_by_chart(ours[:, place], theirs[:, place], seed))
    corrected = holm(np.array([one[-1] for one in found]))
    tests = [Drift(*one, float(p)) for one, p in zip(found, corrected, strict=True)]
    return sorted(tests, key=lambda one: one.p)


def _by_feature(name: str, reference: np.ndarray, seen: np.ndarray) -> Found:
    """The test of one feature."""
    ours, theirs = reference[np.isfinite(reference)], seen[np.isfinite(seen)]
    if min(len(ours), len(theirs)) < FEWEST:
        ours_median = float(np.median(ours)) if len(ours) else np.nan
        return name, ours_median, float(np.median(theirs)) if len(theirs) else np.nan, 0.0, 1.0
    test = ks_2samp(ours, theirs, method="auto")
    return name, float(np.median(ours)), float(np.median(theirs)), float(test.statistic), float(test.pvalue)


def _by_category(name: str, reference: Sequence[str], seen: Sequence[str], seed: int) -> Found:
    """The test of categories."""
    known = sorted({*reference, *seen})
    table = np.array([[list(sample).count(one) for one in known] for sample in (reference, seen)])
    shares = table / table.sum(axis=1, keepdims=True)
    most = int(np.abs(shares[1] - shares[0]).argmax())
    distance = float(np.abs(shares[1] - shares[0]).sum() / 2)
    p = 1.0
    if len(known) > 1:
        method = MonteCarloMethod(n_resamples=DRAWS, rng=np.random.default_rng(seed))
        p = float(chi2_contingency(table, correction=False, method=method).pvalue)
    return f"{name}: {known[most]}", float(shares[0, most]), float(shares[1, most]), distance, p


def _by_chart(reference: np.ndarray, seen: np.ndarray, seed: int) -> Found:
    """The test of the lowest point of a chart of the expected Dice."""
    ours, theirs = reference[np.isfinite(reference)], seen[np.isfinite(seen)]
    if min(len(ours), len(theirs)) < FEWEST:
        return CHART, np.nan, np.nan, 0.0, 1.0
    pool, draw = np.concatenate([ours, theirs]), np.random.default_rng(seed)
    found = _lowest(pool[None], len(ours))[0]
    as_low, step = 0, max(1, _AT_ONCE // len(pool))
    for first in range(0, DRAWS, step):
        rows = draw.permuted(np.broadcast_to(pool, (min(step, DRAWS - first), len(pool))), axis=1)
        as_low += int((_lowest(rows, len(ours)) <= found).sum())
    return CHART, float(np.median(ours)), float(np.median(theirs)), float(found), (as_low + 1) / (DRAWS + 1)


def _lowest(rows: np.ndarray, count: int) -> np.ndarray:
    """The lowest point, in units of the limit, of the charts of rows whose first values are the reference."""
    ours, theirs = rows[:, :count], rows[:, count:]
    spread = np.maximum(ours.std(axis=1, ddof=1, keepdims=True), 1e-9)
    averages = lfilter([WEIGHT], [1, WEIGHT - 1], (theirs - ours.mean(axis=1, keepdims=True)) / spread, axis=1)
    lowest: np.ndarray = (averages / _limits(theirs.shape[1], count)).min(axis=1)
    return lowest


def _by_classifier(name: str, reference: np.ndarray, seen: np.ndarray, seed: int) -> Found:
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
    return name, 0.5, area, area, float(test.pvalue)


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
    averages = lfilter([WEIGHT], [1, WEIGHT - 1], values)
    return Chart(averages, _limits(len(values), max(int(np.isfinite(reference).sum()), 1)))


def _limits(length: int, known: int) -> np.ndarray:
    """The limit of a chart after each of its scans ``(length,)``, given the number of scans of the reference."""
    count = np.arange(1, length + 1)
    # The mean of the reference is known from few scans itself.
    variance = WEIGHT / (2 - WEIGHT) * (1 - (1 - WEIGHT) ** (2 * count)) + 1 / known
    limits: np.ndarray = LIMIT * np.sqrt(variance)
    return limits
