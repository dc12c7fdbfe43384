import pandas as pd
import pytest

from segment.runs.cells import csv_text, names_in


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(1)", "'@SUM(1)"),
        ("'=x", "''=x"),
        ("-1.5e-3", "-1.5e-3"),
        ("scan_01", "scan_01"),
        ("'quoted'", "'quoted'"),
        ("", ""),
    ],
)
def test_formulas_become_text_and_are_read_back(name, written, tmp_path):
    table = pd.DataFrame({"case": [name], "dice": [-0.25]})
    (tmp_path / "a.csv").write_text(csv_text(table))
    read = pd.read_csv(tmp_path / "a.csv", dtype=str, keep_default_na=False)
    assert read.loc[0].tolist() == [written, "-0.25"]
    assert names_in(read["case"]).tolist() == [name]
