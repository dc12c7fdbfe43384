"""A finished run that is asked for with further metrics: its masks on disk are scored again, nothing is predicted."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from segment.errors import UserError
from segment.runs.folder import read_run
from segment.runs.summary import read_summary, write_summary
from segment.workflow import train as workflow_train

MORE = "+metrics.volume={_target_: volume_metric.Volume}"


@pytest.fixture
def ask(run_train, tested_folds, tmp_path, monkeypatch):
    """Function that asks again for copies of finished runs, which cannot be trained."""
    for name in ("cv", "cv-fold0", "cv-fold1"):
        shutil.copytree(tested_folds / name, tmp_path / "runs" / name)
    monkeypatch.setattr(workflow_train, "prepare", None)

    def again(*overrides: str):
        return run_train(tested_folds / "data", "cv", "plan.patch_size=[16,16]", "folds=2", "fold=all", *overrides)

    return again


def add_detection(folder: Path) -> None:
    summary = read_summary(folder / "summary.json")
    write_summary(folder / "summary.json", summary | {"detection": {"score": "mean", "structures": {}}})


def test_a_further_metric_is_added_to_every_file_of_every_fold(ask, tmp_path, capsys):
    folders = [tmp_path / "runs" / name for name in ("cv-fold0", "cv-fold1", "cv")]
    add_detection(folders[0])
    before = [read_run(folder) for folder in folders]
    ask(MORE)
    told = capsys.readouterr().out
    assert told.count("its masks were scored by volume too") == 2
    for old, folder in zip(before, folders, strict=True):
        after = read_run(folder)
        pd.testing.assert_frame_equal(after.scans[old.scans.columns], old.scans)
        expected = (after.scans["predicted_voxels"] - after.scans["reference_voxels"]).abs()
        np.testing.assert_allclose(after.scans["volume"], expected)
        for figures in (after.summary, after.summary["test"]):
            assert figures["foreground"].keys() == {"dice", "iou", "hd95_mm", "nsd", "volume"}
        assert after.summary["metrics"]["volume"]["title"] == "volume difference"
        kept = ("protocol", "cost", "calibration", "detection")
        assert {key: after.summary.get(key) for key in kept} == {key: old.summary.get(key) for key in kept}
        assert ("calibration" in after.summary) == folder.name.startswith("cv-fold")
        assert "volume difference" in (folder / "report.html").read_text()

    stamp = (folders[0] / "scans.csv").stat().st_mtime_ns
    ask(MORE)
    assert (folders[0] / "scans.csv").stat().st_mtime_ns == stamp
    assert f"{folders[2]} is finished" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_of_before_groups_were_recorded_has_them_afterwards(ask, tmp_path):
    folders = [tmp_path / "runs" / name for name in ("cv-fold0", "cv-fold1", "cv")]
    for folder in folders:
        config = (folder / "config.yaml").read_text()
        assert "specimen: null" in config
        (folder / "config.yaml").write_text(config.replace("specimen: null", "specimen: block"))
        assert "group" not in read_run(folder).scans
    ask(MORE, "data.specimen=block")
    for folder in folders:
        scans = read_run(folder).scans
        assert (scans["group"] == "block").all()
        assert scans["volume"].notna().any()


def test_masks_that_were_changed_or_lost_are_not_scored(ask, tmp_path):
    run = tmp_path / "runs" / "cv-fold0"
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
