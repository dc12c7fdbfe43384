"""The check before training: facts and hashes of a valid data set, one paragraph about an invalid one."""

import json
import shutil

import numpy as np
import pytest
from breakage import IMAGE, change, edit

from segment.config.compose import compose_command
from segment.config.data import read_data
from segment.data.check import surveys
from segment.errors import UserError
from segment.workflow.check import checked_data


@pytest.fixture
def opened(make_dataset, tmp_path):
    """A valid miniature data set and the configuration of a training on it."""
    root = make_dataset(tmp_path / "in", n=4, shape=(6, 8, 7))
    given = ["data=auto", f"data.root={root}", f"cache={tmp_path / 'cache'}"]
    return root, read_data(*compose_command("train", given))


def test_valid_data_set_gives_facts_and_hashes(opened, monkeypatch):
    data = opened[1]
    checked = checked_data(data)
    assert sorted(checked.surveys) == [case.id for case in checked.dataset.cases]
    assert {survey.shape for survey in checked.surveys.values()} == {(6, 8, 7)}
    assert len(checked.hashes) == 8
    monkeypatch.setattr(surveys, "examine", lambda *given: pytest.fail("a voxel was read"))
    assert checked_data(data, checked.hashes) == checked


def test_invalid_data_set_is_refused_with_its_first_errors_and_the_check_command(opened):
    root, data = opened
    for case in ("a00", "b01", "c02", "d03"):
        change(root / IMAGE.replace("b01", case), np.zeros_like)
    with pytest.raises(UserError) as refused:
        checked_data(data)
    said = str(refused.value)
    assert "4 errors" in said
    assert "`segment check data=auto data.root=" in said
    assert said.endswith("lists all 4.")
    assert "case_a00" in said
    assert "case_d03" not in said
    assert "\n" not in said


def test_check_command_includes_the_splits(opened, tmp_path):
    root, _ = opened
    splits = tmp_path / "splits.json"
    splits.write_text(json.dumps([{"train": ["x0", "x1"], "val": ["x2", "x3"]}]))
    given = ["data=auto", f"data.root={root}", f"cache={tmp_path / 'cache'}", f"splits={splits}"]
    with pytest.raises(UserError) as refused:
        checked_data(read_data(*compose_command("train", given)))
    assert f"splits={splits}` lists all 4." in str(refused.value)


def test_warnings_and_test_scans_do_not_stop_training(opened):
    root, data = opened
    (root / "imagesTs").mkdir()
    shutil.copy(root / IMAGE, root / "imagesTs" / "new.nii.gz")
    edit(root, test=["imagesTs/new.nii.gz"], numTraining=9)
    checked = checked_data(data)
    assert [problem.kind for problem in checked.problems] == ["description"]
    assert "new" not in checked.surveys
