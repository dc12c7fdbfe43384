"""The comparison of methods: its intervals and claims, ranking, variance and sentence."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from finished_runs import scores_like_dice
from scipy.stats import bootstrap, norm, permutation_test, wilcoxon

from segment.evaluation.comparison.compare import compare
from segment.evaluation.comparison.methods import Method, Methods, read_methods
from segment.evaluation.comparison.result import Comparison
from segment.evaluation.comparison.tables import text_report
from segment.metrics.metric import MetricInfo
from segment.metrics.standard import LEAD, info_of_column
from segment.statistics.bootstrap import bootstrap_interval
from segment.statistics.variance import variance_components


def method(name: str, *repeats: np.ndarray, folds: np.ndarray | None = None) -> Method:
    """A method with the given scores of its seeds."""
    cases = [("val", f"scan_{index:03d}") for index in range(len(repeats[0]))]
    index = pd.MultiIndex.from_tuples(cases, names=["split", "case"])
    columns = [f"label_{number}" for number in range(repeats[0].shape[1])]
    tables = tuple(pd.DataFrame(repeat, index, columns) for repeat in repeats)
    folds = np.zeros(len(index), int) if folds is None else folds
    scored = np.isfinite(repeats).any(axis=0)
    shown = np.where(np.isnan(repeats) & scored, 1.0, repeats).mean(axis=0)
    mean = pd.DataFrame(shown, index, columns)
    return Method(name, (), mean, tables, folds, len(repeats), tuple(np.unique(folds).tolist()), {})


def compared(*methods: Method, metric: MetricInfo = LEAD, **options) -> Comparison:
    return compare(Methods(methods, {}, 0, metric), **options)


def test_difference_interval_and_p_of_a_pair_equal_scipys():
    first, second = scores_like_dice(30, 2, 1, 0.01), scores_like_dice(30, 2, 2)
    for structure, columns in (("foreground", slice(None)), ("label_1", slice(1, 2))):
        difference = (first - second)[:, columns].mean(axis=1)
        pair = compared(method("A", first), method("B", second), resamples=40_000).pair("A", "B", structure)
        theirs = bootstrap((difference,), np.mean, n_resamples=40_000, method="BCa", rng=1).confidence_interval
        np.testing.assert_allclose(pair.interval, theirs, atol=0.03 * (theirs.high - theirs.low))
        assert pair.difference == pytest.approx(difference.mean())
        assert pair.p_wilcoxon == pytest.approx(wilcoxon(difference).pvalue)
        flips = permutation_test((difference,), np.mean, permutation_type="samples", n_resamples=20_000, rng=1)
        assert pair.p == pytest.approx(flips.pvalue, rel=0.2)
        assert (pair.won, pair.lost) == ((difference > 0).sum(), (difference < 0).sum())


def test_comparison_of_task04_runs_equals_scipys():
    files = sorted((Path(__file__).parent / "task04_scores").glob("*.csv"))
    result = compare(read_methods([str(file) for file in files]), resamples=20_000)
    tables = [pd.read_csv(file).pivot(index="case", columns="name", values="dice") for file in files]
    own = dict(zip([method.name for method in result.methods], tables, strict=True))
    assert len(result.pairs) == 15 * 3
    families: dict[bool, list] = {True: [], False: []}
    for pair in result.pairs:
        columns = slice(None) if pair.structure == "foreground" else [pair.structure]
        difference = (own[pair.first] - own[pair.second]).loc[:, columns].mean(axis=1)
        test = wilcoxon(difference)
        assert pair.difference == pytest.approx(difference.mean())
        assert pair.p_wilcoxon == pytest.approx(test.pvalue)
        assert (pair.won, pair.tied, pair.lost) == tuple((np.sign(difference) == sign).sum() for sign in (1, 0, -1))
        theirs = bootstrap((difference,), np.mean, n_resamples=20_000, method="BCa", rng=1).confidence_interval
        np.testing.assert_allclose(pair.interval, theirs, atol=0.05 * (theirs.high - theirs.low))
        families[pair.structure == "foreground"].append((pair.p, pair.p_holm))
    for family in families.values():
        p, corrected = np.array(family).T
        order = np.argsort(p)
        expected = np.maximum.accumulate(np.minimum(1, p[order] * np.arange(len(p), 0, -1)))
        np.testing.assert_allclose(corrected[order], expected)


def test_paired_interval_detects_a_difference_hidden_by_overlapping_intervals():
    first = scores_like_dice(40, 2, 1)
    result = compared(method("A", first), method("B", first - 0.004 - 0.002 * np.random.default_rng(0).random((40, 2))))
    own = [result.estimates[name]["foreground"].interval for name in "AB"]
    assert own[0][0] < own[1][1]
    assert result.pair("A", "B").significant


def test_interval_of_a_method_equals_the_summary_of_its_run():
    scores = scores_like_dice(25, 3, 1)
    result = compared(method("A", scores), method("B", scores_like_dice(25, 3, 2)))
    assert result.estimates["A"]["foreground"].interval == pytest.approx(bootstrap_interval(scores))
    assert result.estimates["A"]["label_2"].interval == pytest.approx(bootstrap_interval(scores[:, 2]))


def test_missing_scores_are_ignored_and_intervals_stay_defined():
    first, second = scores_like_dice(12, 2, 1), scores_like_dice(12, 2, 2)
    first[2:, 1] = second[2:, 1] = np.nan  # a structure that two scans have: many resamples hold none of it
    result = compared(method("A", first), method("B", second))
    score = result.estimates["A"]["label_1"]
    assert (score.mean, score.n) == (pytest.approx(first[:2, 1].mean()), 2)
    assert result.estimates["A"]["foreground"].mean == pytest.approx((first[:, 0].mean() + first[:2, 1].mean()) / 2)
    low, high = result.pair("A", "B", "label_1").interval
    assert np.isfinite([low, high]).all()
    first[:, 1] = second[:, 1] = np.nan
    pair = compared(method("A", first), method("B", second)).pair("A", "B", "label_1")
    assert (pair.p, pair.interval, pair.difference, pair.n, pair.significant) == (None, None, None, 0, False)


def test_many_small_gains_do_not_outweigh_a_few_large_losses():
    second = scores_like_dice(40, 1, 1)
    first = second + 0.005 + 0.001 * np.random.default_rng(0).random((40, 1))
    first[:3] -= 0.4
    pair = compared(method("A", first), method("B", second)).pair("A", "B")
    assert pair.p_wilcoxon < 0.01
    assert pair.effect > 0 > pair.difference
    assert pair.p > 0.05
    assert (pair.significant, pair.opposite) == (False, True)


def test_holm_corrects_the_foreground_over_pairs_and_the_labels_over_pairs_and_labels():
    methods = [method(name, scores_like_dice(30, 2, seed, 0.003 * seed)) for seed, name in enumerate("ABC")]
    result = compared(*methods)
    foreground = sorted((pair for pair in result.pairs if pair.structure == "foreground"), key=lambda pair: pair.p)
    labels = sorted((pair for pair in result.pairs if pair.structure != "foreground"), key=lambda pair: pair.p)
    assert foreground[0].p_holm == pytest.approx(min(1, 3 * foreground[0].p))
    assert labels[0].p_holm == pytest.approx(min(1, 6 * labels[0].p))
    assert [len(foreground), len(labels)] == [3, 6]


def test_ranking_and_its_stability():
    clear, close = scores_like_dice(40, 2, 1, 0.1, 0.01), scores_like_dice(40, 2, 2)
    result = compared(method("close", close), method("same", close), method("best", clear)).ranking
    assert result.names == ("best", "close", "same")
    assert result.ranks == (1, 2, 2)
    assert result.intervals == ((1, 1), (2, 2), (2, 2))
    np.testing.assert_array_equal(result.shares, [[1, 0, 0], [0, 1, 0], [0, 1, 0]])
    assert result.tau == pytest.approx(1)
    two = compared(method("A", scores_like_dice(20, 2, 1)), method("B", scores_like_dice(20, 2, 2))).ranking
    # The share of resamples that A leads is the chance that a normal of that mean and spread is above 0.
    difference = (scores_like_dice(20, 2, 1) - scores_like_dice(20, 2, 2)).mean(axis=1)
    expected = norm.cdf(abs(difference.mean()) / (difference.std() / np.sqrt(20)))
    assert two.shares[0, 0] == pytest.approx(expected, abs=0.02)
    assert two.tau == pytest.approx(2 * two.shares[0, 0] - 1, abs=0.01)


def test_smallest_distance_ranks_first():
    near, far = np.full((9, 1), 2.0), np.full((9, 1), 5.0) + np.arange(9)[:, None] / 10
    result = compared(method("far", far), method("near", near), metric=info_of_column("hd95_mm"))
    assert result.ranking.names == ("near", "far")
    assert result.conclusion.startswith(
        "Of these two trained models, near is better than far: foreground HD95 (mm) lower by 3.4000 (95 % interval 3."
    )
    assert result.pair("near", "far").effect == 1


def simulated(folds: int, scans: int, seeds: int, sd: dict[str, float], generator) -> tuple[np.ndarray, np.ndarray]:
    fold = generator.normal(0, sd["fold"], folds)[:, None, None]
    run = generator.normal(0, sd["seed"], (folds, 1, seeds))
    scan = generator.normal(0, sd["scan"], (folds, scans, 1))
    scores = 0.8 + fold + run + scan + generator.normal(0, sd["rest"], (folds, scans, seeds))
    return scores.reshape(-1, seeds), np.repeat(np.arange(folds), scans)


def test_variance_components_are_recovered():
    generator = np.random.default_rng(0)
    sd = {"scan": 0.05, "fold": 0.03, "seed": 0.02, "rest": 0.06}
    found = [variance_components(*simulated(5, 20, 3, sd, generator)) for _ in range(300)]
    for name, expected in sd.items():
        assert np.mean([getattr(one, name) for one in found]) == pytest.approx(expected**2, rel=0.1)


def test_variance_components_of_one_seed_or_fold_are_undefined():
    generator = np.random.default_rng(0)
    sd = {"scan": 0.05, "fold": 0.02, "seed": 0.015, "rest": 0.01}
    found = [variance_components(*simulated(5, 20, 1, sd, generator)) for _ in range(300)]
    assert found[0].seed is found[0].rest is None
    assert np.mean([one.scan for one in found]) == pytest.approx(sd["scan"] ** 2 + sd["rest"] ** 2, rel=0.1)
    assert np.mean([one.fold for one in found]) == pytest.approx(sd["fold"] ** 2 + sd["seed"] ** 2, rel=0.15)
    assert variance_components(*simulated(1, 20, 3, sd, generator)).fold is None
    empty = variance_components(np.full((3, 2), np.nan), np.zeros(3))
    assert empty.scan is None


@pytest.mark.parametrize(("apart", "significant"), [(0.05, False), (0.002, True)])
def test_difference_within_the_variance_of_seeds_is_not_significant(apart, significant):
    base, noise = scores_like_dice(40, 2, 1) - 0.1, 0.002 * np.random.default_rng(0).standard_normal((40, 2))
    first = [base + 0.02 + shift + noise for shift in (apart, -apart)]
    result = compared(method("A", *first), method("B", base, base + 0.001))
    pair = result.pair("A", "B")
    assert pair.scope == "methods"
    assert pair.significant is significant
    assert result.conclusion.startswith("A is better than B" if significant else "No significant difference between A")
    assert result.conclusion.endswith("2 seeds each).")


def test_variance_is_shown_only_for_methods_with_several_trainings():
    several = method("several", scores_like_dice(20, 2, 1), scores_like_dice(20, 2, 2))
    result = compared(several, method("one", scores_like_dice(20, 2, 3)))
    assert list(result.variances) == ["several"]
    assert result.variances["several"].seed is not None


def test_conclusion_states_its_evidence():
    first = scores_like_dice(52, 2, 1, 0.02)
    result = compared(method("mednext_s", first), method("unet_small", scores_like_dice(52, 2, 2)))
    pair = result.pair("mednext_s", "unet_small")
    assert result.conclusion == (
        f"Of these two trained models, mednext_s is better than unet_small: foreground Dice higher by "
        f"{pair.difference:.4f} (95 % interval {pair.interval[0]:.4f} to {pair.interval[1]:.4f}; p < 0.0001; 52 scans "
        "of split val, fold 0; one seed each, so another training may differ)."
    )
    turned = compared(method("A", scores_like_dice(52, 2, 2)), method("B", first))
    assert f", B is better than A: foreground Dice higher by {pair.difference:.4f} (95 %" in turned.conclusion


def test_pairs_with_long_names_are_named_in_full():
    def headings(names):
        methods = [method(name, scores_like_dice(20, 2, seed, 0.01 * seed)) for seed, name in enumerate(names)]
        lines = text_report(compared(*methods)).splitlines()
        places = [place for place, line in enumerate(lines) if line.startswith(" foreground")]
        return [lines[place - 1] for place in places]

    assert headings(["a", "b", "c"]) == ["c - b", "c - a", "b - a"]
    assert headings(["a", "b" * 30, "c" * 30])[1] == f"{'c' * 30} - a"


def test_conclusion_names_methods_not_significantly_worse_than_the_best():
    scores = scores_like_dice(60, 2, 1, 0.02)
    noise = 0.0001 * np.random.default_rng(0).normal(size=(60, 2))
    result = compared(method("twin", scores + noise), method("best", scores), method("bad", scores - 0.05 + noise))
    leader, same = result.ranking.names[:2]
    assert {leader, same} == {"best", "twin"}
    assert f"{leader} has the highest foreground Dice of these 3 trained models" in result.conclusion
    assert "it is better than bad (by 0.0" in result.conclusion
    assert f"it does not differ significantly from {same} (" in result.conclusion
    assert (
        "Holm over 3 comparisons, intervals as they are; 60 scans of split val, fold 0; one seed each"
        in result.conclusion
    )


def test_conclusion_says_that_too_few_scans_show_nothing():
    five = [method(name, scores_like_dice(5, 2, 1, offset, 0)) for name, offset in (("A", 0.1), ("B", 0.0))]
    result = compared(*five)
    assert not result.pair("A", "B").significant
    assert result.conclusion.startswith(
        "No significant difference between the trained models A and B: foreground Dice higher by 0.1000 for A"
    )
    assert "too few scans differ for significance: of 5, p cannot fall below 0.0625" in result.conclusion
    # Six would do for two methods, but not for the three comparisons of three.
    six = [method(name, scores_like_dice(6, 2, 1, offset, 0)) for name, offset in (("A", 0.1), ("B", 0.0), ("C", 0.05))]
    assert compared(*six[:2]).pair("A", "B").significant
    result = compared(*six)
    assert not any(pair.significant for pair in result.pairs if pair.structure == "foreground")
    assert "0.0312 times 3 comparisons" in result.conclusion


def test_identical_methods_do_not_differ():
    scores = scores_like_dice(10, 2, 1)
    result = compared(method("A", scores), method("B", scores))
    pair = result.pair("A", "B")
    assert (pair.p, pair.effect, pair.tied, pair.significant) == (1, None, 10, False)
    assert "between the trained models A and B: the same foreground Dice (95 % interval 0.0000" in result.conclusion


def test_a_label_called_foreground_is_not_the_mean_over_labels():
    cases = pd.MultiIndex.from_tuples([("val", str(index)) for index in range(8)], names=["split", "case"])
    tables = [pd.DataFrame(scores_like_dice(8, 2, seed), cases, ["foreground", "other"]) for seed in (1, 2)]
    methods = [Method(name, (), t, (t,), np.zeros(8, int), 1, (0,), {}) for name, t in zip("AB", tables, strict=True)]
    result = compared(*methods)
    assert result.structures == ("foreground", "foreground (2)", "other")
    assert result.estimates["A"]["foreground (2)"].mean == pytest.approx(tables[0]["foreground"].mean())
