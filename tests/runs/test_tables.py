import numpy as np
from finished_runs import scan_names, scan_rows_of, scores_like_dice

from segment.runs.summary import summarise
from segment.runs.tables import summary_table


def test_a_summary_becomes_a_table():
    summary = summarise(scan_rows_of(scores_like_dice(6, 2, 0), scan_names(6)), {})
    table = summary_table(summary)
    assert list(table.index.get_level_values("structure").unique()) == ["foreground", "anterior", "posterior"]
    for structure, entries in {"foreground": summary["foreground"], **summary["labels"]}.items():
        row, scores = table.loc[(structure, "iou")], entries["iou"]
        assert [row["mean"], row["sd"], row["median"], row["n"]] == [scores[k] for k in ("mean", "sd", "median", "n")]
        assert [row["low"], row["high"]] == scores["ci95"]
        assert row["low"] < row["mean"] < row["high"]


def test_undefined_numbers_are_nan():
    table = summary_table(summarise(scan_rows_of(np.array([[0.5, np.nan]]), scan_names(1)), {}))
    assert table.loc[("foreground", "dice"), ["sd", "low", "high"]].isna().all()
    assert table.loc[("posterior", "dice"), "n"] == 0
