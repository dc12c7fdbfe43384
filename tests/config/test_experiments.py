"""Methods on several data sets: one file per method, one per data set, and a run for each pair."""

import hydra
import pytest
from hydra.core.object_type import ObjectType
from hydra.errors import HydraException

from segment.config import choices
from segment.config.compose import compose
from segment.config.experiments import runs

FILES = {
    "DATA_unet.yaml": "# A U-Net on DATA\ndefaults: [parts/length, override /network: unet]\nplan: {batch_size: 3}\n",
    "DATA_bare.yaml": "# Nothing but DATA\nseed: 5\n",
    "alone.yaml": "# A run by itself\nseed: 7\n",
    "DATA_twice.yaml": "# DATA, as all have it\nseed: 1\n",
    "heart_twice.yaml": "# The heart, in a file of its own\nseed: 2\n",
    "parts/length.yaml": "# How long.\nplan: {batch_size: 5, patch_size: [32, 32, 32]}\nseed: 3\n",
    "data/heart.yaml": "# the heart\ndefaults:\n  - override /data: heart\nplan: {patch_size: [16, 16, 16]}\n",
    "data/msd.yaml": "# the liver\ndefaults:\n  - override /data: liver\nplan: {batch_size: 9}\n",
}
RUNS = ["alone", *(f"{data}_{method}" for data in ("heart", "msd") for method in ("bare", "twice", "unet"))]


@pytest.fixture(autouse=True)
def mine(tmp_path, monkeypatch):
    folder = tmp_path / "experiments" / "mine"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"# @package _global_\n{text}")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def seen(monkeypatch):
    """What the command line names, while a configuration is composed."""
    found = {}
    original = hydra.compose

    def look(*arguments, **options):
        found["options"] = choices.options("experiments/mine")
        found["groups"] = choices.options("experiments/mine", ObjectType.GROUP)
        found["studies"] = [row for row in choices.studies() if row["study"] == "mine"]
        return original(*arguments, **options)

    monkeypatch.setattr("hydra.compose", look)
    compose("train", [])
    return found


def test_there_is_a_run_for_each_method_and_data_set(mine, seen):
    assert sorted(runs(mine)) == sorted(RUNS)
    assert seen["options"] == sorted(RUNS)
    assert seen["groups"] == ["data", "parts"]


def test_each_run_describes_itself_and_its_data_set(seen):
    said = {row["name"].partition("=")[2]: row["about"] for row in seen["studies"]}
    assert said["heart_unet"] == "A U-Net on the heart"
    assert said["msd_bare"] == "Nothing but the liver"
    assert said["alone"] == "A run by itself"
    assert said["heart_twice"] == "The heart, in a file of its own"


def test_run_combines_both_files_with_the_data_set_last():
    config = compose("train", ["+experiments/mine=heart_unet"])
    assert (config.data.name, config.network.encoder.features[0]) == ("heart", 64)
    assert (config.plan.batch_size, config.plan.patch_size, config.seed) == (3, [16, 16, 16], 3)
    config = compose("train", ["+experiments/mine=msd_unet", "plan.patch_size=[8,8,8]"])
    assert (config.data.name, config.plan.batch_size, config.plan.patch_size) == ("liver", 9, [8, 8, 8])
    config = compose("train", ["+experiments/mine=msd_bare"])
    assert (config.data.name, config.seed) == ("liver", 5)


def test_own_file_takes_precedence_over_the_pair():
    assert compose("train", ["+experiments/mine=heart_twice"]).seed == 2
    assert compose("train", ["+experiments/mine=msd_twice"]).seed == 1


@pytest.mark.parametrize("name", ["DATA_unet", "heart", "heart_", "lung_unet"])
def test_method_without_a_data_set_is_not_a_run(name):
    with pytest.raises(HydraException, match=name):
        compose("train", [f"+experiments/mine={name}"])
