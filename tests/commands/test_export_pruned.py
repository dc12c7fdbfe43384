"""The verb export with prune=: prunes a run's network, trains it on as the run was, and exports what that gives."""

import json
import shutil

import pytest

from segment import api
from segment.commands import export, predict
from segment.config.compose import compose
from segment.errors import UserError
from segment.networks.padding import count_parameters


@pytest.fixture
def run(tested_folds, tmp_path):
    """``run(model=..., output=...)``: exports a pruned network of that run."""

    def exported(**values) -> None:
        given = {"model": tested_folds / "cv-fold0", "prune": 0.5, "pruned_run": tmp_path / "pruned"}
        given |= {"output": tmp_path / "exported", "cache": tested_folds / "cache"} | values
        export.run(compose("export", [f"{key}={value}" for key, value in given.items()]))

    return exported


@pytest.mark.usefixtures("without_pages")
@pytest.mark.slow
def test_a_pruned_network_is_trained_on_scored_exported_and_predicts(run, tested_folds, tmp_path, capsys):
    whole, pruned, folder = tested_folds / "cv-fold0", tmp_path / "pruned", tmp_path / "exported"
    run(finetune_steps=2, precision="int8", agreement=0.5)
    printed = capsys.readouterr().out
    assert "prune=0.5" in printed
    assert "voxels of the same class" in printed

    there, here = (json.loads((one / "provenance.json").read_text()) for one in (whole, pruned))
    assert (there["steps"], here["steps"]) == (4, 2)
    assert (here["split"], here["seed"]) == (there["split"], there["seed"])
    assert json.loads((pruned / "summary.json").read_text())["foreground"]["dice"]["n"] == 2

    described = json.loads((folder / "model.json").read_text())
    counts = [count_parameters(api.load_model(one).network) for one in (whole, pruned)]
    assert described["pruned"]["parameters"] == counts
    assert counts[1] < counts[0]
    assert described["pruned"]["gflop"][1] < described["pruned"]["gflop"][0]
    assert described["pruned"] | {"ratio": 0.5, "steps": 2} == described["pruned"]
    assert described["pruned"]["weights"] == next(iter(here["weights"].values()))
    assert described["export"]["comparison"]["source"] == "validation scans of the run"
    inputs = tested_folds / "data" / "images" / "test"
    words = [f"model={folder}", f"input={inputs}", f"output={tmp_path / 'masks'}"]
    predict.run(compose("predict", words))
    assert len([*(tmp_path / "masks").glob("*.png")]) == 3

    with pytest.raises(UserError, match="is pruned already"):
        run(model=pruned, output=tmp_path / "again")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"prune": 1}, "prune=1: give the share of channels"),
        ({"prune": "null", "pruned_run": "null", "finetune_steps": 5}, "finetune_steps=5: is for a pruned network"),
        ({"finetune_steps": 0}, "finetune_steps=0"),
        ({"checkpoint": "best"}, "checkpoint=best: a run is pruned with its last weights"),
    ],
)
def test_a_wrong_value_is_named_before_anything_is_done(given, words, run, tmp_path):
    with pytest.raises(UserError, match=words):
        run(**given)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("network._target_=os.system", "may not choose which code runs"),
        ("loss={_target_: os.system}", "may not choose which code runs"),
        ("+callbacks.mine={_target_: os.system}", "may not choose which code runs"),
        ("hydra.searchpath=[file://elsewhere]", "may not choose which code runs"),
        ("formats=[theirs]", "may not choose which code runs"),
        ("callbacks.best.dirpath=/elsewhere", "where files are written"),
        ("seed=${oc.env:HOME}", "may not choose which code runs"),
        ("--multirun", "may not choose which code runs"),
        ("seed=7", "no longer gives the configuration"),
        ("network=nowhere", "network=nowhere"),
    ],
)
def test_the_command_of_a_run_is_data_and_must_give_its_configuration(word, reason, run, tested_folds, tmp_path):
    theirs = shutil.copytree(tested_folds / "cv-fold0", tmp_path / "theirs")
    record = json.loads((theirs / "provenance.json").read_text())
    record["command"].append(word)
    (theirs / "provenance.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=reason):
        run(model=theirs)
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]


@pytest.mark.slow
def test_what_was_not_trained_alone_cannot_be_trained_on(run, tested_folds, tmp_path):
    shutil.copytree(tested_folds / "cv-fold0" / "model", tmp_path / "model")
    with pytest.raises(UserError, match=r"prune= trains on, and needs the folder of a finished run"):
        run(model=tmp_path / "model")
    with pytest.raises(UserError, match="fold"):
        run(model=tested_folds / "cv")
