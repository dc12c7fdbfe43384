import io
import json

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from segment.files import read_mapping
from segment.metrics.precision_recall import THRESHOLDS, precision_recall
from segment.report.notable import notable_scans
from segment.report.tensorboard import final_scores, hyperparameters, write_board
from segment.runs.config import flatten
from segment.runs.folder import read_run
from segment.runs.precision_recall import write_curves
from segment.visual.surfaces import side_by_side

NAMES = ("Anterior", "Posterior", "foreground")
SCORES = {"Dice", "Dice/Anterior", "Dice/Posterior", *(f"Metrics/{name}_iou" for name in NAMES)}


def change(run, file, old, new):
    text = (run / file).read_text()
    assert old in text
    (run / file).write_text(text.replace(old, new))


def choose(run, overrides, steps=0, **choices):
    record = json.loads((run / "provenance.json").read_text())
    record |= {"choices": choices, "overrides": overrides, "steps": steps}
    (run / "provenance.json").write_text(json.dumps(record))


def test_tensorboard_shows_scores_panels_curves_and_surfaces(make_run, tensorboard_server):
    runs = [make_run("first"), make_run("second", shifts=(0, 0, 1))]
    with SummaryWriter(str(runs[0] / "tensorboard")) as writer:
        writer.add_scalar("train/loss", 0.7, 5)
    counts = np.random.default_rng(0).integers(1, 100, (2, 2, THRESHOLDS))
    write_curves(runs[0] / "precision_recall.csv", ["Anterior", "Posterior"], counts)
    for run in runs:
        choose(run, [], steps=9)
        write_board(run)
    with tensorboard_server(runs[0].parent) as board:
        tags = board.get("scalars/tags")
        images = board.get("images/tags")
        for run in runs:
            name, summary = f"{run.name}/tensorboard", read_mapping(run / "summary.json")
            assert set(tags[name]) - {"train/loss"} == SCORES
            points = board.get("scalars/scalars", run=name, tag="Dice")
            assert [point[1:] for point in points] == [[9, pytest.approx(summary["foreground"]["dice"]["mean"])]]
            assert set(images[name]) == {"panels/worst", "panels/median"}
        name = "first/tensorboard"
        assert "train/loss" in tags[name]

        assert len(board.get("images/images", run=name, tag="panels/worst")) == 1
        expected = notable_scans(read_run(runs[0]))[0]
        picture = np.asarray(Image.open(io.BytesIO(board.image(name, "panels/worst"))))
        np.testing.assert_array_equal(picture, expected.picture)
        text = board.get("text/text", run=name, tag="panels/worst/text_summary")[0]["text"]
        assert expected.case in text
        assert f"{expected.score:.4f}" in text

        assert list(board.get("pr_curves/tags")) == [name]
        tag = "precision_recall_final/Posterior"
        (curve,) = board.get("pr_curves/pr_curves", run=name, tag=tag)[name]
        np.testing.assert_allclose(curve["recall"], precision_recall(counts)[1, 5], rtol=1e-5)
        np.testing.assert_allclose(curve["precision"], precision_recall(counts)[1, 4], rtol=1e-5)
        assert curve["thresholds"] == pytest.approx(np.linspace(0, 1, THRESHOLDS))

        assert board.get("mesh/tags")[name] == {"surfaces/worst": {"samples": 1}}
        mesh = {"run": name, "tag": "surfaces/worst", "sample": 0, "step": 0}
        voxels = expected.voxels
        surfaces = side_by_side(voxels.reference, voxels.prediction, voxels.n_classes, voxels.grid.spacing)
        for content, values in (("VERTEX", surfaces.vertices), ("FACE", surfaces.faces), ("COLOR", surfaces.colours)):
            served = np.frombuffer(board.bytes("mesh/data", content_type=content, **mesh), values.dtype)
            np.testing.assert_array_equal(served.reshape(-1, 3), values)


def test_sweep_table_starts_with_the_varied_keys(make_run, tensorboard_server):
    runs = [make_run("small_0"), make_run("small_1", lr=0.003), make_run("large_0"), make_run("other")]
    for index, run in enumerate(runs):
        (run / "config.yaml").write_text((run / "config.yaml").read_text() + f"fold: {index % 2}\n")
        deep = (
            "  encoder: {features: [8, 16], depths: 2}\n" if index < 2 else "  encoder: {features: [32], kernel: 3}\n"
        )
        change(run, "config.yaml", "  features: [8, 16, 32]\n", deep)
        choose(run, [f"fold={index % 2}"], network="small" if index < 2 else "large", optimizer="sgd")
    change(runs[3], "config.yaml", "kernel: 3", "kernel: 5")
    choose(runs[3], ["+network.encoder.kernel=5"], network="large", optimizer="sgd", loss="dice_ce")
    for run in runs:
        write_board(run)
        with SummaryWriter(str(run / "tensorboard")) as writer:
            for tag in ("Loss/train", "lr", "scan/a/Anterior_dice"):
                writer.add_scalar(tag, 0.7, 5)
    with tensorboard_server(runs[0].parent) as board:
        sessions = {session["name"].partition("/")[0]: session for session in board.sessions()}
        table = board.post("hparams/experiment", {"experimentName": "", "includeMetrics": True})
    # The page shows the first five columns of each kind until asked for others.
    columns = [info["name"]["tag"] for info in table["metricInfos"]]
    assert columns[:4] == ["Dice", "Dice/Anterior", "Dice/Posterior", "Loss/train"]
    varied = [info["name"] for info in table["hparamInfos"] if info["differs"]]
    assert varied == ["fold", "network", "network.encoder.kernel", "optimizer.lr"]
    rows = {name: session["hparams"] for name, session in sessions.items()}
    dice = read_mapping(runs[0] / "summary.json")["foreground"]["dice"]["mean"]
    assert rows["small_0"]["Dice"] == pytest.approx(dice, abs=5e-5)  # to the left of the settings
    assert [(rows[run.name]["network"], rows[run.name]["fold"]) for run in runs] == [
        ("small", "0"), ("small", "1"), ("large", "0"), ("large", "1"),
    ]  # fmt: skip
    assert [rows[name]["optimizer.lr"] for name in ("small_0", "small_1")] == [0.01, 0.003]
    assert [rows[name]["network.encoder.kernel"] for name in ("large_0", "other")] == ["preset", 5]
    assert rows["other"]["loss"] == "dice_ce"  # a column that no other run has
    assert not any("output" in row or "network._target_" in row for row in rows.values())
    for run in runs:
        scores = final_scores(read_mapping(run / "summary.json"))
        shown = sessions[run.name]["metrics"]
        assert shown["Dice"] == pytest.approx(scores["Final/foreground_dice"])
        assert shown["Metrics/Anterior_iou"] == pytest.approx(scores["Final/label/Anterior_iou"])


def test_second_call_replaces_its_output_and_keeps_the_training_log(make_run):
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
    assert [event.value for event in events.Scalars("Dice")] == [pytest.approx(0.1, abs=0.05)]
    assert len(events.Images("panels/worst")) == 1
    assert [event.value for event in events.Scalars("train/loss")] == [pytest.approx(0.7)]


def test_scores_are_written_without_source_images(make_run):
    run = make_run()
    for file in (run.parents[1] / "sources").iterdir():
        file.unlink()
    write_board(run)
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == SCORES
    assert events.Tags()["images"] == []


def test_folder_is_created_if_training_wrote_none(make_run):
    run = make_run()
    (run / "tensorboard").rmdir()
    write_board(run)
    assert len(list((run / "tensorboard").iterdir())) == 1


def test_undefined_means_are_omitted_and_labels_do_not_replace_the_foreground():
    def scores(value):
        return {"dice": {"mean": value}}

    summary = {"foreground": scores(0.4), "labels": {"a": scores(None), "b": scores(0.2), "foreground": scores(0.6)}}
    assert final_scores(summary) == {
        "Final/foreground_dice": 0.4,
        "Final/label/b_dice": 0.2,
        "Final/label/foreground_dice": 0.6,
    }


def test_flat_images_have_no_surface(make_run):
    run = make_run()
    for file in [*(run.parents[1] / "sources").iterdir(), *(run / "predictions").iterdir()]:
        image = nib.load(file)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[:, :, 4], image.affine), file)
    write_board(run)
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert len(events.Tags()["images"]) == 2
    assert not [tag for tag in events.Tags()["tensors"] if tag.startswith("surfaces")]


@pytest.mark.parametrize("record", [{}, {"choices": "network=small"}, {"choices": {}, "overrides": ["network.a.b=1"]}])
def test_a_run_without_recorded_choices_has_every_key(record):
    config = {"network": {"encoder": {"depths": 2}}, "fold": 3, "optimizer": {"lr": 0.1}}
    assert hyperparameters(config, record) == {"network.encoder.depths": 2, "fold": "3", "optimizer.lr": 0.1}


def test_machine_and_plan_keys_are_omitted_unless_overridden():
    config = {
        "callbacks": {"best": {"mode": "max"}, "panels": {"scans": 2}},
        "planned": {"patch_size": [8, 8], "strides": [1]},
        "network": {"stage": {"norm": {"affine": True}}},
        "seed": 7,
        "augment": {"seed": 7},
        "sampler": {"seed": 8},
    }
    record = {
        "choices": {"network": "unet", "callbacks": "default"},
        "overrides": ["callbacks.panels.scans=2", "~x", 3],
    }
    assert hyperparameters(config, record) == {
        "network": "unet",
        "callbacks": "default",
        "callbacks.panels.scans": 2,
        "planned.patch_size": "[8, 8]",
        "network.stage.norm.affine": "preset",
        "seed": "7",
        "sampler.seed": 8,
    }
    record["overrides"] = ["network.stage.norm={affine: true}"]
    assert hyperparameters(config, record)["network.stage.norm.affine"] == "true"


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


def test_paths_inside_the_run_folder_are_omitted():
    config = {"output": "runs/a", "cache": "x", "callbacks": {"best": {"dirpath": "runs/a/checkpoints", "mode": "max"}}}
    assert flatten(config | {"data": {"root": "runs/ab"}}) == {"callbacks.best.mode": "max", "data.root": "runs/ab"}
