"""Steps of post-processing on made masks, and as read from a model.json."""

import json

import numpy as np
import pytest
from saved_models import edit, refused, save

from segment.data.labels import Labels
from segment.errors import UserError
from segment.inference.description import set_postprocessing
from segment.inference.model import load_model
from segment.inference.postprocessing import HOLES, LARGEST, SMALL, Step, postprocessed

ORGANS = Labels({"background": 0, "a": 1, "b": 2})
REGIONS = Labels({"background": 0, "whole": [1, 2], "core": [2]}, [1, 2])
SQUARE = np.array(
    [
        [1, 1, 1, 1, 0, 0, 2],
        [1, 0, 2, 1, 0, 0, 0],
        [1, 0, 0, 1, 0, 2, 2],
        [1, 1, 1, 1, 0, 2, 2],
        [0, 0, 0, 0, 0, 0, 0],
        [1, 0, 0, 2, 0, 0, 0],
    ],
    np.uint8,
)
HOLE = dict.fromkeys([(1, 1), (2, 1), (2, 2)], 1)  # of 1, beside a 2


@pytest.mark.parametrize(
    ("labels", "steps", "changes"),
    [
        (ORGANS, [], {}),
        (ORGANS, [Step(LARGEST, "a")], {(5, 0): 0}),
        (ORGANS, [Step(LARGEST, "b")], {(1, 2): 0, (0, 6): 0, (5, 3): 0}),
        # The 2 inside the ring of 1 is part of the largest component of all foreground.
        (ORGANS, [Step(LARGEST)], {(0, 6): 0, (2, 5): 0, (2, 6): 0, (3, 5): 0, (3, 6): 0, (5, 0): 0, (5, 3): 0}),
        # A voxel has 3 mm2.
        (ORGANS, [Step(SMALL, "b", 3.0)], {}),
        (ORGANS, [Step(SMALL, "b", 3.1)], {(1, 2): 0, (0, 6): 0, (5, 3): 0}),
        (ORGANS, [Step(SMALL, "b", 12.1)], dict.fromkeys(zip(*np.nonzero(SQUARE == 2), strict=True), 0)),
        (ORGANS, [Step(HOLES, "a")], HOLE),
        (ORGANS, [Step(LARGEST, "b"), Step(HOLES, "a")], HOLE | {(1, 2): 1, (0, 6): 0, (5, 3): 0}),
        (REGIONS, [Step(HOLES, "core")], {}),
        (REGIONS, [Step(HOLES, "whole")], HOLE),
        (REGIONS, [Step(LARGEST, "core"), Step(SMALL, "whole", 4.0)], {(1, 2): 0, (0, 6): 0, (5, 3): 0, (5, 0): 0}),
    ],
)  # fmt: skip
def test_steps_change_what_they_say(labels, steps, changes):
    given, expected = SQUARE.copy(), SQUARE.copy()
    for place, value in changes.items():
        expected[place] = value
    found = postprocessed(given, steps, labels, (1.5, 2.0))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(given, SQUARE)


def test_a_hole_is_closed_to_all_sides_in_3d_and_an_empty_mask_stays_empty():
    ring = np.stack([SQUARE == 1] * 3).astype(np.uint8)  # open to both ends
    np.testing.assert_array_equal(postprocessed(ring, [Step(HOLES, "a")], ORGANS, (1, 1, 1)), ring)
    ring[[0, 2], 1:3, 1:3] = 1
    assert postprocessed(ring, [Step(HOLES, "a")], ORGANS, (1, 1, 1))[1, 1:3, 1:3].all()
    for step in (Step(LARGEST), Step(SMALL, "a", 1.0), Step(HOLES, "b")):
        assert not postprocessed(np.zeros((3, 4, 5), np.uint8), [step], ORGANS, (1, 1, 1)).any()


def test_a_model_keeps_its_steps_and_its_masks_are_predicted_with_them(folder, monkeypatch):
    scan = np.random.default_rng(0).normal(size=(30, 40)).astype(np.float32)
    plain = load_model(folder).predict(scan, np.eye(4))
    steps = (Step(LARGEST, "head"), Step(SMALL, "tail", 30.0))
    set_postprocessing(folder, steps)
    model = load_model(folder)
    assert model.postprocessing == steps
    assert json.loads((folder / "model.json").read_text())["format"] == 3
    found = model.predict(scan, np.eye(4))
    expected = postprocessed(model.labels.encode(plain.mask.T), steps, model.labels, (1.0, 1.0))
    np.testing.assert_array_equal(found.mask.T, model.labels.decode(expected))
    assert (found.mask != plain.mask).any()
    np.testing.assert_array_equal(model.predict(scan, np.eye(4), probabilities=True).mask, found.mask)
    with pytest.warns(UserWarning, match="postprocessing is none here, head: largest component only; tail: no"):
        without = model.predict(scan, np.eye(4), postprocessing=False)
    np.testing.assert_array_equal(without.mask, plain.mask)
    set_postprocessing(folder, ())
    assert json.loads((folder / "model.json").read_text())["format"] == 1
    assert load_model(folder).postprocessing == ()


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([{"kind": "erode", "label": "head"}], "is not one of largest, small, holes"),
        ([{"kind": "largest", "label": "lung"}], r"postprocessing[0].label is no structure"),
        ([{"kind": "holes"}], "holes needs a label"),
        ([{"kind": "small", "label": "head"}], "a size belongs to small"),
        ([{"kind": "largest", "label": "head", "size": 3.0}], "a size belongs to small"),
        ([{"kind": "small", "label": "head", "size": -1}], "postprocessing[0].size"),
        ([{"kind": "small", "label": "head", "size": 1e30}], "postprocessing[0].size"),
        ([{"kind": "small", "label": "head", "size": float("nan")}], "postprocessing[0].size"),
        ([{"kind": "largest", "label": "head"}] * 1025, "at most 1024"),
        ("largest", "should be a list"),
    ],
)
def test_hostile_steps_are_refused(tmp_path, steps, words):
    save(tmp_path)
    edit(tmp_path, postprocessing=steps)
    assert words in refused(tmp_path)


def test_versions_that_know_no_postprocessing_refuse_such_a_model(folder, monkeypatch):
    set_postprocessing(folder, [Step(LARGEST)])
    monkeypatch.setattr("segment.inference.description.FORMAT", 2)
    with pytest.raises(UserError, match="has format 3, but this version"):
        load_model(folder)
