"""The verb train from end to end on small data sets."""

import json
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from segment.errors import UserError
from segment.files import hash_files
from segment.metrics.scan import score_scan
from segment.runs.confusion import read_confusion

CONTRACT = (
    "config.yaml", "provenance.json", "checkpoints/last.ckpt", "checkpoints/best.ckpt", "model/weights.safetensors",
    "model/model.json", "scans.csv", "summary.json", "report.html",
)  # fmt: skip


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "weights.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_two_runs_are_complete_and_shown_side_by_side_in_tensorboard(
    run_train, make_dataset, tmp_path, capsys, tensorboard_server
):
    root = make_dataset(tmp_path / "data", n=6)
    first = run_train(root, "first", "optimizer.lr=0.01")
    second = run_train(root, "second", "optimizer.lr=0.001")
    printed = capsys.readouterr().out
    for run in (first, second):
        for file in CONTRACT:
            assert (run / file).stat().st_size > 0, file
    assert "ball_1" in printed
    assert "foreground" in printed

    # The scores are those of the masks on disk, on the scans' own grids.
    scans = pd.read_csv(first / "scans.csv")
    assert list(scans.columns[:10]) == [
        "case", "split", "fold", "label", "name", "dice", "iou", "reference_voxels", "predicted_voxels", "status",
    ]  # fmt: skip
    assert set(scans["fold"]) == {0}
    for case, rows in scans.groupby("case"):
        masks = [nib.load(folder / f"{case}.nii.gz") for folder in (first / "predictions", root / "labelsTr")]
        assert masks[0].shape == masks[1].shape
        np.testing.assert_allclose(masks[0].affine, masks[1].affine)
        prediction, reference = (np.asarray(mask.dataobj).astype(np.uint8) for mask in masks)
        expected = score_scan(prediction, reference, {"ball_1": [1], "ball_2": [2]}, 3)
        np.testing.assert_allclose(rows["dice"], [score.scores["dice"] for score in expected])
        assert list(rows["predicted_voxels"]) == [score.predicted_voxels for score in expected]
    confusion_adds_up(first, scans)
    summary = json.loads((first / "summary.json").read_text())
    assert summary["foreground"]["dice"]["mean"] == pytest.approx(scans.groupby("name")["dice"].mean().mean())
    assert summary["protocol"]["test_time_augmentation"] == "none"

    record = json.loads((first / "provenance.json").read_text())
    assert record["seed"] == 0
    assert set(record["split"]["val"]) == set(scans["case"])
    assert record["steps"] == 4

    with tensorboard_server(first.parent) as board:
        tags = board.get("scalars/tags")
        run = "first/tensorboard"
        assert {"Metrics/ball_1_iou", "lr"} <= tags[run].keys()
        assert sorted(tags[run])[:5] == ["Dice", "Dice/ball_1", "Dice/ball_2", "Loss/train", "Loss/val"]
        assert not {"epoch", "train/loss"} & tags[run].keys()
        for tag in ("Dice", "Loss/val"):
            assert {point[1] for point in board.get("scalars/scalars", run=run, tag=tag)} == {2, 4}
        case = scans["case"].iloc[0]
        assert f"scan/{case}/ball_1_dice" in tags[run]
        losses = board.get("scalars/scalars", run=run, tag="Loss/train")
        assert [point[1] for point in losses] == [0, 1, 2, 3]
        first_scan = f"panels/training/{record['split']['val'][0]}"
        assert set(board.get("images/tags")[run]) == {"panels/worst", first_scan}  # of two scans
        assert [shown["step"] for shown in board.get("images/images", run=run, tag=first_scan)] == [2, 4]
        curves = board.get("pr_curves/pr_curves", run=run, tag="precision_recall/ball_1")[run]
        assert [curve["step"] for curve in curves] == [2, 4]
        (final,) = board.get("pr_curves/pr_curves", run=run, tag="precision_recall_final/ball_1")[run]
        # The windows are those of the validation, after the last step.
        np.testing.assert_allclose(final["true_positives"], curves[-1]["true_positives"], atol=2)
        assert board.get("mesh/tags")[run] == {"surfaces/worst": {"samples": 1}}
        assert board.image(run, "panels/worst").startswith(b"\x89PNG")
        settings_and_scores(board.sessions(), summary)


@pytest.mark.usefixtures("without_pages")
def settings_and_scores(sessions: list[dict], summary: dict) -> None:
    """The table of runs has what was varied and the final Dice."""
    text = json.dumps(sessions)
    assert "optimizer.lr" in text
    assert sessions[0]["metrics"]["Dice"] == pytest.approx(summary["foreground"]["dice"]["mean"])


def confusion_adds_up(run: Path, scans: pd.DataFrame) -> None:
    """The table of confused labels counts the voxels of the table of scans."""
    confusion = read_confusion(run / "confusion.csv")
    assert list(confusion.columns) == ["background", "ball_1", "ball_2"]
    for column, sums in (("reference_voxels", confusion.sum(axis=1)), ("predicted_voxels", confusion.sum(axis=0))):
        assert scans.groupby("name")[column].sum().to_dict() == sums.drop("background").to_dict()


@pytest.mark.usefixtures("without_pages")
@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_the_weights_do_not_depend_on_the_number_of_workers(run_train, make_dataset, tmp_path, workers):
    root = make_dataset(tmp_path / "data", n=4)
    assert same(weights(run_train(root, "none")), weights(run_train(root, "some", f"sampler.workers={workers}")))


@pytest.mark.usefixtures("without_pages")
def test_seeds_make_different_weights_and_the_same_seed_the_same(run_train, make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", n=4)
    zero, again, one = (weights(run_train(root, name, f"seed={s}")) for name, s in (("a", 0), ("b", 0), ("c", 1)))
    assert same(zero, again)
    assert not same(zero, one)


@pytest.mark.usefixtures("without_pages")
@pytest.mark.parametrize(("stop", "callbacks"), [(4, "ema"), pytest.param(6, "default", marks=pytest.mark.slow)])
def test_run_stopped_by_max_time_resumes_to_the_same_weights(
    run_train, make_dataset, tmp_path, callbacks, stop, monkeypatch
):
    root = make_dataset(tmp_path / "data", n=4)
    more = (
        "trainer.max_steps=9", "sampler.steps_per_epoch=3", "network.encoder.stage.dropout=0.2",
        f"callbacks={callbacks}",
        "+callbacks.stop={_target_: stopping.StopAt}",
    )  # fmt: skip
    whole = run_train(root, "whole", *more)
    monkeypatch.setenv("STOP_AT", str(stop))
    part = run_train(root, "part", *more, "trainer.max_time=00:01:00:00")
    assert json.loads((part / "provenance.json").read_text())["steps"] == stop
    monkeypatch.delenv("STOP_AT")
    run_train(root, "part", *more)
    assert json.loads((part / "provenance.json").read_text())["steps"] == 9
    assert same(weights(whole), weights(part))
    tag = "precision_recall/ball_2"
    curves, again = ({event.step: event.tensor_proto for event in tensors(run, tag)} for run in (whole, part))
    assert sorted(curves) == [3, 6, 9]
    assert curves == {step: again[step] for step in curves}  # what was stopped validated at its stop too


def tensors(run: Path, tag: str) -> list:
    events = EventAccumulator(str(run / "tensorboard"), {"tensors": 0})
    events.Reload()
    return events.Tensors(tag)


@pytest.mark.usefixtures("without_pages")
def test_finished_run_is_kept_and_another_configuration_is_refused(run_train, make_dataset, tmp_path, capsys):
    root = make_dataset(tmp_path / "data", n=4)
    run = run_train(root, "run")
    before = {file: file.stat().st_mtime_ns for file in run.rglob("*") if file.is_file()}
    run_train(root, "run")
    assert "is finished" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"optimizer\.lr is .* there and 0\.5 here"):
        run_train(root, "run", "optimizer.lr=0.5")
    with pytest.raises(
        UserError, match=rf"max_steps is 4 there and 9 here.* start a new run .* weights={run} name=NEW"
    ):
        run_train(root, "run", "trainer.max_steps=9")
    assert before == {file: file.stat().st_mtime_ns for file in run.rglob("*") if file.is_file()}


def test_2d_images_with_a_background_that_is_not_zero(run_train, make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", layout="folders", n=4, shape=(30, 34), labels=1)
    run = run_train(root, "run", "plan.patch_size=[16,16]", "data.labels={background: 1, rest: 0}")
    scans = pd.read_csv(run / "scans.csv")
    assert set(scans["name"]) == {"rest"}
    assert sorted(p.suffix for p in (run / "predictions").iterdir()) == [".png"]


@pytest.mark.usefixtures("without_pages")
def test_two_channels_and_two_labels(run_train, make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", layout="nnunet", n=4, channels=2)
    run = run_train(root, "run")
    assert json.loads((run / "model" / "model.json").read_text())["channels"] == ["channel_0", "channel_1"]


@pytest.mark.usefixtures("without_pages")
def test_a_splits_file_is_followed(run_train, make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", n=4)
    names = [f"case_{'abcd'[i]}{i:02d}" for i in range(4)]
    (tmp_path / "splits.json").write_text(json.dumps([{"train": names[1:], "val": names[:1]}]))
    run = run_train(root, "run", f"splits={tmp_path / 'splits.json'}")
    assert set(pd.read_csv(run / "scans.csv")["case"]) == {names[0]}


def damage_shape(root: Path) -> str:
    file = next((root / "labelsTr").iterdir())
    nib.save(nib.Nifti1Image(np.zeros((5, 5, 5), np.uint8), np.eye(4)), file)
    return file.name


def damage_truncate(root: Path) -> str:
    file = next((root / "imagesTr").iterdir())
    file.write_bytes(file.read_bytes()[:-300])
    return file.name


def damage_value(root: Path) -> str:
    file = next((root / "labelsTr").iterdir())
    mask = nib.load(file)
    nib.save(nib.Nifti1Image(np.full(mask.shape, 9, np.uint8), mask.affine), file)
    return file.name


def damage_missing(root: Path) -> str:
    file = next((root / "labelsTr").iterdir())
    file.unlink()
    return file.name


@pytest.mark.parametrize("damage", [damage_shape, damage_truncate, damage_value, damage_missing])
def test_a_broken_data_set_is_named_and_leaves_no_run_folder(run_train, make_dataset, tmp_path, damage):
    root = make_dataset(tmp_path / "data", n=4)
    name = damage(root)
    with pytest.raises(UserError, match=name):
        run_train(root, "run")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("debug", ["fast_dev_run", "overfit", "profiler"])
def test_debug_configurations_run(run_train, make_dataset, tmp_path, debug, capsys):
    root = make_dataset(tmp_path / "data", n=4)
    run = run_train(root, "run", f"debug={debug}", *(["trainer.max_steps=2"] if debug != "fast_dev_run" else []))
    if debug == "fast_dev_run":
        assert not (run / "model").exists()
    if debug == "overfit":
        split = json.loads((run / "provenance.json").read_text())["split"]
        assert split["train"] == split["val"] == sorted(set(pd.read_csv(run / "scans.csv")["case"]))
        assert len(split["val"]) == 1
        assert set(pd.read_csv(run / "scans.csv")["split"]) == {"train"}


@pytest.mark.usefixtures("without_pages")
def test_a_run_starts_from_the_weights_of_another(run_train, make_dataset, tmp_path, capsys):
    root = make_dataset(tmp_path / "data", n=4)
    first = run_train(root, "first")
    still = ("optimizer.lr=0", "optimizer.weight_decay=0", "scheduler=constant", "trainer.max_steps=2")
    second = run_train(root, "second", f"weights={first}", "seed=7", *still)
    told = re.search(rf"Starting from {re.escape(str(first))}\S*: (.*)\.", capsys.readouterr().out)
    assert told
    counts = re.findall(r"(\d+) of (\d+) tensors", told[1])
    assert sum(int(taken) for taken, _ in counts) == sum(int(most) for _, most in counts) == len(weights(first))
    assert same(weights(first), weights(second))
    file = first / "model" / "weights.safetensors"
    assert json.loads((second / "provenance.json").read_text())["weights"] == hash_files([file])
    assert json.loads((first / "provenance.json").read_text())["weights"] == {}


@pytest.mark.usefixtures("without_pages")
@pytest.mark.slow
def test_published_weights_go_into_the_encoder(run_train, make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", n=4)
    encoder = (
        "network.encoder=resnet18",
        "network.decoder.stage={_target_: segment.networks.stages.BlockStage, _partial_: true}",
        "plan.patch_size=[8,40,16]", "trainer.max_steps=1",
    )  # fmt: skip
    layout = json.loads((Path(__file__).parents[1] / "networks/encoders/torchvision_layout.json").read_text())[
        "resnet18"
    ]
    draw = torch.Generator().manual_seed(3)
    state = {name: torch.rand(shape, generator=draw) if shape else torch.tensor(1) for name, shape in layout}
    torch.save(state, tmp_path / "resnet18.pth")
    still = ("optimizer.lr=0", "scheduler=constant", "sampler.steps_per_epoch=1")
    run = run_train(root, "run", *encoder, *still, f"weights={tmp_path / 'resnet18.pth'}")
    learnt = weights(run)["encoder.trunk.layer1.0.conv1.weight"]
    torch.testing.assert_close(learnt.sum(dim=2), state["layer1.0.conv1.weight"])


def test_class_weights_of_the_wrong_length_are_refused_with_the_order_of_the_labels(run_train, make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", n=4)
    with pytest.raises(UserError, match=r"class_weights=\[1, 2\]: .*3 outputs.*order: background, ball_1, ball_2"):
        run_train(root, "run", "loss.class_weights=[1,2]")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("wrong", ["nowhere.pth", "data"])
def test_invalid_weights_are_refused_before_anything_is_written(run_train, make_dataset, tmp_path, wrong):
    root = make_dataset(tmp_path / "data", n=4)
    with pytest.raises(UserError, match=f"weights={tmp_path / wrong}"):
        run_train(root, "run", f"weights={tmp_path / wrong}")
    assert not (tmp_path / "runs").exists()


def test_patch_smaller_than_the_strides_is_refused(run_train, make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", n=4)
    with pytest.raises(UserError, match=r"plan\.patch_size=\[8, 16, 16\]"):
        run_train(root, "run", "network.encoder.features=[4,4,4,4,4]")
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_two_processes_share_a_run(make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", n=6)
    overrides = [
        "data=auto", f"data.root={root}", "network.encoder.features=[4,8]", "trainer=ddp", "trainer.accelerator=cpu",
        "trainer.devices=2", "trainer.max_steps=4", "sampler.steps_per_epoch=2", "sampler.workers=0",
        "trainer.check_val_every_n_epoch=1", "plan.patch_size=[8,16,16]", "name=run", f"cache={tmp_path / 'cache'}",
    ]  # fmt: skip
    command = [sys.executable, "-m", "segment.cli", "train", *overrides]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "run" / "report.html").exists()
    record = json.loads((tmp_path / "runs" / "run" / "provenance.json").read_text())
    assert set(pd.read_csv(tmp_path / "runs" / "run" / "scans.csv")["case"]) == set(record["split"]["val"])
    # The curves count the voxels of both processes' scans.
    drawn = [
        make_ndarray(event.tensor_proto) for event in tensors(tmp_path / "runs" / "run", "precision_recall/ball_1")
    ]
    final = pd.read_csv(tmp_path / "runs" / "run" / "precision_recall.csv").query("name == 'ball_1'")
    assert len(record["split"]["val"]) == 2
    assert [curve[0, 0] for curve in drawn] == [final["true_positives"].iloc[0]] * 2
    assert record["choices"]["trainer"] == "ddp"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Task04_Hippocampus", "isbi2012_em"])
def test_the_real_data_sets_train(run_train, shared_data, tmp_path, name):
    patch, data = ("[16,16,16]", "hippocampus") if name.startswith("Task04") else ("[64,64]", "isbi2012_em")
    run = run_train(shared_data(name), "run", f"data={data}", f"plan.patch_size={patch}", "trainer.max_steps=2")
    assert len(pd.read_csv(run / "scans.csv")["case"].unique()) == (52 if data == "hippocampus" else 6)


@pytest.mark.parametrize(
    "choices",
    [
        ("trainer.precision=bf16-mixed", "optimizer=sgd", "scheduler=polynomial"),
        (
            "network.encoder.features=[4,8,8]",
            "network.deep_supervision=1",
            "loss=generalized_dice_focal",
            "scheduler=cosine",
        ),
        ("trainer.accumulate_grad_batches=2", "callbacks=ema", "augment=none", "sampler.foreground=0", "loss=tversky"),
        ("inference.mirror=all", "plan.spacing=[2,1.5,1.5]", "plan.normalization=none", "plan.batch_size=3"),
    ],
)
def test_other_choices_train_and_score(run_train, make_dataset, tmp_path, choices):
    run = run_train(make_dataset(tmp_path / "data", n=4), "run", *choices, "sampler.steps_per_epoch=2")
    assert json.loads((run / "provenance.json").read_text())["steps"] == 4
    assert pd.read_csv(run / "scans.csv")["dice"].notna().all()
