import numpy as np
import pytest

from segment.errors import UserError
from segment.metrics.precision_recall import THRESHOLDS, precision_recall
from segment.runs.precision_recall import read_curves, write_curves

COUNTS = np.random.default_rng(0).integers(0, 10**12, (2, 2, THRESHOLDS))


def test_curves_are_read_as_they_were_written(tmp_path):
    write_curves(tmp_path / "curves.csv", ["1", "kidney, left"], COUNTS)
    found = read_curves(tmp_path / "curves.csv")
    assert list(found) == ["1", "kidney, left"]
    for curve, expected in zip(found.values(), precision_recall(COUNTS), strict=True):
        np.testing.assert_array_equal(curve[:4], expected[:4])
        np.testing.assert_allclose(curve[4:], expected[4:], rtol=1e-5)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: text.replace("recall", "remembered", 1),
        lambda text: text.rpartition("\n2,")[0] + "\n",
        lambda text: text.replace("\n1,", "\n2,").replace(",a,", ",b,"),
        lambda text: text.replace(",a,0,", ",a,0,-"),
        lambda text: text.replace(",a,0,", ",a,0,inf"),
        lambda text: text.replace(",a,0,", ",a,0,many"),
        lambda text: text + "9,x,0,1,1,1,1,1,1\n" * THRESHOLDS * 300,
    ],
)
def test_damaged_file_is_refused(tmp_path, spoil):
    file = tmp_path / "curves.csv"
    write_curves(file, ["a", "b"], COUNTS)
    file.write_text(spoil(file.read_text()))
    with pytest.raises(UserError, match=r"curves\.csv"):
        read_curves(file)
