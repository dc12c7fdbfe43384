"""Trainings of several processes: whatever their number, the result is that of one."""

import contextlib
import dataclasses
import json
import multiprocessing
import os

import pandas as pd
import pytest
import torch
from ranks import train_with
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from whole_runs import TINY

from segment.config.compose import compose_command
from segment.config.experiment import read_experiment
from segment.errors import UserError
from segment.runs.settings import write_settings
from segment.workflow import train as training
from segment.workflow.processes import Process, this_process
from segment.workflow.train import train

STEPS = ("optimizer=sgd", "optimizer.lr=0.05", "trainer.max_steps=4", "loss=dice_ce")
SCORES = ["dice", "iou", "hd95_mm", "nsd"]


def run(root, folder, processes: int, name: str, *more: str) -> None:
    words = [*TINY, *STEPS, f"data.root={root}", f"cache={folder / 'cache'}", f"output={folder / name}"]
    ended = train_with(processes, folder, *words, f"plan.batch_size={4 // processes}", *more)
    for process in ended:
        assert process.poll() == 0, process.errors
    assert all(process.printed == "" for process in ended[1:])


def assert_equal_results(folder, one: str, several: str) -> None:
    weights = [load_file(folder / name / "model" / "weights.safetensors") for name in (one, several)]
    for key, value in weights[0].items():
        torch.testing.assert_close(weights[1][key], value, rtol=0, atol=1e-5)
    tables = [pd.read_csv(folder / name / "scans.csv") for name in (one, several)]
    pd.testing.assert_frame_equal(*tables, rtol=1e-5)
    counts = [pd.read_csv(folder / name / "precision_recall.csv") for name in (one, several)]
    pd.testing.assert_frame_equal(*counts, atol=3)
    assert not (folder / several / ".scoring").exists()


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_more_processes_than_validation_scans_equal_one(make_dataset, tmp_path, processes):
    root = make_dataset(tmp_path / "data", n=4)
    run(root, tmp_path, 1, "one")
    run(root, tmp_path, processes, "several")
    assert_equal_results(tmp_path, "one", "several")
    record = json.loads((tmp_path / "several" / "provenance.json").read_text())
    assert len(record["split"]["val"]) == 1
    losses = [list((tmp_path / name / "tensorboard").glob("events.*")) for name in ("one", "several")]
    assert len(losses[1]) == len(losses[0])  # written by the first process alone


@pytest.mark.slow
def test_folds_of_uneven_shares_follow_each_other_under_torchrun(make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", n=6)
    for processes, name in ((1, "one"), (2, "two")):
        run(root, tmp_path, processes, name, "fold=all", "folds=2")
    for end in ("", "-fold0", "-fold1"):
        tables = [pd.read_csv(tmp_path / f"{name}{end}" / "scans.csv") for name in ("one", "two")]
        assert len(tables[0]["case"].unique()) == (3 if end else 6)
        pd.testing.assert_frame_equal(*tables, rtol=1e-5)
    run(root, tmp_path, 2, "two", "fold=all", "folds=2")  # finished


@pytest.mark.slow
def test_a_network_with_parameters_without_gradient_trains(make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", n=4)
    run(root, tmp_path, 2, "two", "network._target_=unused_layer.UnusedLayer", "trainer.max_steps=3")


def experiment_of(root, folder, *more: str):
    words = [*TINY, f"data.root={root}", f"cache={folder / 'cache'}", f"output={folder / 'run'}", *more]
    return read_experiment(*compose_command("train", words))


def test_processes_that_srun_starts_at_once_all_find_their_folder(make_dataset, tmp_path, monkeypatch):
    experiment = experiment_of(make_dataset(tmp_path / "data", n=2), tmp_path, "trainer.devices=8")
    rounds, together = 13, multiprocessing.get_context("fork").Barrier(8)

    def claimed(experiment, callbacks, started, process):
        if process.rank == 0:
            write_settings(experiment.output, {"planned": {}})
            (experiment.output / ".partial-mine").write_text("being written")
            assert (experiment.output / ".lock").exists()
        together.wait()
        assert (experiment.output / ".partial-mine").exists()
        together.wait()

    monkeypatch.setattr(training, "train_unfinished", claimed)
    written = dataclasses.replace(experiment, settings=lambda planned: {"planned": {}})

    def start(rank: int) -> None:
        monkeypatch.setenv("SLURM_JOB_NAME", "training")
        monkeypatch.setenv("SLURM_NTASKS", "8")
        monkeypatch.setenv("SLURM_PROCID", str(rank))
        for number in range(rounds):
            together.wait()
            train(dataclasses.replace(written, output=tmp_path / "runs" / str(number)))
        os._exit(0)

    started = [multiprocessing.get_context("fork").Process(target=start, args=(rank,)) for rank in range(8)]
    for process in started:
        process.start()
    for process in started:
        process.join(60)
    assert [process.exitcode for process in started] == [0] * 8


@pytest.mark.parametrize(
    ("environment", "devices", "expected"),
    [
        ({}, "2", Process(0)),
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_JOB_NAME": "a"}, "1", Process(0)),  # four trainings
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_JOB_NAME": "a"}, "4", Process(3, launched=True)),
        ({"LOCAL_RANK": "1", "NODE_RANK": "1", "WORLD_SIZE": "4"}, "2", Process(3)),
        ({"TORCHELASTIC_RUN_ID": "a", "RANK": "1", "WORLD_SIZE": "4"}, "2", Process(1, launched=True)),
        ({"TORCHELASTIC_RUN_ID": "a", "RANK": "1", "WORLD_SIZE": "4"}, "1", None),
    ],
)
def test_the_process_is_told_by_what_started_it(tmp_path, monkeypatch, environment, devices, expected):
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    nodes = ["+trainer.num_nodes=2"] if environment.get("WORLD_SIZE") and devices == "2" else []
    trainer = experiment_of(tmp_path, tmp_path, f"trainer.devices={devices}", *nodes).trainer
    refused = pytest.raises(UserError, match="torchrun started 4 processes") if expected is None else None
    with refused or contextlib.nullcontext():
        assert this_process(trainer) == expected


@pytest.mark.usefixtures("without_pages")
def test_scoring_that_was_killed_goes_on_where_it_was(run_train, make_dataset, tmp_path, monkeypatch):
    root = make_dataset(tmp_path / "data", n=6)
    whole = run_train(root, "whole", "folds=2")
    predicted: list[str] = []
    real = training.score.__globals__["ScanPredictor"]._predict

    def predict(self, case, prepared):
        predicted.append(case.id)
        if len(predicted) == 3:
            raise KeyboardInterrupt
        return real(self, case, prepared)

    monkeypatch.setattr("segment.workflow.predicted.ScanPredictor._predict", predict)
    with pytest.raises(KeyboardInterrupt):
        run_train(root, "part", "folds=2")
    run = run_train(root, "part", "folds=2")
    assert len(predicted) == 4  # three scans; the third was interrupted
    assert predicted[2] == predicted[3]
    assert (run / "scans.csv").read_bytes() == (whole / "scans.csv").read_bytes()


@pytest.mark.usefixtures("without_pages")
def test_some_scans_are_validated_during_training_and_all_are_scored(
    run_train, make_dataset, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("segment.training.callbacks.scan_metrics.MOST_TAGS", 7)
    root = make_dataset(tmp_path / "data", n=6)
    run = run_train(root, "run", "folds=2", "validation=1", "trainer.max_steps=2")
    assert "1 of 3 validation scans are predicted during training" in capsys.readouterr().err
    assert json.loads((run / "summary.json").read_text())["protocol"]["validated_during_training"] == "1 scans"
    assert len(pd.read_csv(run / "scans.csv")["case"].unique()) == 3

    def tags(run) -> set[str]:
        events = EventAccumulator(str(run / "tensorboard"))
        events.Reload()
        return {tag for tag in events.Tags()["scalars"] if tag.startswith("scan/")}

    assert len(tags(run)) == 4  # two labels, two metrics
    assert tags(run_train(root, "all", "folds=2", "trainer.max_steps=2")) == set()
