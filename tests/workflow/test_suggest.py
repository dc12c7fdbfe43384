"""Scans to label next: the uncertain ones, and those unlike the labelled ones."""

import numpy as np
import pytest
from PIL import Image
from saved_models import save, tiny

from segment.config.compose import compose_command
from segment.config.data import read_data
from segment.errors import UserError
from segment.inference.model import load_model
from segment.preprocessing.plan import Plan
from segment.workflow.suggest import suggest

PLAN = Plan((1.0, 1.0), (16, 16), 2, ("none",))


@pytest.fixture
def model(tmp_path):
    save(tmp_path / "model", tiny(), PLAN)
    return load_model(tmp_path / "model")


def source(tmp_path, layout):
    given = ["data=auto", f"data.root={tmp_path / 'data'}", f"data.layout={layout}", f"cache={tmp_path / 'cache'}"]
    return read_data(*compose_command("suggest", ["model=model", *given]))


def write(path, seed, factor):
    array = np.random.default_rng(seed).integers(0, 20, (20, 24)) * factor
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.astype(np.uint8)).save(path)


def test_coverage_takes_the_scan_unlike_the_labelled_and_uncertainty_the_highest_entropy(model, tmp_path):
    for n in range(2):
        write(tmp_path / "data" / "images" / f"l{n}.png", n, 1)
        mask = np.zeros((20, 24), np.uint8)
        mask[5:9, 5:9] = 7
        (tmp_path / "data" / "labels").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "data" / "labels" / f"l{n}.png")
    for n, factor in enumerate((1, 12, 1)):
        write(tmp_path / "data" / "imagesTs" / f"u{n}.png", 10 + n, factor)
    data = source(tmp_path, "folders")
    found = {by: suggest(model, data, 3, by, "cpu") for by in ("coverage", "uncertainty", "both")}
    assert all({one.case for one in some} == {"u0", "u1", "u2"} for some in found.values())
    assert found["coverage"][0].case == "u1"
    entropies = [one.uncertainty for one in found["uncertainty"]]
    assert entropies == sorted(entropies, reverse=True)
    assert all(0 < value < 1 for value in entropies)
    assert len(suggest(model, data, 1, "both", "cpu")) == 1


def test_a_data_set_without_scans_to_label_is_refused(model, make_dataset, tmp_path):
    make_dataset(tmp_path / "data", layout="folders", n=2, shape=(24, 24), labels=1)
    with pytest.raises(UserError, match="every scan has a mask"):
        suggest(model, source(tmp_path, "folders"), 1, "both", "cpu")
