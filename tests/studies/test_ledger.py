"""Published and measured figures: untrusted tables, verdicts, the page of all studies."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from finished_runs import scan_names, scan_rows_of, scores_like_dice

from segment.errors import UserError
from segment.runs.scans import COLUMNS
from segment.runs.summary import summarise, write_summary
from segment.studies.ledger import (
    ABOVE,
    ALL,
    BELOW,
    DATA_NEEDED,
    NOT_RUN,
    REPRODUCED,
    Measured,
    Published,
    compare,
    read_measured,
    read_published,
    verdict,
    write_rows,
)
from segment.studies.results import Result, enter, page
from segment.studies.table import cells, markdown

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
FIGURE = Published(
    "net", "Net", "balls", "five folds", "dice", "Liver", "", ".9007", "", 1, "0.5", "mirrors", "A paper", "read"
)
ROW = Measured(
    "net", ALL, "dice", "liver", 0.9, 0.04, 0.88, 0.92, 50, 0, 1000, 1.5, "2 cores", "torch 2", "abc", "2026-11-23", "",
    "measured/net/provenance.json",
)  # fmt: skip


@pytest.mark.parametrize(
    ("value", "scale", "word"),
    [
        (".88", 1, REPRODUCED), (".92", 1, REPRODUCED), (".9201", 1, BELOW), (".8799", 1, ABOVE),
        ("90.07", 100, REPRODUCED), ("92.01", 100, BELOW), ("87.99", 100, ABOVE),
    ],
)  # fmt: skip
def test_verdict_follows_the_interval(value, scale, word):
    figure = replace(FIGURE, value=value, scale=scale)
    assert verdict(figure, ROW) == word


def test_verdict_without_a_measurement_or_interval():
    assert verdict(FIGURE, None) == NOT_RUN
    assert verdict(FIGURE, None, data_here=False) == DATA_NEEDED
    assert verdict(FIGURE, replace(ROW, ci95_low=None, ci95_high=None)) == ""
    (line,) = compare("net", [replace(FIGURE, metric="hd95_mm")], [ROW])
    assert line.verdict == ""


def test_figure_is_matched_with_the_best_measurement():
    fold, two, other = replace(ROW, fold="0"), replace(ROW, fold="0+1"), replace(ROW, run="another")
    short = replace(ROW, steps=10, reduced="trainer.max_steps 10 instead of 1000", date="2027-01-01")
    figures = [FIGURE, replace(FIGURE, fold="0"), replace(FIGURE, fold="3"), replace(FIGURE, run="")]
    lines = compare("net", figures, [short, fold, two, ROW, other])
    assert [line.measured for line in lines] == [ROW, fold, None]
    assert [line.verdict for line in lines] == [REPRODUCED, REPRODUCED, NOT_RUN]
    assert not any(line.reduced for line in lines)
    (line,) = compare("net", [FIGURE], [fold, two])
    assert line.reduced == "folds 0, 1 only"
    assert cells(line)[4] == "reproduced (reduced)"
    (line,) = compare("net", [FIGURE], [short])
    assert "trainer.max\\_steps" not in markdown([line])
    assert "Reduced: net: trainer.max_steps 10 instead of 1000." in markdown([line])


def test_measurement_without_a_published_figure_has_no_verdict():
    (line,) = compare("net", [replace(FIGURE, run="")], [ROW, replace(ROW, fold="0")])
    assert (line.measured, line.verdict, cells(line)[2]) == (ROW, "", "-")
    (line,) = compare("net", [], [], data_here=False)
    assert cells(line) == ("net", "-", "-", "-", DATA_NEEDED, "-")


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
    assert all(row.replace("\\|", "").count("|") == 7 for row in markdown(line).splitlines()[:3])


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
    assert "3 published figures: 1 reproduced, 1 not run (data needed), 1 without a verdict." in text
    assert "## [first](first/README.md)" in text
    assert "| more | - | - | - | not run | - |" in text  # its data set is here
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
