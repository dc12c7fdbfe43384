"""Every option of every group composes and binds to its constructor's signature: new YAML is tested automatically."""

from dataclasses import replace
from itertools import groupby, zip_longest
from pathlib import Path

import pytest
from hydra.errors import HydraException
from omegaconf import OmegaConf

from segment.config.build import check_targets, make
from segment.config.compose import compose
from segment.config.experiments import runs
from segment.config.metrics import metrics_of
from segment.errors import UserError
from segment.metrics.standard import DEFAULT
from segment.preprocessing.plan import Plan
from segment.workflow.train import planned

COMBINING = ("+experiments", "debug", "training")  # choose in several groups themselves
CONF = Path(__file__).parents[2] / "conf"
EXPERIMENTS = CONF.parent / "experiments"
OPTIONS = sorted(
    f"{file.parent.relative_to(CONF)}={file.stem}" for file in CONF.glob("*/*.yaml") if file.parent.name != "debug"
)
DEBUG = sorted(f"debug={file.stem}" for file in CONF.glob("debug/*.yaml"))
RUNS = sorted(
    f"+experiments/{study.name}={run}" for study in EXPERIMENTS.iterdir() if study.is_dir() for run in runs(study)
)


def composed(*overrides: str, verb: str = "train"):
    return compose(verb, overrides)


def together(options: list[str]) -> list[tuple[str, ...]]:
    """The options in as few combinations as possible, each with at most one of every group; composing takes a while."""
    alone = [option for option in options if option.startswith(COMBINING)]
    groups = groupby([option for option in options if option not in alone], key=lambda option: option.split("=")[0])
    columns = zip_longest(*(list(group) for _, group in groups))
    return [*((option,) for option in alone), *(tuple(filter(None, column)) for column in columns)]


@pytest.mark.parametrize("options", together(OPTIONS + DEBUG + RUNS), ids="+".join)
def test_every_option_composes_and_binds(options):
    root = ["data.root=somewhere"] if "data=auto" in options else []
    verb = "pretrain" if any(option.startswith("method=") for option in options) else "train"
    config = composed(*options, "output=out", "name=x", *root, verb=verb)
    check_targets(config)
    OmegaConf.to_container(config, resolve=True, throw_on_missing=True)


def test_configuration_groups_are_the_documented_ones():
    assert {option.split("=")[0] for option in OPTIONS} >= {
        "data", "network", "loss", "optimizer", "scheduler", "augment", "sampler", "trainer", "inference", "logger",
        "callbacks",
    }  # fmt: skip


@pytest.mark.parametrize("verb", ["train", "evaluate"])
def test_the_default_metrics_are_those_of_the_library(verb):
    found = metrics_of(compose(verb, []))
    assert [(metric.info, vars(metric)) for metric in found] == [(metric.info, vars(metric)) for metric in DEFAULT]
    assert [metric.name for metric in metrics_of(compose(verb, ["metrics=[]"]))] == ["dice", "iou"]


@pytest.mark.parametrize(
    "group", ["network", "loss", "optimizer", "scheduler", "augment", "inference", "data", "trainer"]
)
def test_a_misspelt_parameter_is_named_before_anything_is_read(group):
    config = composed(f"+{group}.no_such_parameter=1")
    with pytest.raises(UserError, match=rf"{group}\.no_such_parameter"):
        check_targets(config)


def test_constructor_errors_are_user_errors():
    config = composed("inference.overlap=1.5")
    with pytest.raises(UserError, match=r"inference.*overlap=1.5"):
        make(config, "inference")
    config = composed("network.encoder.strides=[1]")
    with pytest.raises(UserError, match="network: 4 features, 1 strides"):
        make(config, "network")(spatial_dims=3, in_channels=1, out_channels=2)


def test_the_users_own_folder_is_searched_first(tmp_path, monkeypatch):
    own = tmp_path / "conf" / "network"
    own.mkdir(parents=True)
    (own / "unet_small.yaml").write_text("_target_: mine.Net\n_partial_: true\n")
    monkeypatch.chdir(tmp_path)
    assert composed("network=unet_small").network._target_ == "mine.Net"
    assert composed("network=unet").network._target_ == "segment.networks.unet.UNet"


def test_the_users_own_studies_are_found(tmp_path, monkeypatch):
    own = tmp_path / "experiments" / "mine"
    own.mkdir(parents=True)
    (own / "first.yaml").write_text("# @package _global_\nseed: 7\n")
    monkeypatch.chdir(tmp_path)
    assert composed("+experiments/mine=first").seed == 7
    with pytest.raises(HydraException):
        composed("+experiments/mine=second")


@pytest.mark.parametrize("group", ["dice", "dice_ce", "dice_focal", "tversky"])
@pytest.mark.parametrize("batch_dice", [True, False])
def test_batch_dice_follows_the_plan(group, batch_dice):
    config = composed(f"loss={group}")
    config.planned = planned(Plan((1.0,) * 3, (8,) * 3, 2, ("zscore",), batch_dice=batch_dice))
    assert config.loss.batch is batch_dice
    config.loss.batch = not batch_dice  # what the user says goes first
    assert config.loss.batch is not batch_dice


def test_network_takes_only_what_it_names_from_the_plan():
    config = composed("network=nnunet_plain")
    before = OmegaConf.to_container(config.network, resolve=True)
    short = Plan((1.0,) * 3, (8,) * 3, 2, ("zscore",))
    config.planned = planned(short)
    assert OmegaConf.to_container(config.network, resolve=True) == before
    config.planned = planned(replace(short, features=(8, 16, 32), strides=((1, 1, 1), (2, 2, 2), (1, 2, 2))))
    assert config.network.encoder.features == [8, 16, 32]
    assert config.network.deep_supervision == 0  # of three resolutions two have no weight, and the finest is the output


@pytest.mark.parametrize(
    ("overrides", "preset"),
    [
        ([], "nnunet"),
        (["network=nnunet_plain"], "nnunet"),
        (["network=nnunet_resenc_m"], "resenc_m"),
        (["network=nnunet_resenc_l"], "resenc_l"),
        (["network=nnunet_resenc_xl"], "resenc_xl"),
        (["network=nnunet_resenc_m", "plan.preset=resenc_l"], "resenc_l"),
        (["plan.preset=resenc_xl", "network=nnunet_resenc_m"], "resenc_xl"),
        (["network=unet", "plan.preset=resenc_m"], "resenc_m"),
    ],
)
def test_network_sets_the_plan_preset_unless_the_user_does(overrides, preset):
    assert composed(*overrides).plan.preset == preset


def test_custom_network_may_extend_the_residual_encoder(tmp_path, monkeypatch):
    own = tmp_path / "conf" / "network"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("defaults: [nnunet_resenc_m, _self_]\nencoder: {features: [8, 16, 32]}\n")
    monkeypatch.chdir(tmp_path)
    config = composed("network=mine")
    assert config.plan.preset == "resenc_m"
    assert config.network.encoder.features == [8, 16, 32]
    assert config.network.encoder.stage.block._target_.endswith("ResidualBlock")


@pytest.mark.parametrize("verb", ["train", "plan", "check"])
def test_cache_is_in_the_cache_folder_of_the_user(verb, monkeypatch):
    monkeypatch.delenv("SEGMENT_CACHE", raising=False)
    monkeypatch.setenv("HOME", "/home/user")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert composed("data=demo", verb=verb).cache == "/home/user/.cache/segment"
    monkeypatch.setenv("XDG_CACHE_HOME", "/scratch")
    assert composed("data=demo", verb=verb).cache == "/scratch/segment"
    monkeypatch.setenv("SEGMENT_CACHE", "/mine")
    assert composed("data=demo", verb=verb).cache == "/mine"
