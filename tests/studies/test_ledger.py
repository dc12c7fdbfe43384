"""Published and measured figures: untrusted tables, verdicts, the page of all studies."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from finished_runs import scan_names, scan_rows_of, scores_like_dice

from segment.errors import UserError
from segment.runs.scans import COLUMNS
from segment.runs.summary import summarise, write_summary
from segment.studies.figures import ALL, Measured, Published, read_measured, read_published, write_rows
from segment.studies.ledger import compare
from segment.studies.results import Result, enter, page
from segment.studies.table import cells, markdown
from segment.studies.verdict import (
    DATA_NEEDED,
    INCONCLUSIVE,
    MATCHES,
    MATCHES_BELOW,
    NO_RULES,
    NOT_ABOVE,
    NOT_BELOW,
    NOT_COMPARABLE,
    NOT_RUN,
    REPRODUCED,
    read_rules,
)

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
FIGURE = Published(
    "net", "Net", "balls", "five folds", "dice", "Liver", "", ".9007", "", 1, "0.5", "mirrors", "A paper", "read"
)
ROW = Measured(
    "net", ALL, "dice", "liver", 0.9, 0.04, 0.88, 0.92, 50, 0, 1000, 1.5, "2 cores", "torch 2", "abc", "2026-11-23", "",
    "measured/net/provenance.json",
)  # fmt: skip


TASK04 = (
    # fold: measured here by two_cores_long, published of DynUNet
    (0.9006, ".9007"), (0.8946, ".8930"), (0.8958, ".8985"), (0.8949, ".8979"), (0.9046, ".9015"),
)  # fmt: skip


def folds_of(values, **changes) -> list[Measured]:
    """Rows of every fold of one seed, and of all together."""
    own = [replace(ROW, fold=str(fold), value=value, **changes) for fold, value in enumerate(values)]
    return [*own, replace(ROW, value=sum(values) / len(values), **changes)]


def of_each_fold(values, whole: str) -> list[Published]:
    own = [replace(FIGURE, fold=str(fold), value=value) for fold, value in enumerate(values)]
    return [*own, replace(FIGURE, value=whole)]


def test_five_folds_within_the_margin_reproduce_a_figure():
    measured, published = zip(*TASK04, strict=True)
    *single, whole = compare("net", of_each_fold(published, ".8983"), folds_of(measured))
    assert whole.verdict == REPRODUCED
    assert whole.judgement.difference == pytest.approx(-0.0002, abs=1e-4)
    assert whole.judgement.interval == pytest.approx((-0.0028, 0.0023), abs=2e-4)
    assert cells(whole)[4] == "-0.0002 (-0.0028 to +0.0023)"
    # A fold alone is one training, however close.
    assert {line.verdict for line in single} == {INCONCLUSIVE}
    assert single[0].judgement.why == "fewer than 3 seeds"


@pytest.mark.parametrize(
    ("shift", "differs", "word"),
    [
        (0.0, "", REPRODUCED), (-0.012, "", NOT_BELOW), (0.012, "", NOT_ABOVE), (0.004, "", NOT_ABOVE),
        (0.0, "another network", MATCHES), (-0.012, "another network", MATCHES_BELOW),
    ],
)  # fmt: skip
def test_below_and_above_and_what_is_another_recipe(shift, differs, word):
    measured, published = zip(*TASK04, strict=True)
    rules = replace(NO_RULES, differs={"n*": differs} if differs else {})
    rows = folds_of([value + shift for value in measured])
    line = compare("net", of_each_fold(published, ".8983"), rows, rules=rules)[-1]
    assert line.verdict == word
    assert line.differs == differs
    # Percent in the source make no other verdict.
    ours = of_each_fold(published, ".8983")
    percent = [replace(row, value=f"{100 * float(row.value):.2f}", scale=100) for row in ours]
    assert compare("net", percent, rows, rules=rules)[-1].verdict == word


def test_an_interval_over_scans_decides_nothing_and_one_training_neither():
    (line,) = compare("net", [replace(FIGURE, value=".8999")], [ROW])
    assert (line.verdict, line.judgement.why) == (INCONCLUSIVE, "fewer than 5 folds or 3 seeds")
    # A mean of five folds without figures of each counts its own spread twice.
    alone = compare("net", [replace(FIGURE, value=".8983")], folds_of([value for value, _ in TASK04]))[0]
    paired = compare("net", of_each_fold([value for _, value in TASK04], ".8983"), folds_of([v for v, _ in TASK04]))[-1]
    width = [line.judgement.interval[1] - line.judgement.interval[0] for line in (alone, paired)]
    assert width[0] > 1.5 * width[1]
    assert alone.verdict == INCONCLUSIVE


def test_three_seeds_are_enough_and_other_scans_widen_the_interval():
    seeds = [replace(ROW, value=0.9 + shift, seed=seed, sd=0.01, scans=400, date=f"2026-12-0{seed + 1}")
             for seed, shift in enumerate((-0.0005, 0.0, 0.0005))]  # fmt: skip
    (line,) = compare("net", [replace(FIGURE, value=".9003")], seeds)
    assert (line.measured.value, line.seeds) == (pytest.approx(0.9), 3)
    assert cells(line)[3] == "0.9000, mean of 3 seeds, 50 scans, all folds".replace("50", "400")
    assert line.verdict == REPRODUCED
    few = [replace(row, scans=9) for row in seeds]
    figure = [replace(FIGURE, value=".9003")]
    assert compare("net", figure, few)[0].verdict == INCONCLUSIVE
    same = replace(NO_RULES, same_scans=[{"run": "n*", "reason": "the official test set"}])
    assert compare("net", figure, few, rules=same)[0].verdict == REPRODUCED
    assert compare("net", [replace(FIGURE, value=".9003")], seeds[:2])[0].verdict == INCONCLUSIVE


def test_only_figures_that_mean_the_same_are_judged(tmp_path):
    rows = folds_of([value for value, _ in TASK04])
    (other,) = compare("net", [replace(FIGURE, overlap="0.7")], rows, protocol={"overlap": 0.5})
    assert (other.verdict, other.judgement.difference) == (NOT_COMPARABLE, None)
    assert "Not comparable: net: window overlap 0.7 published, 0.5 measured." in markdown([other])
    (mirrored,) = compare("net", [FIGURE], rows, protocol={"overlap": 0.5, "test_time_augmentation": "none"})
    assert mirrored.judgement.why == "test-time augmentation mirrors published, none measured"
    (same,) = compare("net", [FIGURE], rows, protocol={"overlap": 0.5, "test_time_augmentation": "mirror [2]"})
    assert same.verdict != NOT_COMPARABLE
    (tmp_path / "verdict.yaml").write_text("not_comparable:\n  - {run: n*, split: five*, reason: a hidden test set}\n")
    (hidden,) = compare("net", [FIGURE], [], False, read_rules(tmp_path))
    assert (hidden.verdict, hidden.judgement.why) == (NOT_COMPARABLE, "a hidden test set")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("margins: {dice: 0.1}", "unknown key margins"),
        ("margin: {dice: 1}\nreason: why", "give a positive decimal"),
        ("margin: {dice: 0.01}", "say why in reason"),
        ("differs: [net]", "differs: give what differs"),
        ("not_comparable: [{run: net}]", "give a list"),
        ("not_comparable: [{rune: net, reason: x}]", "unknown key rune"),
        ("same_scans: [{run: net}]", "same_scans: give a list"),
    ],
)
def test_rules_that_cannot_be_are_refused_by_key(tmp_path, content, said):
    (tmp_path / "verdict.yaml").write_text(content)
    with pytest.raises(UserError, match=said) as error:
        read_rules(tmp_path)
    assert "verdict.yaml" in str(error.value)


def test_a_study_sets_its_margin(tmp_path):
    (tmp_path / "verdict.yaml").write_text("margin: {dice: 0.001}\nreason: it is easy\n")
    measured, published = zip(*TASK04, strict=True)
    line = compare("net", of_each_fold(published, ".8983"), folds_of(measured), rules=read_rules(tmp_path))[-1]
    assert (line.verdict, line.judgement.why) == (INCONCLUSIVE, "neither within 0.001 nor apart")


def test_verdict_without_a_measurement_or_metric():
    assert compare("net", [FIGURE], [])[0].verdict == NOT_RUN
    assert compare("net", [FIGURE], [], data_here=False)[0].verdict == DATA_NEEDED
    (line,) = compare("net", [replace(FIGURE, metric="hd95_mm")], [ROW])
    assert line.verdict == ""


def test_figure_is_matched_with_the_best_measurement():
    fold, two, other = replace(ROW, fold="0"), replace(ROW, fold="0+1"), replace(ROW, run="another")
    short = replace(ROW, steps=10, reduced="trainer.max_steps 10 instead of 1000", date="2027-01-01")
    figures = [FIGURE, replace(FIGURE, fold="0"), replace(FIGURE, fold="3"), replace(FIGURE, run="")]
    lines = compare("net", figures, [short, fold, two, ROW, other])
    assert [line.measured for line in lines] == [ROW, fold, None]
    assert [line.verdict for line in lines] == [INCONCLUSIVE, INCONCLUSIVE, NOT_RUN]
    assert not any(line.reduced for line in lines)
    (line,) = compare("net", [FIGURE], [fold, two])
    assert line.reduced == "folds 0, 1 only"
    assert cells(line)[5] == "inconclusive (reduced)"
    (line,) = compare("net", [FIGURE], [short])
    assert "trainer.max\\_steps" not in markdown([line])
    assert "Reduced: net: trainer.max_steps 10 instead of 1000." in markdown([line])


def test_measurement_without_a_published_figure_has_no_verdict():
    (line,) = compare("net", [replace(FIGURE, run="")], [ROW, replace(ROW, fold="0")])
    assert (line.measured, line.verdict, cells(line)[2]) == (ROW, "", "-")
    (line,) = compare("net", [], [], data_here=False)
    assert cells(line) == ("net", "-", "-", "-", "-", DATA_NEEDED, "-")


def test_sums_over_fewer_folds_are_replaced(tmp_path):
    table = pd.DataFrame(columns=list(COLUMNS))
    foreign = tmp_path / "foreign"
    write_rows(tmp_path / "measured.csv", Measured, [replace(ROW, fold="0+9", provenance="measured/../foreign/x.json")])
    (tmp_path / "measured").mkdir()
    foreign.mkdir()
    for new, sums in (
        (["0"], ["0+9"]),
        (["0", "1", "0+1"], ["0+9", "0+1"]),
        (["0", "1", "2", "0+1+2"], ["0+9", "0+1+2"]),
        (["0", "1", "2", "0+1+2"], ["0+9", "0+1+2"]),
        (["3", ALL], [ALL]),
    ):
        enter(tmp_path, [Result([replace(ROW, fold=fold, value=0.5)], table, {}, {}) for fold in new])
        rows = read_measured(tmp_path)
        named = [row.fold for row in rows]
        assert [fold for fold in named if not fold.isdigit()] == sums
        assert len(named) == len(set(named))
        there = {f"measured/{path.name}/provenance.json" for path in (tmp_path / "measured").iterdir()}
        assert there == {row.provenance for row in rows if row.fold != "0+9"}
    assert [row.fold for row in rows] == ["0", "1", "2", "3", ALL]
    assert foreign.is_dir()
    assert not replace(ROW, fold="0+1", seed=1).replaces(replace(ROW, fold="0+1"))
    assert not replace(ROW, fold="1+2").replaces(replace(ROW, fold="0+1"))
    assert not replace(ROW, hardware="8 cores").replaces(ROW)


def test_tables_are_read_as_they_are_written(tmp_path):
    rows = [ROW, replace(ROW, value=1 / 3, sd=None, ci95_low=None, ci95_high=None, hours=None, label='a,"b"\n=1')]
    write_rows(tmp_path / "measured.csv", Measured, rows)
    write_rows(tmp_path / "published.csv", Published, [FIGURE])
    assert read_measured(tmp_path) == rows
    assert read_published(tmp_path) == [FIGURE]
    assert read_published(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace(".9007", "\x1b[31mnan"), r"row 2: value: '\\x1b\[31mnan' should be"),
        (lambda text: text.replace(".9007", "nan"), "value: 'nan' should be a number"),
        (lambda text: text.replace(",1,0.5", ",7,0.5"), "scale: 7 should be 1 or 100"),
        (lambda text: text.replace("Liver,", "Liver,first"), "fold: 'first' should be an integer"),
        (lambda text: text.replace(",A paper", ""), "has 13 columns, not 14"),
        (lambda text: text.replace("run,", "ran,", 1), "must begin with the line run,method"),
        (lambda text: text + '"', "not a table"),
        (lambda text: text + "x" * 200_000, "not a table|columns"),
        (lambda text: text + "\n" * 5_000_000, "not a table of figures"),
        (lambda text: text + f"{'a,' * 13}a\n" * 21_000, "more than 20,000 rows"),
        (lambda text: "", "must begin with"),
    ],
)
def test_damaged_tables_are_refused_by_file_and_row(tmp_path, change, said):
    path = tmp_path / "published.csv"
    write_rows(path, Published, [FIGURE])
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=said) as error:
        read_published(tmp_path)
    assert str(path) in str(error.value)
    assert "\x1b" not in str(error.value)


def test_table_text_is_escaped():
    hostile = "a|b <img src=x onerror=y> [c](d)"
    line = compare("net", [replace(FIGURE, split=hostile)], [replace(ROW, date=hostile, reduced=hostile)])
    assert "<img" not in markdown(line)
    assert all(row.replace("\\|", "").count("|") == 8 for row in markdown(line).splitlines()[:3])


def test_a_page_shows_every_run_of_every_study(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "net.yaml").write_text(f"defaults:\n  - override /data: {name}\n")
    (tmp_path / "first" / "more.yaml").write_text("defaults:\n  - override /data: first\n")
    (tmp_path / "first" / "README.md").write_text("# First\n")
    write_rows(tmp_path / "first" / "published.csv", Published, [FIGURE, replace(FIGURE, metric="hd95_mm")])
    write_rows(tmp_path / "second" / "published.csv", Published, [FIGURE])
    write_rows(tmp_path / "first" / "measured.csv", Measured, [ROW])
    (tmp_path / "first" / "measured").mkdir()
    text = page(tmp_path)
    assert "3 published figures: 1 inconclusive, 1 not run (data needed), 1 without a verdict." in text
    assert "## [first](first/README.md)" in text
    assert "| more | - | - | - | - | not run | - |" in text  # its data set is here
    assert "0.9000 (0.8800 - 0.9200), 50 scans, all folds" in text


def test_page_states_how_each_run_was_measured(tmp_path):
    study = tmp_path / "study"
    for folder, scans, overlap in (("measured/net", 6, 0.5), ("measured/fold0", 4, 0.25), ("foreign", 9, 0.75)):
        table = scan_rows_of(scores_like_dice(scans, 2, 0), scan_names(scans))
        protocol = {"split": "val", "fold": 0, "overlap": overlap, "test_time_augmentation": "mirror [2]"}
        write_summary(study / folder / "summary.json", summarise(table, protocol))
    fold = replace(ROW, fold="0", scans=4, provenance="measured/fold0/provenance.json")
    other = replace(ROW, run="other", provenance="measured/../foreign/provenance.json")
    alone = replace(ROW, run="alone", provenance="")
    write_rows(study / "measured.csv", Measured, [fold, ROW, other, alone])
    write_rows(study / "published.csv", Published, [FIGURE, replace(FIGURE, fold="0")])
    notes = [line for line in page(tmp_path).splitlines() if line.startswith("Measured: ")]
    assert notes == [
        "Measured: net: 6 scans · split val, fold 0 · window overlap 0.5 · test-time augmentation mirror \\[2\\]"
    ]


def test_the_page_of_this_repository_is_up_to_date():
    assert (EXPERIMENTS / "README.md").read_text(encoding="utf-8") == page(EXPERIMENTS), (
        "run: segment reproduce page=experiments"
    )
