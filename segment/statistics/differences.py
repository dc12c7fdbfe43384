"""How sure the difference between two methods is: the statistical model behind `segment compare`.

**Estimate.** The mean of one training on a structure is the mean over the scans that have a score; the foreground is
the mean over labels of these means, over the labels that every training scored; a method is the mean over its trainings
(seeds). An empty reference borrows no value from another seed or method: a training that leaves it empty has no score
there, one that invents the structure has the score of an invented structure (0 for Dice).

**Units.** Scans of one patient, film or block are not independent. Contributions to the difference are summed over such
a group, and groups, not scans, are resampled and tested. One group allows no statement beyond it.

**Test over groups.** Swapping the two methods on one group changes the sign of its contribution. The sign-flip
permutation test compares the printed difference with those of all such swaps; it holds for any distribution, but only
for the trainings that were compared.

**Training.** A statement about methods needs the variance between trainings:

- `by_seeds`, at least two seeds of both methods: variance over groups plus the variance of each method's seed means,
  divided by its seeds; Student's t with Satterthwaite's degrees of freedom, at most those of the groups. The residual
  (scan times training) is counted in both parts, so the test is slightly conservative. Among several methods, the
  variance of a pair's trainings is at least that pooled over all of them.
- `by_folds`, at least three folds: variance between the folds' differences times ``1 / folds + n_test / n_train``,
  since trainings of different folds share scans (Nadeau and Bengio 2003; Bouckaert and Frank 2004), with folds - 1
  degrees of freedom.

With neither, the statement is about the trained models. p is the larger of the two tests', so it is valid for both.

**Equivalence.** Two one-sided tests against a smallest relevant difference (Schuirmann 1987), from the same standard
error. Means over scans of one method use the bias-corrected accelerated bootstrap, see `segment.statistics.bootstrap`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, t

EXACT = 13
"""Up to this number of groups all sign flips are enumerated."""

FEWEST_FOLDS = 3
_ENOUGH = 10  # exceedances from which a simulated p-value is precise
_VALUES_AT_ONCE = 4_000_000


@dataclass(frozen=True, eq=False)
class Contributions:
    """What every group of scans contributes to differences between two methods.

    Attributes:
        difference: First mean minus second ``(P, 1 + labels)``, foreground first; NaN where undefined.
        flips: ``(groups, P, 1 + labels)``; they add up to `difference` and change sign if the methods are swapped.
        influences: The same shape; they add up to 0: change of the difference with the weight of a group.
        seed_means: For both methods, ``(seeds, P, 1 + labels)``: the means of every training.
    """

    difference: np.ndarray
    flips: np.ndarray
    influences: np.ndarray
    seed_means: tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Errors:
    """Standard errors of differences and their degrees of freedom, arrays of one shape."""

    error: np.ndarray
    freedom: np.ndarray


@dataclass(frozen=True, eq=False)
class Variance:
    """An estimated variance, an array, and its degrees of freedom."""

    value: np.ndarray
    freedom: float


def contributions(
    one: np.ndarray, other: np.ndarray, groups: np.ndarray, kept: np.ndarray | None = None
) -> Contributions:
    """Split differences between pairs of methods into contributions of groups of scans.

    Args:
        one: Scores of the first method of each pair ``(scans, seeds, P, labels)``; NaN where there is no score.
        other: Scores of the second; its number of seeds may differ.
        groups: Group of every scan ``(scans,)``, integers from 0.
        kept: The labels of the foreground ``(labels,)`` or ``(P, labels)``; None: those that every training scored.
    """
    present = [np.isfinite(side) for side in (one, other)]
    scores = [np.where(there, side, 0.0) for there, side in zip(present, (one, other), strict=True)]
    totals = [side.sum(axis=0) for side in scores]
    counts = [there.sum(axis=0) for there in present]
    scored = np.all([(count > 0).all(axis=0) for count in counts], axis=0)
    kept = scored if kept is None else np.broadcast_to(kept, scored.shape)
    means = [_ratio(total, count) for total, count in zip(totals, counts, strict=True)]
    difference = means[0].mean(axis=0) - means[1].mean(axis=0)
    scores, present = ([side.mean(axis=1) for side in sides] for sides in (scores, present))
    sums, sizes = ([side.sum(axis=0) for side in sides] for sides in (scores, present))
    own = [
        _ratio(score - _ratio(s, n) * there, n) for score, there, s, n in zip(scores, present, sums, sizes, strict=True)
    ]
    size = sizes[0] + sizes[1]
    middle = _ratio(sums[0] + sums[1], size)
    flips = _ratio(2 * (scores[0] - scores[1] - middle * (present[0] - present[1])), size)
    # Where one method invents structures, their numbers of scores differ, and so do the sums from the differences.
    total = flips.sum(axis=0)
    flips = flips * np.where(np.abs(total) > 1e-12, _ratio(difference, total, np.abs(total) > 1e-12), 1.0)
    member = groups[None] == np.arange(groups.max() + 1)[:, None]
    return Contributions(
        difference=_with_foreground(difference, kept),
        flips=_with_foreground(_summed(member, flips), kept),
        influences=_with_foreground(_summed(member, own[0] - own[1]), kept),
        seed_means=(_with_foreground(means[0], kept), _with_foreground(means[1], kept)),
    )


def sign_flip_test(flips: np.ndarray, draws: int = 10_000, seed: int = 12345) -> tuple[np.ndarray, np.ndarray]:
    """Paired sign-flip permutation test of sums.

    All flips are enumerated up to `EXACT` groups, else `draws` are drawn. Too few of them exceed a very large sum for a
    precise p-value; there it is the normal tail, which bounds that of a sum of random signs (Pinelis 1994).

    Args:
        flips: Contributions ``(groups, columns)``.
        draws: Number of random flips.
        seed: Random seed.

    Returns:
        Two-sided p-values ``(columns,)``, 1 where nothing differs and NaN where a contribution is NaN; and the smallest
        p-value that each could have reached, 2 to the power of 1 - (groups that differ).
    """
    groups = len(flips)
    least = np.minimum(1.0, 2.0 ** (1 - (np.abs(flips) > 1e-12).sum(axis=0)))
    total = np.abs(flips.sum(axis=0))
    threshold = total - 1e-9 * np.maximum(np.abs(flips).sum(axis=0), 1e-3)
    exact = groups <= EXACT
    rows = 2 ** max(0, groups - 1) if exact else draws
    generator = np.random.default_rng(seed)
    exceeding = np.zeros(flips.shape[1])
    step = max(1, _VALUES_AT_ONCE // max(groups, flips.shape[1], 1))
    for start in range(0, rows, step):
        numbers = np.arange(start, min(start + step, rows))
        drawn = (
            (numbers[:, None] >> np.arange(groups)) & 1 if exact else generator.integers(0, 2, (len(numbers), groups))
        )
        exceeding += (np.abs((1.0 - 2.0 * drawn) @ np.nan_to_num(flips)) >= threshold).sum(axis=0)
    p = exceeding / rows if exact else (exceeding + 1) / (rows + 1)
    if not exact:
        scale = np.sqrt((flips**2).sum(axis=0))
        tail = 2 * norm.sf(np.divide(total, scale, out=np.zeros_like(total), where=scale > 0))
        p = np.where(exceeding < _ENOUGH, np.minimum(p, np.maximum(tail, least)), p)
    return np.where(np.isfinite(total), np.maximum(p, least), np.nan), least


def by_groups(found: Contributions) -> Errors:
    """Standard errors over groups of scans, for fixed trainings; NaN with one group."""
    groups = len(found.influences)
    factor = groups / (groups - 1) if groups > 1 else np.nan
    square = factor * (found.influences**2).sum(axis=0)
    return Errors(np.sqrt(square), np.full(square.shape, max(1.0, groups - 1.0)))


def training_variance(seed_means: Sequence[np.ndarray]) -> Variance:
    """Variance between trainings of one method, pooled over the methods that have several.

    Args:
        seed_means: For every method, the means of its trainings ``(seeds, ...)``.
    """
    several = [means for means in seed_means if len(means) > 1]
    freedom = sum(len(means) - 1 for means in several)
    return Variance(sum(means.var(axis=0) * len(means) for means in several) / freedom, float(freedom))


def by_seeds(found: Contributions, pooled: Variance | None = None) -> Errors:
    """Standard errors over groups of scans and trainings, from at least two seeds of both methods.

    Args:
        found: The contributions.
        pooled: The variance between trainings pooled over more methods than these two. Of many pairs, some have seeds
            that lie close by chance; the variance of a pair's trainings is not taken to be smaller than this.
    """
    groups = by_groups(found)
    parts = [means.var(axis=0, ddof=1) / len(means) for means in found.seed_means]
    training = parts[0] + parts[1]
    quartic = sum(part**2 / (len(means) - 1) for part, means in zip(parts, found.seed_means, strict=True))
    if pooled is not None:
        least = pooled.value * sum(1 / len(means) for means in found.seed_means)
        quartic = np.where(training > least, quartic, least**2 / pooled.freedom)
        training = np.maximum(training, least)
    square = groups.error**2 + training
    uncertain = groups.error**4 / groups.freedom + quartic
    freedom = np.divide(square**2, uncertain, out=np.copy(groups.freedom), where=uncertain > 0)
    return Errors(np.sqrt(square), np.minimum(groups.freedom, freedom))


def by_folds(found: Contributions, folds: np.ndarray, test_per_train: float) -> Errors:
    """Standard errors over folds, corrected for the scans that their trainings share.

    Args:
        found: The contributions.
        folds: Fold of every group ``(groups,)``.
        test_per_train: Test scans of a fold divided by its training scans.
    """
    numbers = np.unique(folds)
    shares = [(folds == number).mean() for number in numbers]
    apart = [found.influences[folds == n].sum(axis=0) / share for n, share in zip(numbers, shares, strict=True)]
    square = np.sum(np.square(apart), axis=0) / (len(numbers) - 1)
    return Errors(np.sqrt((1 / len(numbers) + test_per_train) * square), np.full(square.shape, float(len(numbers) - 1)))


def two_sided(difference: np.ndarray, errors: Errors) -> np.ndarray:
    """p-values of Student's t test of no difference; 1 where there is no difference and no error."""
    return np.where(difference == 0, 1.0, 2 * t.sf(np.abs(_statistic(difference, errors)), errors.freedom))


def intervals(difference: np.ndarray, errors: Errors, level: float) -> np.ndarray:
    """Student's t intervals ``(..., 2)``."""
    half = t.ppf((1 + level) / 2, errors.freedom) * errors.error
    return np.stack([difference - half, difference + half], axis=-1)


def at_least(difference: np.ndarray, errors: Errors, margin: float) -> np.ndarray:
    """p-values of the one-sided test that the true difference is above ``-margin`` (non-inferiority of the first)."""
    p: np.ndarray = t.sf(_statistic(difference + margin, errors), errors.freedom)
    return p


def within(difference: np.ndarray, errors: Errors, margin: float) -> np.ndarray:
    """p-values of two one-sided tests that the true difference lies within ``-margin`` to ``margin`` (equivalence)."""
    return np.maximum(at_least(difference, errors, margin), at_least(-difference, errors, margin))


def _statistic(value: np.ndarray, errors: Errors) -> np.ndarray:
    """Value / error; infinite where the error is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found: np.ndarray = np.where(value == 0, 0.0, value / errors.error)
    return np.where(np.isfinite(errors.error), found, np.nan)


def _ratio(sums: np.ndarray, counts: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
    """Sums / counts; NaN where the count is 0."""
    shape = np.broadcast_shapes(np.shape(sums), np.shape(counts))
    out = np.full(shape, np.nan)
    return np.divide(sums, counts, out=out, where=np.broadcast_to(counts > 0 if where is None else where, shape))


def _summed(member: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sums over the scans of every group; `values` are (scans, P, labels)."""
    flat = member.astype(np.float64) @ values.reshape(len(values), -1)
    return flat.reshape(len(member), *values.shape[1:])


def _with_foreground(values: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Put the mean over the kept labels ``(P, labels)`` before the labels on the last axis."""
    number = kept.sum(axis=-1)
    mean = _ratio(np.where(kept, values, 0.0).sum(axis=-1), number)
    return np.concatenate([mean[..., None], values], axis=-1)
