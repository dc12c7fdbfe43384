"""Label efficiency from finished runs: curves, how many labels are saved, and what is refused."""

import json
import math

import numpy as np
import pytest
from finished_runs import scores_like_dice, write_run

from segment.errors import UserError
from segment.evaluation.comparison.find import find_runs
from segment.evaluation.label_efficiency import equal_labels, label_efficiency
from segment.report.label_page import write_label_page
from segment.runs.folder import read_run

ABOVE = {4: -0.2, 8: -0.1, 16: 0.0}  # what training from scratch loses


@pytest.fixture
def runs(tmp_path):
    found = []
    for start, gain in ((None, 0.0), ("runs/A", 0.1)):
        for labelled, loss in ABOVE.items():
            for seed in (0, 1):
                scores = scores_like_dice(12, 2, seed, effect=loss + gain - 0.1, noise=0.01)
                config = {"weights": start, "labelled": labelled, "trainer": {"max_steps": 10}}
                train = [f"t{n}" for n in range(labelled)]
                folder = tmp_path / f"{'A' if start else 'scratch'}-{labelled}-{seed}"
                found.append(read_run(write_run(folder, scores, config, seed=seed, train=train)))
    return found


def test_labels_saved_are_those_of_the_curves_and_said(runs, tmp_path):
    found = label_efficiency(runs)
    assert [(point.start, point.labelled, point.seeds) for point in found.points] == [
        (start, n, 2) for start in ("scratch", "A") for n in (4, 8, 16)
    ]
    means = {(point.start, point.labelled): point.mean for point in found.points}
    assert means["A", 4] == pytest.approx(means["scratch", 8], abs=0.02)
    four, _, sixteen = found.savings
    assert four.equal == pytest.approx(8, rel=0.15)
    assert four.saved == pytest.approx(1 - 4 / four.equal)
    assert four.interval is not None
    assert four.interval[0] <= four.saved <= four.interval[1]
    assert sixteen.equal == math.inf
    assert (
        f"With 4 labels A is as good as {four.equal:.0f} from scratch, labels saved {four.saved:.0%} (" in found.text()
    )
    assert "With 16 labels A is as good as no number" in found.text()
    write_label_page(tmp_path / "page", found)
    assert str(four) in (tmp_path / "page" / "report.html").read_text()
    assert json.loads((tmp_path / "page" / "efficiency.json").read_text())["savings"][2]["equal"] is None


def test_mean_teacher_is_a_start_of_its_own(runs, tmp_path):
    scores = scores_like_dice(12, 2, 0, effect=-0.1, noise=0.01)
    config = {"labelled": 8, "trainer": {"max_steps": 10}, "mean_teacher": {"weight": 1.0}}
    folder = write_run(tmp_path / "teacher", scores, config, train=[f"t{n}" for n in range(8)])
    found = label_efficiency([*runs, read_run(folder)])
    assert [(one.labelled, one.seeds) for one in found.points if one.start == "mean teacher"] == [(8, 1)]


@pytest.mark.parametrize(("value", "expected"), [(0.5, 4), (0.6, 4 * 2**0.5), (0.7, 8), (0.9, math.inf), (0.4, 0)])
def test_equal_labels_lie_on_the_line_over_the_logarithm(value, expected):
    assert equal_labels(value, np.array([4.0, 8, 16]), np.array([0.5, 0.7, 0.8])) == pytest.approx(expected)


def test_runs_that_differ_in_more_are_refused(runs, tmp_path):
    other = read_run(
        write_run(
            tmp_path / "other", scores_like_dice(12, 2, 0), {"trainer": {"max_steps": 20}, "labelled": 4}, train=["t"]
        )
    )
    with pytest.raises(UserError, match=r"differs from .* in trainer\.max_steps \(20, not 10\)"):
        label_efficiency([*runs, other])
    with pytest.raises(UserError, match="give runs from scratch with two numbers"):
        label_efficiency(runs[:2] + runs[6:])


def test_a_pattern_passes_over_pretrainings(runs, tmp_path):
    made = tmp_path / "mae"
    made.mkdir()
    (made / "pretraining.json").write_text("{}")
    assert find_runs(str(tmp_path / "*")) == sorted(run.path for run in runs)
