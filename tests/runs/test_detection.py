import numpy as np
import pytest

from segment.errors import UserError
from segment.metrics.detection import Detections, detection
from segment.runs.detection import detection_line, detection_rows, read_detection, write_detection


def found(lesions: int = 40, references: int = 30) -> Detections:
    generator = np.random.default_rng(0)
    right = np.arange(lesions) % 4 == 1
    return Detections(generator.permutation(lesions) / lesions, np.tile(right, (5, 1)), references, scans=5)


def test_curves_are_read_as_they_were_written_less_points_on_a_straight_part(tmp_path):
    given = {"1": found(), "none there": found(3, 0), "nothing, predicted": found(0)}
    record = write_detection(tmp_path / "detection.csv", given, "mean")
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
    write_detection(tmp_path / "detection.csv", {"none there": found(0, 0)}, "mean")
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
    write_detection(file, {"a": found()}, "maximum")
    file.write_text(spoil(file.read_text()))
    with pytest.raises(UserError, match=r"detection\.csv"):
        read_detection(file)
