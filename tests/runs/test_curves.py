import math
import struct

import pytest
from torch.utils.tensorboard import SummaryWriter

from segment.runs.curves import board_tag, loss_curve, read_curves

TAGS = ["train/loss", "val/foreground_dice", "val/absent_dice"]


def write(folder, values, tag="train/loss", suffix=""):
    with SummaryWriter(folder, filename_suffix=suffix) as writer:
        for step, value in values.items():
            writer.add_scalar(tag, value, step)


@pytest.mark.parametrize(
    ("tag", "shown"),
    [
        ("train/loss", "Loss/train"),
        ("val/loss", "Loss/val"),
        ("val/foreground_dice", "Dice"),
        ("val/left lung_dice", "Dice/left lung"),
        ("val/foreground_hd95_mm", "Metrics/foreground_hd95_mm"),
        ("lr", "lr"),
        ("scan/a/head_dice", "scan/a/head_dice"),
    ],
)
def test_a_curve_is_read_by_its_name_whatever_the_file_calls_it(tmp_path, tag, shown):
    assert board_tag(tag) == shown
    write(tmp_path, {0: 3.0, 1: 2.0}, tag=tag, suffix=".a")  # runs of before 2026-12
    write(tmp_path, {1: 1.0}, tag=shown, suffix=".b")
    assert read_curves(tmp_path, [tag])[tag].to_dict() == {0: 3.0, 1: 1.0}


def test_later_file_of_a_resumed_run_takes_precedence(tmp_path):
    write(tmp_path, {0: 4.0, 10: 3.0, 20: 9.0}, suffix=".a")
    write(tmp_path, {20: 2.0, 30: float("nan"), 40: 1.0}, suffix=".b")
    write(tmp_path, {40: 0.5}, tag="val/foreground_dice", suffix=".c")
    write(tmp_path, {40: 0.5}, tag="not/asked", suffix=".d")
    found = read_curves(tmp_path, TAGS)
    assert list(found) == TAGS[:2]
    assert found["train/loss"].to_dict() == {0: 4.0, 10: 3.0, 20: 2.0, 40: 1.0}


def test_resumed_run_replaces_the_curve_from_its_first_step(tmp_path):
    write(tmp_path, {0: 4.0, 10: 3.0, 15: math.nan, 20: math.nan}, suffix=".a")
    write(tmp_path, {12: 2.0, 24: 1.0}, suffix=".b")  # logged at other steps than before
    assert read_curves(tmp_path, TAGS, whole=True)["train/loss"].to_dict() == {0: 4.0, 10: 3.0, 12: 2.0, 24: 1.0}


def test_whole_curve_contains_all_points_and_non_finite_values(tmp_path):
    write(tmp_path, {step: math.nan if step == 7 else math.inf if step == 4000 else 1.0 for step in range(5000)})
    curve = read_curves(tmp_path, TAGS, whole=True)["train/loss"]
    assert len(curve) == 5000
    assert math.isnan(curve[7])
    assert curve[4000] == math.inf
    assert read_curves(tmp_path, TAGS)["train/loss"].abs().max() == 1.0


def table(run, version, text):
    (run / "csv" / f"version_{version}").mkdir(parents=True)
    (run / "csv" / f"version_{version}" / "metrics.csv").write_text(text)


def test_loss_is_read_from_csv_tables_without_event_files(tmp_path):
    assert loss_curve(tmp_path).empty
    table(tmp_path, 9, "epoch,step,train/loss,lr\n0,0,2.0,\n0,1,,0.1\n0,1,nan,\n0,2,inf,\n")
    assert loss_curve(tmp_path).fillna(-1.0).to_dict() == {0: 2.0, 1: -1.0, 2: math.inf}
    table(tmp_path, 10, "epoch,step,train/loss\n0,1,1.5\nthis,is,damage\n")
    table(tmp_path, 11, "no,loss\n0,1\n")
    assert loss_curve(tmp_path).to_dict() == {0: 2.0, 1: 1.5}
    write(tmp_path / "tensorboard", {0: 9.0})
    assert loss_curve(tmp_path).to_dict() == {0: 9.0}


def test_long_curve_is_thinned_and_keeps_its_end(tmp_path):
    write(tmp_path, {step: step for step in range(5000)})
    curve = read_curves(tmp_path, TAGS)["train/loss"]
    assert len(curve) == 2000
    assert curve.index[-1] == 4999
    assert curve.index.is_monotonic_increasing


def damage_length(file):
    header = struct.pack("<Q", 1 << 40)
    file.write_bytes(file.read_bytes() + header + b"\0" * 8)


def damage_cut(file):
    file.write_bytes(file.read_bytes()[:-7])


def damage_text(file):
    file.write_bytes(b"<html>" * 100)


@pytest.mark.parametrize(("damage", "left"), [(damage_length, {}), (damage_text, {}), (damage_cut, {0: 4.0})])
def test_damaged_files_are_skipped_without_allocating_memory(tmp_path, damage, left):
    write(tmp_path, {0: 4.0, 1: 3.0})
    damage(next(tmp_path.iterdir()))
    assert {step: value for curve in read_curves(tmp_path, TAGS).values() for step, value in curve.items()} == left


def test_files_outside_the_folder_are_not_read(tmp_path):
    write(tmp_path / "outside", {0: 4.0})
    (tmp_path / "inside").mkdir()
    file = next((tmp_path / "outside").iterdir())
    (tmp_path / "inside" / file.name).symlink_to(file)
    assert read_curves(tmp_path / "inside", TAGS) == {}
    assert read_curves(tmp_path / "missing", TAGS) == {}
