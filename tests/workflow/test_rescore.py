"""A finished run that is asked for with further metrics: its masks on disk are scored again, nothing is predicted."""

import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from segment.errors import UserError
from segment.runs.folder import read_run
from segment.workflow import train as workflow_train

MORE = "+metrics.volume={_target_: volume_metric.Volume}"


@pytest.fixture
def copied(run_train, tested_folds, tmp_path, monkeypatch):
    """Function that asks again for a copy of a finished run; it cannot train."""
    run = shutil.copytree(tested_folds / "cv-fold0", tmp_path / "runs" / "copied")
    monkeypatch.setattr(workflow_train, "prepare", None)

    def ask(*overrides: str):
        given = ("plan.patch_size=[16,16]", "folds=2", "fold=0", *overrides)
        return run_train(tested_folds / "data", "copied", *given)

    return run, ask


def test_a_further_metric_is_added_to_every_file(copied, capsys):
    run, ask = copied
    before = read_run(run)
    ask(MORE)
    told = capsys.readouterr().out
    assert "its masks were scored by volume too" in told
    assert "is finished" in told
    after = read_run(run)
    pd.testing.assert_frame_equal(after.scans[before.scans.columns], before.scans)
    expected = (after.scans["predicted_voxels"] - after.scans["reference_voxels"]).abs()
    np.testing.assert_allclose(after.scans["volume"], expected)
    assert after.summary["foreground"].keys() == after.summary["test"]["foreground"].keys() == {"dice", "iou", "volume"}
    assert after.summary["metrics"]["volume"]["title"] == "volume difference"
    for key in ("protocol", "cost"):
        assert after.summary[key] == before.summary[key]
    assert "volume difference" in (run / "report.html").read_text()

    stamp = (run / "scans.csv").stat().st_mtime_ns
    ask(MORE)
    ask()
    assert (run / "scans.csv").stat().st_mtime_ns == stamp


def test_masks_that_were_changed_or_lost_are_not_scored(copied):
    run, ask = copied
    before = (run / "scans.csv").read_text()
    mask = run / "predictions" / "test" / "1.png"
    array = np.asarray(Image.open(mask)).copy()
    array[:3] = 1 - array[:3]
    Image.fromarray(array).save(mask)
    with pytest.raises(UserError, match=r"are not those that were scored \(dice differs\)"):
        ask(MORE)
    mask.unlink()
    with pytest.raises(UserError, match="has no mask of its scan '1'"):
        ask(MORE)
    assert (run / "scans.csv").read_text() == before
    assert (run / "report.html").exists()
