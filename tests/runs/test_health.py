"""Whether a run is a valid result: from its mark, its loss curve and its files."""

import json
import math
from pathlib import Path

import pytest
from finished_runs import diverge, scores_like_dice, stop_short, write_losses, write_run

from segment.runs.health import Failure, divergence, failure, listed


@pytest.fixture
def run(tmp_path) -> Path:
    return write_run(tmp_path / "run", scores_like_dice(6, 2, 0))


def test_finished_run_with_finite_or_unreadable_loss_is_valid(run, tmp_path):
    assert failure(run) is None
    write_losses(run, {0: 1.0, 8: 0.5})
    assert failure(run) is None
    assert failure(tmp_path / "nowhere") is None


def test_older_scored_run_with_nan_loss_diverged(run):
    found = failure(diverge(run, 8))
    assert found == Failure(run, diverged=True, step=8, cause="the loss is not finite")
    assert str(found) == f"{run} (diverged at step 8)"


def test_infinite_loss_in_a_csv_table_is_a_divergence(run):
    (run / "csv" / "version_0").mkdir(parents=True)
    (run / "csv" / "version_0" / "metrics.csv").write_text("step,train/loss\n0,1.0\n3,inf\n")
    assert failure(run).step == 3


@pytest.mark.parametrize(("later", "step"), [({8: 0.8, 9: 0.7}, None), ({8: 0.8, 9: math.inf}, 9), ({9: 0.7}, 8)])
def test_resumed_run_is_judged_by_its_latest_curve(run, later, step):
    write_losses(run, {7: 0.9, 8: math.nan, 9: math.nan, 10: math.nan}, suffix=".a")
    write_losses(run, later, suffix=".b")
    found = failure(run)
    assert (found and found.step) == step


@pytest.mark.parametrize(
    ("mark", "step", "reason", "cause"),
    [
        ({"step": 8, "reason": "the loss is NaN"}, 8, "diverged at step 8", "the loss is NaN"),
        ({"step": "8", "reason": ["x"]}, None, "diverged", "its loss or gradients are not finite"),
        ({"step": True, "reason": "a \x1b[31m"}, None, "diverged", "a \ufffd[31m"),
        (["no", "mapping"], None, "diverged", "its loss or gradients are not finite"),
        ("{", None, "diverged", "its loss or gradients are not finite"),
    ],
)
def test_damaged_mark_counts_as_divergence(run, mark, step, reason, cause):
    stop_short(run)
    (run / "diverged.json").write_text(mark if isinstance(mark, str) else json.dumps(mark))
    found = failure(run)
    assert (found.diverged, found.step, found.reason, found.cause) == (True, step, reason, cause)


def test_run_without_scores_is_unfinished_and_other_folders_are_not_runs(run, tmp_path):
    found = failure(stop_short(run))
    assert (found.diverged, found.reason) == (False, "not finished")
    assert divergence(run) is None
    (tmp_path / "empty").mkdir()
    assert failure(tmp_path / "empty") is None


@pytest.mark.parametrize(
    "runs", [[{"folder": "../fold0"}, {"folder": "../fold1"}, {"folder": "../gone"}], "x", [1, {}]]
)
def test_summary_of_folds_diverged_if_a_fold_did(run, tmp_path, runs):
    for name in ("fold0", "fold1"):
        write_run(tmp_path / name, scores_like_dice(6, 2, 0))
    (run / "provenance.json").write_text(json.dumps({"runs": runs}))
    assert failure(run) is None
    diverge(tmp_path / "fold1", 3)
    found = failure(run)
    assert (found and found.reason) == ("diverged at step 3 in fold1" if len(runs) == 3 else None)


def test_a_long_list_is_cut():
    many = [Failure(Path(f"r{place}"), diverged=False) for place in range(23)]
    assert listed(many[:2]) == "r0 (not finished), r1 (not finished)"
    assert listed(many).endswith("r19 (not finished) and 3 more")
