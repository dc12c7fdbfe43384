import struct

import pytest
from torch.utils.tensorboard import SummaryWriter

from segment.report.curves import read_curves

TAGS = ["train/loss", "val/foreground_dice", "val/absent_dice"]


def write(folder, values, tag="train/loss", suffix=""):
    with SummaryWriter(folder, filename_suffix=suffix) as writer:
        for step, value in values.items():
            writer.add_scalar(tag, value, step)


def test_a_resumed_runs_curve_is_one_whose_later_file_counts(tmp_path):
    write(tmp_path, {0: 4.0, 10: 3.0, 20: 9.0}, suffix=".a")
    write(tmp_path, {20: 2.0, 30: float("nan"), 40: 1.0}, suffix=".b")
    write(tmp_path, {40: 0.5}, tag="val/foreground_dice", suffix=".c")
    write(tmp_path, {40: 0.5}, tag="not/asked", suffix=".d")
    found = read_curves(tmp_path, TAGS)
    assert list(found) == TAGS[:2]
    assert found["train/loss"].to_dict() == {0: 4.0, 10: 3.0, 20: 2.0, 40: 1.0}


def test_a_long_curve_is_thinned_but_keeps_its_end(tmp_path):
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
def test_damaged_files_neither_stop_the_page_nor_claim_memory(tmp_path, damage, left):
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
