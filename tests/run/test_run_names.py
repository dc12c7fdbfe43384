"""What run folders are called when nobody says it: no two configurations share a name."""

import hydra
import pytest
from hydra.core.hydra_config import HydraConfig

from segment import cli
from segment.run import configure
from segment.run.folder import run_name

STUDY = "+experiments/hippocampus=two_cores"


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "demo-unet_small-fold0-seed0"),
        (["network=unetpp", "fold=3", "seed=7", "trainer=gpu", "logger=csv"], "demo-unetpp-fold3-seed7"),
        (["optimizer.lr=0.1", "loss=dice"], "demo-unet_small-fold0-seed0-loss=dice-optimizer.lr=0.1"),
        ([STUDY, "data.root=a/b"], "hippocampus-two_cores-fold0-seed0"),
        ([STUDY, "network=unetpp"], "hippocampus-two_cores-fold0-seed0-network=unetpp"),
        ([STUDY, "data=auto", "data.root=a/b"], "hippocampus-two_cores-fold0-seed0-data=auto"),
    ],
)
def test_a_run_is_called_after_what_was_chosen(overrides, name, monkeypatch):
    configure.register(cli.config_folders())
    with hydra.initialize(version_base="1.3", config_path=None):
        config = hydra.compose("train", overrides, return_hydra_config=True)
    holder = HydraConfig()
    holder.set_config(config)
    monkeypatch.setattr(HydraConfig, "instance", lambda *args: holder)
    assert run_name(config) == name


def test_long_names_are_cut_and_still_differ(monkeypatch):
    configure.register(cli.config_folders())
    names = set()
    for width in (8, 16):
        overrides = [f"network.encoder.features=[{','.join([str(width)] * 40)}]"]
        with hydra.initialize(version_base="1.3", config_path=None):
            config = hydra.compose("train", overrides, return_hydra_config=True)
        holder = HydraConfig()
        holder.set_config(config)
        monkeypatch.setattr(HydraConfig, "instance", lambda *args, holder=holder: holder)
        names.add(run_name(config))
    assert len(names) == 2
    assert all(len(name) < 120 for name in names)
