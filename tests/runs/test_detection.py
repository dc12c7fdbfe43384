from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from segment.errors import UserError
from segment.metrics.detection import Detections, Score, detection
from segment.runs.detection import (
    detection_line,
    detection_rows,
    pool_folds,
    read_detection,
    write_detection,
    write_pooled,
)


def found(lesions: int = 40, references: int = 30) -> Detections:
    generator = np.random.default_rng(0)
    right = np.arange(lesions) % 4 == 1
    return Detections(generator.permutation(lesions) / lesions, np.tile(right, (5, 1)), references, scans=5)


def test_curves_are_read_as_they_were_written_less_points_on_a_straight_part(tmp_path):
    given = {"1": found(), "none there": found(3, 0), "nothing, predicted": found(0)}
    record = write_pooled(tmp_path, given, "mean")
    curves = read_detection(tmp_path / "detection.csv")
    expected = detection(given["1"])
    score, rates, sensitivity = curves["1"]
    assert len(score) < len(expected.thresholds)
    assert (np.diff(score) < 0).all()
    grid = np.linspace(0.01, 8, 200)
    whole = np.interp(grid, np.append(0, expected.false_positives), np.append(0, expected.sensitivity))
    np.testing.assert_allclose(np.interp(grid, np.append(0, rates), np.append(0, sensitivity)), whole, atol=1e-6)
    assert list(curves) == ["1"]  # the others have no point
    assert record["structures"]["1"]["froc"] == pytest.approx(expected.at_rates.mean())
    assert record["structures"]["1"]["average_precision"]["0.1"] == pytest.approx(expected.average_precision[0])
    assert record["structures"]["none there"]["froc"] is None
    line = detection_line(record)
    assert (
        "none there mAP -, FROC -, lesions 0, scans 5; nothing, predicted mAP 0.0000, FROC 0.0000, lesions 30" in line
    )
    assert "by their mean probability" in line
    write_pooled(tmp_path, {"none there": found(0, 0)}, "mean")
    assert read_detection(tmp_path / "detection.csv") == {}
    assert [row[:4] for row in detection_rows(record)][1] == ["none there", "0", "3", "-"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace("sensitivity", "recall", 1),
        lambda text: text.replace("\n1,a,", "\n1,a,-", 1),
        lambda text: text.replace("\n1,a,", "\n1,a,many", 1),
        lambda text: text + "1,a,0.5,0.1,1.2\n",
        lambda text: text + "1,a,0.5,inf,1\n",
        lambda text: text + "".join(f"1,{number},1,1,1\n" for number in range(255)),
    ],
)
def test_damaged_file_is_refused(tmp_path, spoil):
    file = tmp_path / "detection.csv"
    write_pooled(tmp_path, {"a": found()}, "maximum")
    file.write_text(spoil(file.read_text()))
    with pytest.raises(UserError, match=r"detection\.csv"):
        read_detection(file)


def test_the_lesions_of_all_folds_are_pooled(tmp_path):
    scans = {name: replace(found(lesions, 9), scans=1) for name, lesions in {"a": 7, "b": 0, "c": 12}.items()}

    def run(name: str, cases: str, score: Score = "mean") -> dict[Path, dict[str, Any] | None]:
        (tmp_path / name).mkdir()
        return {tmp_path / name: write_detection(tmp_path / name, {"=lesion": {c: scans[c] for c in cases}}, score)}

    first, second = run("0", "a"), run("1", "bc")
    expected = write_pooled(tmp_path, {"=lesion": Detections.pooled([*scans.values()])}, "mean")
    assert expected["structures"]["=lesion"]["scans"] == 3
    pooled = pool_folds(tmp_path, first | second)
    assert pooled is not None
    assert pooled == expected
    assert pd.read_csv(tmp_path / "lesions.csv")["case"].value_counts().to_dict() == {"a": 7, "c": 12}
    assert pool_folds(tmp_path, first | run("2", "b", "maximum")) is None
    file = tmp_path / "1" / "lesions.csv"
    text = file.read_text()
    for old, new in ((",0.5,", ",1.5,"), ("score", "points"), (",1,1\n", ",1,2\n")):
        assert old in text
        file.write_text(text.replace(old, new, 1))
        with pytest.raises(UserError, match=r"1/lesions\.csv"):
            pool_folds(tmp_path, first | second)
    file.unlink()
    assert pool_folds(tmp_path, first | second) is None
