import json
import re

import numpy as np
import pandas as pd
import pytest

from segment.errors import UserError
from segment.runs.scans import COLUMNS
from segment.runs.summary import read_summary, scan_scores, summarise, text_table, write_summary
from segment.statistics.bootstrap import bootstrap_interval

PROTOCOL = {"split": "val", "fold": 2, "overlap": 0.5, "test_time_augmentation": True}
NAN = float("nan")
DICE = {"s1": (0.9, 0.7), "s2": (0.8, NAN), "s3": (0.0, 0.4), "s4": (0.7, 0.0)}
STATUS = {
    ("s2", "liver"): "ok",
    ("s2", "tumour"): "both_empty",
    ("s3", "liver"): "missed",
    ("s4", "tumour"): "invented",
}


def table(dice=DICE, names=("liver", "tumour"), **columns):
    rows = [
        {
            "case": case,
            "split": "val",
            "fold": 2,
            "label": label,
            "name": name,
            "dice": score,
            "iou": score / (2 - score),
        }
        | {"reference_voxels": 1, "predicted_voxels": 1, "status": STATUS.get((case, name), "ok")}
        for case, scores in dice.items()
        for label, (name, score) in enumerate(zip(names, scores, strict=True), start=1)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"fold": "Int64"}).assign(**columns)


def test_summary_equals_numbers_by_hand():
    summary = summarise(table(), PROTOCOL)
    assert list(summary) == ["foreground", "labels", "scans", "empty", "metrics", "volumes", "protocol", "cost"]
    assert summary["scans"] == 4
    assert summary["protocol"] == PROTOCOL
    tumour = summary["labels"]["tumour"]["dice"]
    assert tumour["n"] == 3
    assert tumour["mean"] == pytest.approx(1.1 / 3)
    assert tumour["median"] == pytest.approx(0.4)
    assert tumour["iqr"] == pytest.approx([0.2, 0.55])
    assert tumour["sd"] == pytest.approx(np.std([0.7, 0.4, 0.0], ddof=1))
    assert tuple(tumour["ci95"]) == bootstrap_interval(np.array([0.7, 0.4, 0.0]))
    foreground = summary["foreground"]["dice"]
    assert foreground["mean"] == pytest.approx((0.6 + 1.1 / 3) / 2)  # not the mean of the scans' means, 0.5375
    assert foreground["median"] == pytest.approx((0.8 + 0.35) / 2)
    assert foreground["sd"] == pytest.approx(np.std([0.8, 0.8, 0.2, 0.35], ddof=1))
    assert foreground["n"] == 4
    assert foreground["ci95"] is None  # three of four scans have a tumour
    assert summary["labels"]["liver"]["iou"]["mean"] == pytest.approx(np.mean([0.9 / 1.1, 0.8 / 1.2, 0, 0.7 / 1.3]))


def test_the_text_gives_median_and_quartiles_of_distances_alone():
    scans = table().assign(hd95_mm=[1.0, 3.0, 2.0, 4.0, 3.0, 5.0, 60.0, 80.0][: len(table())])
    summary = summarise(scans, PROTOCOL)
    found = summary["foreground"]["hd95_mm"]
    said = f"median {found['median']:.4f}, quartiles {found['iqr'][0]:.4f} - {found['iqr'][1]:.4f}"
    assert found["iqr"][0] <= found["median"] <= found["iqr"][1]
    lines = [line for line in text_table(summary, scans).splitlines() if "quartiles" in line]
    assert lines == [f"HD95 (mm) of the foreground: {said}"]


def test_empties_are_counted_by_label():
    assert summarise(table(), PROTOCOL)["empty"] == {
        "both_empty": {"liver": 0, "tumour": 1},
        "missed": {"liver": 1, "tumour": 0},
        "invented": {"liver": 0, "tumour": 1},
    }


def test_further_metrics_are_summarised_too():
    summary = summarise(table(hd95_mm=[1.0, 2.0, 3.0, NAN, 5.0, 6.0, 7.0, 9.0]), PROTOCOL)
    assert summary["labels"]["tumour"]["hd95_mm"]["mean"] == pytest.approx((2 + 6 + 9) / 3)
    assert summary["foreground"]["hd95_mm"]["mean"] == pytest.approx((4 + 17 / 3) / 2)


def strict(text):
    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_a_rare_label_leaves_the_foreground_without_an_interval_and_the_table_says_why():
    scans = {f"s{place}": (0.9 - place / 100, 0.3 if place < 2 else NAN) for place in range(9)}
    shown = text_table(summarise(table(scans), PROTOCOL), table(scans))
    assert "no interval of the foreground: tumour occurs in 2 scans, fewer than 5" in shown
    scans |= {f"s{place}": (0.9, 0.3) for place in range(2, 6)}
    summary = summarise(table(scans), PROTOCOL)
    assert tuple(summary["foreground"]["dice"]["ci95"]) == bootstrap_interval(np.array([*scans.values()]))
    assert "no interval" not in text_table(summary, table(scans))


@pytest.mark.parametrize("dice", [DICE, {"s1": (0.5, NAN)}, {"s2": (NAN, NAN)}, {}])
def test_file_is_strict_json_and_reads_back(tmp_path, dice):
    summary = summarise(table(dice), {**PROTOCOL, "overlap": NAN, "weights": tmp_path})
    write_summary(tmp_path / "summary.json", summary)
    content = strict((tmp_path / "summary.json").read_text())
    assert content == read_summary(tmp_path / "summary.json") == summary
    assert content["protocol"]["overlap"] is None
    for name, group in (("foreground", content["foreground"]), *content["labels"].items()):
        for scores in group.values():
            assert list(scores) == ["mean", "sd", "median", "iqr", "ci95", "n"]
            assert (scores["mean"] is None) == (scores["n"] == 0)
            assert (scores["ci95"] is None) == (scores["n"] < 2 or (name == "foreground" and dice is DICE))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("{", "damaged"),
        ("[1]", "should contain named values"),
        ("{}", "foreground: is missing"),
        (
            '{"foreground": {}, "labels": {}, "scans": 1, "empty": {}, "protocol": {}}',
            "foreground: lacks the scores dice, iou",
        ),
        ("[" * 100_000, "damaged"),
    ],
)
def test_damaged_summary_is_named(tmp_path, text, words):
    path = tmp_path / "summary.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        read_summary(path)
    assert str(path) in str(caught.value)


def test_scan_scores_put_the_worst_first():
    scores = scan_scores(table())
    assert list(scores.index) == ["s3", "s4", "s1", "s2"]
    np.testing.assert_allclose(scores, [0.2, 0.35, 0.8, 0.8])
    assert scan_scores(table({"s2": (NAN, NAN)})).empty


def lines(scans, protocol=PROTOCOL):
    return text_table(summarise(scans, protocol), scans).splitlines()


def test_table_shows_every_number_and_the_worst_scan():
    text = lines(table())
    assert re.split(r"\s{2,}", text[0]) == [
        "metric",
        "label",
        "mean",
        "sd",
        "95 % interval",
        "n",
        "worst scan",
        "score",
    ]
    low, high = bootstrap_interval(np.array([0.9, 0.8, 0.0, 0.7]))
    rows = [re.split(r"\s{2,}", line.strip()) for line in text[2:8]]
    assert rows[0] == ["Dice", "liver", "0.6000", "0.4082", f"{low:.4f} - {high:.4f}", "4", "s3", "0.0000"]
    assert rows[1][0] == "tumour"
    assert rows[1][-3:] == ["3", "s4", "0.0000"]
    assert rows[2][:2] == ["foreground", "0.4833"]
    assert rows[2][-3:] == ["4", "s3", "0.2000"]
    assert [row[0] for row in rows[3:]] == ["IoU", "tumour", "foreground"]


@pytest.mark.parametrize(
    ("protocol", "line"),
    [
        (PROTOCOL, "4 scans · split val, fold 2 · window overlap 0.5 · test-time augmentation on"),
        (
            {"split": "test", "fold": None, "overlap": 0, "test_time_augmentation": [0, 2], "checkpoint": "best"},
            "4 scans · split test · window overlap 0 · test-time augmentation 0, 2 · checkpoint best",
        ),
        ({}, "4 scans · split not recorded · window overlap not recorded · test-time augmentation not recorded"),
    ],
)
def test_protocol_is_printed_below_the_table(protocol, line):
    last = lines(table(), protocol)[-2:]
    assert last[0] == line
    assert last[1] == "empty structures: 1 in both masks (left out of means), 1 missed and 1 invented (scored 0)"


def test_one_scan_has_dashes_in_place_of_spread():
    liver = next(line for line in lines(table({"s1": (0.5, NAN)})) if " liver " in line)
    assert liver.split() == ["Dice", "liver", "0.5000", "-", "-", "1", "s1", "0.5000"]


def test_columns_stay_aligned_with_hostile_names():
    names = ("[red]liver[/red]", "\x1b[31mtumour" + "r" * 90)
    text = lines(table({"long " * 30: (0.5, 0.6), "b": (0.7, 0.8)}, names))
    assert "\x1b" not in "".join(text)
    assert any("  [red]liver[/" in line for line in text)  # wrapped, not taken for a colour
    rows = [line for line in text if re.search(r"\d\.\d{4} +0\.", line)]
    assert len(rows) == 6
    assert len({line.index("0.") for line in rows}) == 1
    assert max(map(len, text[: text.index("")])) <= 80
