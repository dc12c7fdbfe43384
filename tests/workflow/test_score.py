"""Test scans that have a label: scored beside the validation scans, never part of the plan or of the training."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segment.commands import compare, plan
from segment.config.compose import compose, compose_command
from segment.errors import UserError
from segment.evaluation.comparison.compare import compare_runs
from segment.evaluation.comparison.splits import are_tests, of_split, together
from segment.metrics.scan import score_scan
from segment.preprocessing.plan_file import read_plan
from segment.runs.folder import read_run
from segment.runs.summary import text_table

TESTS = {"0", "1", "2"}


def mask(file) -> np.ndarray:
    return np.asarray(Image.open(file))


def test_validation_and_test_scans_are_scored_apart(tested_folds):
    run = read_run(tested_folds / "cv-fold0")
    rows = dict(iter(run.scans.groupby("split")))
    assert set(rows) == {"val", "test"}
    assert set(rows["test"]["case"]) == TESTS
    assert run.summary["scans"] == len(rows["val"]) == 2
    assert run.summary["foreground"]["dice"]["mean"] == pytest.approx(rows["val"]["dice"].mean())
    test = run.summary["test"]
    assert (test["scans"], test["foreground"]["dice"]["n"], test["protocol"]["split"]) == (3, 3, "test")
    assert test["foreground"]["dice"]["mean"] == pytest.approx(rows["test"]["dice"].mean())
    for case in TESTS:  # of the masks on disk, against the references of the test folder
        predicted = mask(run.path / "predictions" / "test" / f"{case}.png")
        reference = mask(tested_folds / "data" / "labels" / "test" / f"{case}.png")
        (expected,) = score_scan(predicted, reference, {"label_1": [1]}, 2)
        assert rows["test"].set_index("case").loc[case, "dice"] == pytest.approx(expected.scores["dice"])
    record = run.provenance
    assert set(record["test_cases"]) == TESTS
    assert all("/test/" in file for case in record["test_cases"].values() for file in case["sha256"])
    assert all("/train/" in file for case in record["cases"].values() for file in case["sha256"])


def test_the_terminal_and_the_page_show_both(tested_folds):
    run = read_run(tested_folds / "cv-fold0")
    validation, _, tests = text_table(run.summary, run.scans).partition("Test scans")
    assert "2 scans · split val, fold 0" in validation
    assert "3 scans · split test" in tests
    page = (run.path / "report.html").read_text()
    figures = [f"{part['foreground']['dice']['mean']:.4f}" for part in (run.summary, run.summary["test"])]
    head, _, section = page.partition("<h2>Test scans</h2>")
    assert f"<b>{figures[0]}</b>" in head
    assert f"<b>{figures[1]}</b>" in section
    assert "3 scans · split test" in section


def test_test_scans_have_no_part_in_the_plan(tested_folds, tmp_path):
    for part in ("images", "labels"):
        shutil.copytree(tested_folds / "data" / part / "train", tmp_path / "data" / part / "train")
    given = ["data=auto", f"data.root={tmp_path / 'data'}", f"output={tmp_path / 'plan.yaml'}", "patch_size=[16,16]"]
    plan.run(*compose_command("plan", [*given, f"cache={tmp_path / 'cache'}", "memory=0.175", "batch_size=2"]))
    ours, alone = (read_plan(folder / "plan.yaml") for folder in (tested_folds / "cv-fold0", tmp_path))
    assert ours.configurations == alone.configurations
    trained = json.loads((tested_folds / "cv-fold0" / "provenance.json").read_text())["split"]["train"]
    assert len(trained) == 2


def test_the_folds_test_scores_are_averaged_scan_by_scan(tested_folds):
    run = read_run(tested_folds / "cv")
    tests = run.scans[run.scans["split"] == "test"]
    assert len(tests) == 6
    assert run.summary["scans"] == 4
    figures = run.summary["test"]
    assert figures["scans"] == figures["foreground"]["dice"]["n"] == 3
    each = tests.groupby("case")["dice"].mean()
    assert figures["foreground"]["dice"]["mean"] == pytest.approx(each.mean())
    assert figures["foreground"]["dice"]["sd"] == pytest.approx(each.std())
    assert figures["protocol"]["scores"] == "mean over the models of 2 folds"
    table = text_table(run.summary, run.scans)
    assert "4 scans · split val, fold all" in table
    assert "3 scans · split test, fold all" in table
    assert "scores mean over the models of 2 folds" in table


def test_a_comparison_is_of_one_split(tested_folds, capsys):
    runs = [str(tested_folds / name) for name in ("cv-fold0", "cv")]
    compare.run(compose("compare", [f"runs=[{runs[0]},{runs[1]}]", "by=run", "split=test", "resamples=100"]))
    assert "3 scans · split test" in capsys.readouterr().out
    found = compare_runs(runs, by="run", split="test", resamples=100)[0]
    means = [read_run(Path(run)).summary["test"]["foreground"]["dice"]["mean"] for run in runs]
    assert [estimates["foreground"].mean for estimates in found.estimates.values()] == pytest.approx(means)
    assert [note for note in found.notes if "the mean over the models of the folds" in note]
    found = compare_runs(runs, by="run", common=True, resamples=100)[0]  # fold 0's validation scans
    assert {split for split, _ in found.methods[0].scores.index} == {"val"}
    assert len(found.methods[0].scores) == 2
    with pytest.raises(UserError, match=r"split=tets: .* only those of test, val"):
        compare_runs(runs, split="tets")


def test_folds_of_one_method_are_averaged_in_a_comparison_of_test_scans(tested_folds):
    folds = [of_split(read_run(tested_folds / f"cv-fold{fold}"), "test") for fold in (0, 1)]
    assert are_tests(folds)
    averaged = together(folds).scans.set_index("case")["dice"]
    each = [fold.scans.set_index("case")["dice"] for fold in folds]
    assert averaged.to_dict() == pytest.approx(((each[0] + each[1]) / 2).to_dict())


def test_a_test_scan_that_is_a_training_scan_is_refused(run_train, tested_folds, tmp_path):
    shutil.copytree(tested_folds / "data", tmp_path / "data")
    shutil.copy(tmp_path / "data/images/train/3.png", tmp_path / "data/images/test/1.png")
    with pytest.raises(UserError, match="test scan '1' has the same voxels as the training scan '3'"):
        run_train(tmp_path / "data", "run", "plan.patch_size=[16,16]")
    assert not (tmp_path / "runs").exists()
