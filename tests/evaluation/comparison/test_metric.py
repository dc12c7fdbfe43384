"""The metric of a comparison, as the runs record it; further metrics do not separate methods."""

import json

import numpy as np
import pytest
from finished_runs import scores_like_dice, write_run

from segment.errors import UserError
from segment.evaluation.comparison.methods import read_methods


def record(run, **info):
    """Record in the summary of a run how to interpret its column ``gap``."""
    summary = json.loads((run / "summary.json").read_text())
    summary["metrics"] = {"gap": {"unit": "mm", "higher_is_better": False, "perfect": 0, "penalty": "diagonal"} | info}
    (run / "summary.json").write_text(json.dumps(summary))


def test_metric_information_of_the_runs_must_agree(tmp_path):
    gap = {"gap": np.arange(12.0).reshape(6, 2)}
    old, new, other = (write_run(tmp_path / name, scores_like_dice(6, 2, 0), further=gap) for name in "abc")
    assert read_methods(f"{tmp_path}/*", "gap", "run").metric.higher_is_better  # nothing but the name is known
    record(new, title="Gap at 2 mm")
    found = read_methods([str(old), str(new)], "gap", "run").metric
    assert (found.heading, found.higher_is_better) == ("Gap at 2 mm (mm)", False)
    record(other, title="Gap at 1 mm")
    with pytest.raises(
        UserError, match=r"metric=gap: differs between .*/b and .*/c: title is Gap at 2 mm in the first"
    ):
        read_methods(f"{tmp_path}/*", "gap", "run")


def test_additional_metrics_do_not_separate_methods(tmp_path):
    further = {"gap": np.ones((6, 2))}
    for seed, metrics in enumerate(({}, {"dice": {"_target_": "a.Dice"}}, {"gap": {"_target_": "b.Gap"}})):
        write_run(tmp_path / f"seed{seed}", scores_like_dice(6, 2, seed), {"metrics": metrics}, seed=seed)
    write_run(tmp_path / "other", scores_like_dice(6, 2, 9), {"optimizer": {"lr": 1}}, further=further)
    methods = read_methods(f"{tmp_path}/*")
    assert [method.seeds for method in methods.methods] == [1, 3]
    assert set(methods.differences) == {"optimizer.lr", "seed"}
