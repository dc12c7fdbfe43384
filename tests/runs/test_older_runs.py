"""Runs that an earlier version wrote (commit db99af0, November 2026) are read, compared and predicted as it did.

`tests/fixtures/runs_of_november_2026` holds five synthetic scans, two runs of 60 steps on them, the output of that
version's `compare format=json` for the two and the masks that its `predict` wrote with the first.
"""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segment.commands import compare, predict
from segment.config.compose import compose, compose_command
from segment.config.experiment import read_experiment
from segment.inference.model import load_model
from segment.runs.folder import read_run
from segment.runs.settings import differences

OLD = Path(__file__).parents[1] / "fixtures" / "runs_of_november_2026"
RUNS = [OLD / "seed0", OLD / "seed1"]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_older_runs_are_read(run):
    found = read_run(run)
    assert len(found.scans) == 6
    assert found.summary["scans"] == 3
    assert found.config["network"]["encoder"]["features"] == [4, 8]
    assert load_model(run).labels.declared == {"background": 0, "shell": 1, "core": 2}


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_older_runs_have_the_configuration_of_the_same_command_today(run, tmp_path):
    """Unfinished runs can be resumed, and finished ones are not trained again."""
    overrides = [
        *(
            "data=auto",
            f"data.root={OLD / 'scans'}",
            "network=unet_small",
            "network.encoder.features=[4,8]",
            "trainer.max_steps=60",
            "folds=2",
        ),
        *("sampler.steps_per_epoch=30", "trainer.precision=32-true", "plan.patch_size=[8,8,8]", "inference=plain"),
        *("optimizer.lr=0.01", f"seed={run.name[-1]}", f"output=runs/{run.name}"),
    ]
    written = read_run(run).config
    found = read_experiment(*compose_command("train", overrides)).settings(written["planned"])
    assert differences(written, found) == []


def test_older_runs_compare_with_the_same_numbers(capsys):
    expected = json.loads((OLD / "compared.json").read_text())
    compare.run(compose("compare", [f"runs=[{RUNS[0]},{RUNS[1]}]", "by=run", "format=json"]))
    found = json.loads(capsys.readouterr().out)
    assert [method["scans"] for method in found["methods"]] == [method["scans"] for method in expected["methods"]]
    assert len(found["pairs"]) == len(expected["pairs"]) == 3
    for ours, theirs in zip(found["pairs"], expected["pairs"], strict=True):
        # Since then p is that of the printed difference, and Wilcoxon's stands beside it.
        assert ours["p_wilcoxon"] == theirs["p"]
        shared = ours.keys() & theirs.keys() - {"p", "p_holm", "significant"}
        assert {"structure", "difference", "interval", "effect"} <= shared
        assert {key: ours[key] for key in shared} == {key: theirs[key] for key in shared}


def test_older_runs_predict_the_same_masks(tmp_path):
    given = [f"model={RUNS[0]}", f"input={OLD / 'scans' / 'imagesTr'}", f"output={tmp_path}", "precision=32-true"]
    predict.run(compose("predict", given))
    for file in sorted((OLD / "masks").iterdir()):
        ours, theirs = nib.load(tmp_path / file.name), nib.load(file)
        np.testing.assert_array_equal(ours.affine, theirs.affine)
        # Processors differ in the last bit, which may decide a voxel.
        assert (np.asarray(ours.dataobj) != np.asarray(theirs.dataobj)).mean() < 0.001
