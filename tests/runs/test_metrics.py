"""Metrics are described in summary.json, so that their code is not needed for reading it."""

import json

import numpy as np
import pandas as pd
import pytest
from finished_runs import scan_rows_of, scores_like_dice

from segment.errors import UserError
from segment.metrics.metric import MetricInfo
from segment.metrics.standard import info_of_column
from segment.runs.metrics import metric_info, metric_infos, recorded_infos
from segment.runs.scans import joined
from segment.runs.summary import read_summary, scan_scores, summarise, text_table, write_summary

# Its name says neither that less is better, nor in what it is measured.
WARP = MetricInfo("warping", "Warping error", "mm", False, 0.0, 50.0)


@pytest.fixture
def scans():
    scores = scores_like_dice(3, 2, 0)
    return scan_rows_of(scores, ["a", "b", "c"], further={"warping": np.array([[1, 2], [30, 40], [5, 6]])})


def test_recorded_metrics_are_read_back(scans, tmp_path):
    write_summary(tmp_path / "summary.json", summarise(scans, {}, metrics=[WARP]))
    summary = read_summary(tmp_path / "summary.json")
    assert metric_info(summary, "warping") == WARP
    assert [info.name for info in metric_infos(summary)] == ["dice", "iou", "warping"]
    assert WARP in recorded_infos([{}, summary])
    assert summarise(scans, {})["metrics"]["warping"]["higher_is_better"]  # nothing but the name is known


def test_older_summaries_are_described_by_metric_names(scans, tmp_path):
    summary = summarise(scans.rename(columns={"warping": "hd95_mm"}), {})
    del summary["metrics"]
    write_summary(tmp_path / "summary.json", summary)
    assert metric_infos(read_summary(tmp_path / "summary.json"))[2] == info_of_column("hd95_mm")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"higher_is_better": "no"}, "higher_is_better: 'no' should be a valid boolean"),
        ({"perfect": True}, "perfect: True should be a number"),
        ({"perfect": float("inf")}, "perfect: inf should be a finite number"),
        ({"penalty": "large"}, "penalty: 'large' should be"),
        ({"title": 1}, "title: 1 should be a valid string"),
        ({"unit": None}, "unit: None should be a valid string"),
    ],
)
def test_a_damaged_description_of_a_metric_is_refused(scans, tmp_path, change, error):
    summary = summarise(scans, {}, metrics=[WARP])
    summary["metrics"]["warping"] |= change
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(UserError, match=rf"summary\.json: metrics\.warping\.{error}"):
        read_summary(tmp_path / "summary.json")


def test_table_has_one_row_per_metric_and_label_with_the_worst_scan(scans, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert list(scan_scores(scans, WARP).index) == ["b", "c", "a"]
    text = text_table(summarise(scans, {}, metrics=[WARP]), scans)
    heads, _, *rows = text.split("\n\n")[0].splitlines()
    assert heads.split()[:2] == ["metric", "label"]
    assert [row.split()[0] for row in rows if not row.startswith(" ")] == ["Dice", "IoU", "Warping"]
    warping = rows[-3:]
    assert warping[0].split()[-3:] == ["3", "b", "30.0000"]
    assert warping[2].split()[0] == "foreground"
    assert warping[2].split()[-3:] == ["3", "b", "35.0000"]
    assert "invented (scored 0, Warping error (mm) 50)" in text


def test_metric_missing_in_a_fold_is_dropped(scans):
    whole = joined([scans, scans.drop(columns="warping")])
    assert "warping" not in whole
    assert len(whole) == 2 * len(scans)
    pd.testing.assert_frame_equal(joined([scans]), scans)
