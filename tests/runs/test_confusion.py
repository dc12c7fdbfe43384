import numpy as np
import pytest

from segment.errors import UserError
from segment.runs.confusion import read_confusion, sum_confusions, write_confusion

NAMES = ["background", "NA", "tumour, solid"]


def test_a_table_is_read_as_it_was_written_and_several_are_summed(tmp_path):
    counts = np.arange(9).reshape(3, 3) * 10**10
    for name in ("a", "b"):
        write_confusion(tmp_path / name, NAMES, counts)
    table = read_confusion(tmp_path / "a")
    assert list(table.index) == list(table.columns) == NAMES
    np.testing.assert_array_equal(table.to_numpy(), counts)
    np.testing.assert_array_equal(sum_confusions([tmp_path / "a", tmp_path / "b"]).to_numpy(), 2 * counts)
    write_confusion(tmp_path / "other", ["background", "x"], counts[:2, :2])
    assert sum_confusions([tmp_path / "a", tmp_path / "other"]) is None
    assert sum_confusions([tmp_path / "a", tmp_path / "missing"]) is None


@pytest.mark.parametrize(
    ("old", "new"), [("NA,NA,", "NA,NA,x"), ("background,NA,", "NA,NA,"), ("background,NA,1", "background,NA,-1")]
)
def test_a_damaged_table_is_named(tmp_path, old, new):
    write_confusion(tmp_path / "a.csv", NAMES, np.ones((3, 3), int))
    text = (tmp_path / "a.csv").read_text()
    assert old in text
    (tmp_path / "a.csv").write_text(text.replace(old, new))
    with pytest.raises(UserError, match=r"a\.csv"):
        read_confusion(tmp_path / "a.csv")
