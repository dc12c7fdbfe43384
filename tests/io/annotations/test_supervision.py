"""Boxes and polygons as supervision reads them: recorded by `tests/support/supervision_values.py`."""

import json
from pathlib import Path

import numpy as np
import pytest
from supervision_values import HEIGHT, PROGRAMS, WIDTH, objects, write_set

from segment.data import open_dataset
from segment.io.images import read_label

RECORDED = json.loads((Path(__file__).parents[2] / "fixtures" / "supervision.json").read_text())


def to_outline(corners) -> np.ndarray:
    """Distance of each pixel's centre to a polygon's outline, in pixels."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    nearest = np.full((HEIGHT, WIDTH), np.inf)
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        along = np.clip(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2), 0, 1)
        nearest = np.minimum(nearest, np.hypot(x - x0 - along * (x1 - x0), y - y0 - along * (y1 - y0)))
    return nearest


@pytest.mark.parametrize("program", PROGRAMS)
def test_boxes_and_masks_are_supervisions_but_for_the_outline(tmp_path, monkeypatch, program):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_set(tmp_path / "in", program)
    dataset = open_dataset(tmp_path / "in", labels={"blob": 1}) if program != "voc" else open_dataset(tmp_path / "in")
    assert RECORDED["supervision"].startswith("0.31")
    for seed, case in enumerate(dataset.cases):
        corners, _ = objects(seed)
        named = {entry["name"]: entry for entry in RECORDED[program][case.id]}
        assert set(named) == ({"box"} if program == "voc" else {"blob", "box"})
        for found in case.boxes:
            expected = named[found.label]["box"]
            if program == "voc":  # whose own files count from 1, which supervision takes off; LabelImg counts from 0
                expected = [expected[0] + 1, expected[1] + 1, *expected[2:]]
            assert list(found[1:]) == pytest.approx(expected, abs=1e-2)
        if program == "voc":
            continue
        theirs = np.zeros(HEIGHT * WIDTH, bool)
        theirs[named["blob"]["mask"]] = True
        ours = read_label(case.label).array == 1
        # supervision rounds the corners and fills the pixels of the outline too; ours are those whose centre is inside.
        differ = theirs.reshape(ours.shape) != ours
        assert to_outline(corners)[differ].max() < 1.5
        assert ours.sum() > 50
