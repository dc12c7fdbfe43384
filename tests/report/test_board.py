import io

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from segment.report.board import final_scores, flatten, write_board
from segment.report.files import read_mapping
from segment.report.folder import notable_scans, read_run

SCORES = {f"final/{name}_{metric}" for name in ("foreground", "Anterior", "Posterior") for metric in ("dice", "iou")}


def test_tensorboard_shows_scores_panels_and_hyperparameters_of_every_run(make_run, tensorboard_server):
    runs = [make_run("first", lr=0.01), make_run("second", lr=0.003, shifts=(0, 0, 1))]
    with SummaryWriter(str(runs[0] / "tensorboard")) as writer:
        writer.add_scalar("train/loss", 0.7, 5)
    (runs[1] / "config.yaml").write_text((runs[1] / "config.yaml").read_text() + "loss:\n  weight: 0.5\n")
    for run in runs:
        write_board(run)
    with tensorboard_server(runs[0].parent) as board:
        tags = board.get("scalars/tags")
        images = board.get("images/tags")
        for run in runs:
            name, summary = f"{run.name}/tensorboard", read_mapping(run / "summary.json")
            assert set(tags[name]) - {"train/loss"} == SCORES
            points = board.get("scalars/scalars", run=name, tag="final/foreground_dice")
            assert [point[2] for point in points] == [pytest.approx(summary["foreground"]["dice"]["mean"])]
            assert set(images[name]) == {"panels/worst", "panels/median"}
        assert "train/loss" in tags["first/tensorboard"]

        assert len(board.get("images/images", run="first/tensorboard", tag="panels/worst")) == 1
        blob = board.image("first/tensorboard", "panels/worst")
        expected = notable_scans(read_run(runs[0]))[0]
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(blob))), expected.picture)
        text = board.get("text/text", run="first/tensorboard", tag="panels/worst/text_summary")[0]["text"]
        assert expected.case in text
        assert f"{expected.dice:.4f}" in text

        sessions = {session["name"]: session for session in board.sessions()}
    assert set(sessions) == {"first/tensorboard", "second/tensorboard"}
    first, second = sessions["first/tensorboard"], sessions["second/tensorboard"]
    assert first["hparams"]["optimizer.lr"] == 0.01
    assert second["hparams"]["optimizer.lr"] == 0.003
    assert first["hparams"]["network.features"] == "[8, 16, 32]"
    assert second["hparams"]["loss.weight"] == 0.5  # a column that the other run does not have
    assert "output" not in first["hparams"]
    for session, run in ((first, runs[0]), (second, runs[1])):
        scores = final_scores(read_mapping(run / "summary.json"))
        assert {tag: session["metrics"][tag] for tag in SCORES} == pytest.approx(scores)


def test_calling_twice_replaces_and_keeps_what_training_wrote(make_run):
    run = make_run()
    with SummaryWriter(str(run / "tensorboard")) as writer:
        writer.add_scalar("train/loss", 0.7, 5)
    before = set(run.iterdir())
    write_board(run)
    summary = (run / "summary.json").read_text()
    (run / "summary.json").write_text(summary.replace('"mean": 0.7', '"mean": 0.1'))
    write_board(run)
    assert len(list((run / "tensorboard").iterdir())) == 2
    assert set(run.iterdir()) == before
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert [event.value for event in events.Scalars("final/foreground_dice")] == [pytest.approx(0.1, abs=0.05)]
    assert len(events.Images("panels/worst")) == 1
    assert [event.value for event in events.Scalars("train/loss")] == [pytest.approx(0.7)]


def test_missing_source_images_leave_the_scores(make_run):
    run = make_run()
    for file in (run.parents[1] / "sources").iterdir():
        file.unlink()
    write_board(run)
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == SCORES
    assert events.Tags()["images"] == []


def test_folder_is_made_when_training_wrote_nothing(make_run):
    run = make_run()
    (run / "tensorboard").rmdir()
    write_board(run)
    assert len(list((run / "tensorboard").iterdir())) == 1


def test_undefined_means_are_left_out_and_no_label_hides_the_foreground():
    def scores(value):
        return {"dice": {"mean": value}}

    summary = {"foreground": scores(0.4), "labels": {"a": scores(None), "b": scores(0.2), "foreground": scores(0.6)}}
    assert final_scores(summary) == {"final/b_dice": 0.2, "final/foreground_dice": 0.4}


def test_configuration_becomes_one_row():
    config = {
        "network": {"features": [8, 16], "dropout": None, "options": {}, "deep": {"er": 1}},
        "lr": 1e-3,
        "nesterov": True,
        "text": "a",
        "clip": float("inf"),
        "large": 10**400,
        "output": "runs/x",
    }
    row = flatten(config)
    assert row.pop("large").startswith("1000")
    assert row == {
        "network.features": "[8, 16]",
        "network.dropout": "none",
        "network.options": "{}",
        "network.deep.er": 1,
        "lr": 1e-3,
        "nesterov": "true",
        "text": "a",
        "clip": "inf",
    }


def test_paths_inside_the_run_folder_tell_nothing_about_a_run():
    config = {"output": "runs/a", "cache": "x", "callbacks": {"best": {"dirpath": "runs/a/checkpoints", "mode": "max"}}}
    assert flatten(config | {"data": {"root": "runs/ab"}}) == {"callbacks.best.mode": "max", "data.root": "runs/ab"}
