"""fold=all: every fold is a separate run, and one more run folder summarises all validation scans."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from segment.errors import UserError
from segment.runs.confusion import read_confusion
from segment.runs.folder import read_run


@pytest.mark.usefixtures("without_pages_of_folds")
def test_all_folds_are_trained_and_summarised_and_a_stopped_one_resumes(run_train, make_dataset, tmp_path, capsys):
    root = make_dataset(tmp_path / "data", n=5)
    choices = ("folds=2", "trainer.max_steps=2", "detection=mean")
    whole = run_train(root, "cv", *choices, "fold=all")
    parts = [whole.parent / f"cv-fold{fold}" for fold in (0, 1)]
    assert sorted(whole.parent.iterdir()) == sorted([whole, *parts])
    run = read_run(whole)
    assert set(run.scans["case"]) == {case.name.split(".")[0] for case in (root / "labelsTr").iterdir()}
    together = pd.concat([pd.read_csv(part / "scans.csv") for part in parts], ignore_index=True)
    pd.testing.assert_frame_equal(pd.read_csv(whole / "scans.csv"), together)
    assert set(run.scans["fold"]) == {0, 1}
    assert run.summary["foreground"]["dice"]["mean"] == pytest.approx(together.groupby("name")["dice"].mean().mean())
    assert (run.summary["protocol"]["fold"], run.summary["protocol"]["folds"], run.summary["scans"]) == ("all", 2, 5)
    costs = [read_run(part).summary["cost"]["seconds_per_step"] for part in parts]
    assert run.summary["cost"]["seconds_per_step"] == pytest.approx(np.mean(costs))
    assert run.config["fold"] == "all"
    assert run.config["planned"] == read_run(parts[0]).config["planned"]
    assert [part["folder"] for part in run.provenance["runs"]] == ["../cv-fold0", "../cv-fold1"]
    assert set(run.provenance["cases"]) == set(run.scans["case"])
    assert {file.name for file in (whole / "predictions").iterdir()} == {
        file.name for part in parts for file in (part / "predictions").iterdir()
    }
    detected = [next(iter(read_run(part).summary["detection"]["structures"].values())) for part in (*parts, whole)]
    for key, count in (("scans", 5), ("lesions", detected[0]["lesions"] + detected[1]["lesions"])):
        assert detected[2][key] == count
    summed = sum(read_confusion(part / "confusion.csv") for part in parts)
    pd.testing.assert_frame_equal(read_confusion(whole / "confusion.csv"), summed)
    assert "worst" in (whole / "report.html").read_text()  # with its picture, from the masks laid together
    assert "5 scans · split val, fold all" in capsys.readouterr().out

    # Stopped while the second fold was scored: the first one stays as it is, the second one is scored again.
    before = {file: file.stat().st_mtime_ns for file in parts[0].rglob("*")}
    shutil.rmtree(whole)
    for file in ("report.html", "scans.csv"):
        (parts[1] / file).unlink()
    run_train(root, "cv", *choices, "fold=all")
    assert f"{parts[0]} is finished" in capsys.readouterr().out
    assert before == {file: file.stat().st_mtime_ns for file in parts[0].rglob("*")}
    pd.testing.assert_frame_equal(pd.read_csv(whole / "scans.csv"), together)
    run_train(root, "cv", *choices, "fold=all")
    assert f"{whole} is finished" in capsys.readouterr().out


@pytest.mark.usefixtures("without_pages")
def test_folds_are_named_as_single_ones_are_also_in_a_sweep(segment, make_dataset, tmp_path, capsys):
    root = make_dataset(tmp_path / "data", layout="folders", n=4, shape=(30, 34), labels=1)
    assert segment("train", root, "-m", "fold=0,all", "folds=2", "plan.patch_size=[16,16]") == 0
    names = sorted(path.name.split("-")[2] for path in (tmp_path / "runs").iterdir() if path.name != ".sweeps")
    assert names == ["fold0", "fold1", "foldall"]
    output = capsys.readouterr().out
    assert "is finished" in output  # fold 0, which was a job of its own
    (whole,) = tmp_path.glob("runs/*foldall*")
    assert f"{read_run(whole).summary['foreground']['dice']['mean']:.4f}  runs/{whole.name}" in output
    command = json.loads(next(tmp_path.glob("runs/*fold1*/provenance.json")).read_text())["command"]
    assert "fold=1" in command
    assert "fold=all" not in command
    assert {Image.open(file).size for file in (whole / "predictions").iterdir()} == {(34, 30)}


@pytest.mark.slow
def test_every_fold_starts_processes_of_its_own(make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", n=4)
    overrides = [
        "data=auto", f"data.root={root}", "network.encoder.features=[4,8]", "trainer=ddp", "trainer.accelerator=cpu",
        "trainer.devices=2", "trainer.max_steps=2", "sampler.steps_per_epoch=2", "sampler.workers=0",
        "trainer.check_val_every_n_epoch=1", "plan.patch_size=[8,16,16]", "name=cv", f"cache={tmp_path / 'cache'}",
        "fold=all", "folds=2",
    ]  # fmt: skip
    command = [sys.executable, "-m", "segment.cli", "train", *overrides]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    assert read_run(tmp_path / "runs" / "cv").summary["scans"] == 4


@pytest.mark.parametrize("choice", ["debug=fast_dev_run", "debug=overfit"])
def test_options_for_single_folds_refuse_all(run_train, make_dataset, tmp_path, choice):
    with pytest.raises(UserError, match="fold=all"):
        run_train(make_dataset(tmp_path / "data", n=4), "run", "fold=all", choice)
    assert not (tmp_path / "runs").exists()
