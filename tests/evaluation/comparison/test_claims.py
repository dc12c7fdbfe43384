"""Claims where a reader could be misled: empty structures, rare labels, seeds, patients, tiny effects."""

import numpy as np
import pandas as pd
import pytest
from finished_runs import scan_names, scan_rows_of, scores_like_dice, write_run

from segment.evaluation.comparison.compare import compare, compare_runs
from segment.evaluation.comparison.methods import Method, Methods
from segment.evaluation.comparison.result import Comparison
from segment.evaluation.comparison.tables import text_report
from segment.runs.scans import read_scans, write_scans


def method(name: str, *seeds: np.ndarray, folds: np.ndarray | None = None) -> Method:
    scans, labels = seeds[0].shape
    index = pd.MultiIndex.from_tuples([("val", f"scan_{place:03d}") for place in range(scans)])
    tables = tuple(pd.DataFrame(seed, index, [f"label_{label}" for label in range(labels)]) for seed in seeds)
    here = np.isfinite(seeds).any(axis=0)
    shown = pd.DataFrame(np.where(np.isnan(seeds) & here, 1.0, seeds).mean(axis=0), index, tables[0].columns)
    folds = np.zeros(scans, int) if folds is None else folds
    return Method(name, (), shown, tables, folds, len(seeds), tuple(np.unique(folds).tolist()), {})


def compared(*methods: Method, groups=None, **options) -> Comparison:
    return compare(Methods(methods, {}, 0, groups=groups), **{"margin": 0.005, "resamples": 2000, **options})


def test_inventing_a_structure_is_not_rewarded_by_averaging_seeds(tmp_path):
    lesions = np.random.default_rng(0).uniform(0.3, 0.6, 10)
    clean, invents = (np.concatenate([lesions, np.full(10, empty)])[:, None] for empty in (np.nan, 0.0))
    for name, rate, seeds in (("A", 1, (clean, clean, clean)), ("B", 2, (clean, clean, invents))):
        for seed, scores in enumerate(seeds):
            run = write_run(
                tmp_path / f"{name}{seed}", scores, {"optimizer": {"lr": rate}}, labels=["lesion"], seed=seed
            )
            if scores is invents:
                invented = np.arange(20)[:, None] >= 10
                write_scans(run / "scans.csv", scan_rows_of(scores, scan_names(20), ["lesion"], invented=invented))
    result = compare_runs(f"{tmp_path}/*", names=["A", "B"])[0]
    means = {name: scores["lesion"].mean for name, scores in result.estimates.items()}
    assert means["A"] == pytest.approx(lesions.mean())
    assert means["B"] == pytest.approx((lesions.mean() + lesions.mean() + lesions.mean() / 2) / 3)
    assert result.ranking.names == ("A", "B")
    assert result.pair("A", "B").effect == 1
    told = result.methods[1].false_positives["lesion"]
    assert (told.empty, told.rate, told.voxels) == (10, pytest.approx(1 / 3), 90)
    assert "lesion in 10 scans without it, false positives: A 0 % (0 voxels), B 33 % (90 voxels)." in result.notes


def test_no_interval_or_claim_for_the_foreground_with_a_label_in_two_scans():
    first, second = (np.full((30, 2), np.nan) for _ in "AB")
    first[:, 0], second[:, 0] = scores_like_dice(30, 1, 1)[:, 0], scores_like_dice(30, 1, 2)[:, 0] - 0.1
    first[:2, 1], second[:2, 1] = (0.3, 0.31), (0.2, 0.25)
    result = compared(method("A", first), method("B", second))
    foreground, organ = (result.pair("A", "B", name) for name in ("foreground", "label_0"))
    assert result.estimates["A"]["foreground"].interval is foreground.interval is None
    assert (foreground.significant, organ.significant) == (False, True)
    assert "too few scans of a label for a statement on the foreground (label_1 in 2)" in result.conclusion
    assert any("label_1 (2)" in note for note in result.notes)


def test_the_printed_difference_is_tested_and_conflicts_with_single_scans_are_reported():
    second = np.stack([np.linspace(0.85, 0.95, 30), np.full(30, np.nan)], axis=1)
    second[:9, 1] = 0.2
    first = second.copy()
    first[9:, 0] -= 0.04
    first[:9, 1] += 0.03, 0.05, 0.08, 0.1, 0.2, 0.4, 0.6, 0.7, 0.72
    result = compared(method("A", first), method("B", second))
    pair = result.pair("A", "B")
    assert pair.difference == pytest.approx((0.32 - 0.028) / 2)
    assert (pair.won, pair.lost) == (9, 21)
    assert pair.effect == pytest.approx(-0.219, abs=0.001)
    assert pair.interval[0] > 0
    # The nine scans with the second label decide: nearly all of their signs have to turn for as large a difference.
    assert 2 / 2**9 < pair.p < 0.05
    assert pair.significant
    assert pair.opposite
    assert "single scans favour B: A is better on 9, B on 21" in result.conclusion
    assert any("a rare label decide the mean): A - B, foreground" in note for note in result.notes)


def test_conclusion_is_about_trained_models_with_one_seed_and_methods_with_several():
    first, second = scores_like_dice(52, 2, 1, 0.02), scores_like_dice(52, 2, 2)
    single = compared(method("A", first), method("B", second))
    assert single.pair("A", "B").scope == "trainings"
    assert single.conclusion.startswith("Of these two trained models, A is better than B")
    assert "another training may differ" in single.conclusion
    shift = np.array([-0.001, 0.0, 0.001])
    several = compared(method("A", *(first + s for s in shift)), method("B", *(second - s for s in shift)))
    assert several.pair("A", "B").scope == "methods"
    assert several.conclusion.startswith("A is better than B")
    assert several.pair("A", "B").interval[0] < single.pair("A", "B").interval[0]
    folds = np.repeat(np.arange(5), [11, 11, 10, 10, 10])
    crossed = compared(method("A", first, folds=folds), method("B", second, folds=folds))
    assert crossed.pair("A", "B").scope == "methods"
    assert "one seed, 5 folds" in crossed.conclusion
    three = compared(*(method(name, scores_like_dice(52, 2, seed)) for seed, name in enumerate("ABC")))
    assert "of these 3 trained models" in three.conclusion


def test_scans_of_one_patient_count_once_and_one_specimen_allows_no_claim():
    base = scores_like_dice(30, 1, 1) - 0.1
    shared = np.repeat(np.random.default_rng(2).normal(0.01, 0.02, (10, 1)), 3, axis=0)  # of a patient's three scans
    alone, by_patient, one = (
        compared(method("A", base + shared), method("B", base), groups=groups)
        for groups in (None, tuple(f"patient_{place // 3}" for place in range(30)), ("fly",) * 30)
    )
    pairs = [result.pair("A", "B") for result in (alone, by_patient, one)]
    assert pairs[0].p < 0.05 < pairs[1].p
    widths = [high - low for low, high in (pair.interval for pair in pairs[:2])]
    assert widths[1] == pytest.approx(widths[0] * np.sqrt(3), rel=0.1)
    assert "30 scans of split val, fold 0; in 10 groups that count once each" in by_patient.conclusion
    assert pairs[2].interval is None
    assert not pairs[2].significant
    assert not pairs[2].equivalent
    assert "all of one group, so nothing is known beyond it" in one.conclusion


def test_the_group_of_a_scan_is_read_from_its_run(tmp_path):
    for name in "AB":
        run = write_run(tmp_path / name, scores_like_dice(8, 2, ord(name)), {"optimizer": {"lr": ord(name)}})
        table = read_scans(run / "scans.csv")
        places = table["case"].str[-1].astype(int)
        write_scans(run / "scans.csv", table.assign(group=np.where(places < 6, "p" + (places // 2).astype(str), "")))
    result = compare_runs(f"{tmp_path}/*")[0]
    assert result.groups == 5  # three patients of two scans, and two scans of their own
    assert read_scans(tmp_path / "A" / "scans.csv")["group"].tolist()[:6] == ["p0", "p0", "p0", "p0", "p1", "p1"]


def test_ties_do_not_count_towards_the_smallest_possible_p():
    second = scores_like_dice(40, 1, 1)
    first = second.copy()
    first[:4] += 0.1
    result = compared(method("A", first), method("B", second))
    assert result.pair("A", "B").p == result.pair("A", "B").p_least == 2 / 2**4
    assert "too few scans differ for significance: of 40, p cannot fall below 0.1250" in result.conclusion


def test_significant_but_irrelevant_difference_is_equivalent():
    second = scores_like_dice(1000, 1, 1) - 0.1
    first = second + np.random.default_rng(3).normal(0.0002, 0.002, (1000, 1))
    result = compared(method("A", first), method("B", second))
    pair = result.pair("A", "B")
    assert pair.significant
    assert pair.equivalent
    assert pair.not_worse == (True, True)
    assert "trained models A and B are equivalent within 0.005" in result.conclusion
    assert "significant but smaller than what is relevant" in result.conclusion
    assert "equivalent" in text_report(result)
    no_margin = compared(method("A", first), method("B", second), margin=None)
    assert no_margin.pair("A", "B").p_equivalent is None
    assert "better than" in no_margin.conclusion
    clear = compared(method("A", second + 0.1 + first - second), method("B", second)).pair("A", "B")
    assert (clear.equivalent, clear.not_worse) == (False, (True, False))


def test_rankings_by_means_scans_and_tests_are_all_shown():
    base = scores_like_dice(40, 1, 1) - 0.2
    often = base + 0.01
    often[:4] -= 0.3  # better on 36 of 40 scans, far worse on four
    best = base + 0.1 + np.random.default_rng(0).normal(0, 0.001, (40, 1))
    ranking = compared(method("steady", base), method("often", often), method("best", best)).ranking
    assert ranking.names == ("best", "steady", "often")
    assert ranking.scan_ranks == pytest.approx((1.0, 2.9, 2.1))
    assert ranking.wins == (2, 0, 0)
