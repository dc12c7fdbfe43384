"""Differences between methods: few rows, the most relevant first, and what the conclusion says of them."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from segment.evaluation.comparison.naming import config_differences
from segment.evaluation.comparison.recipes import Recipes, recipes

SMALL = {
    "_target_": "segment.networks.unet.UNet",
    "_partial_": True,
    "encoder": {"_target_": "a.Staged", "features": [8, 16], "stage": {"_target_": "a.BlockStage", "norm": "instance"}},
    "deep_supervision": 0,
}
GATED = {
    "_target_": "segment.networks.unet.UNet",
    "encoder": {
        "_target_": "a.Staged",
        "features": [16, 32, 64],
        "stage": {"_target_": "a.BlockStage", "norm": "batch"},
    },
    "decoder": {"join": [{"_target_": "a.AttentionGate", "_partial_": True}], "up": {"_target_": "a.Interpolation"}},
    "deep_supervision": 0,
    "he_slope": 0.0,
}
ADAMW = {"_target_": "torch.optim.AdamW", "_partial_": True, "lr": 0.003, "weight_decay": 0.01}
SGD = {"_target_": "torch.optim.SGD", "lr": 0.01, "momentum": 0.99}
ONE_CYCLE = {"_target_": "torch.optim.lr_scheduler.OneCycleLR", "max_lr": 0.003, "total_steps": 100}
POLYNOMIAL = {"_target_": "torch.optim.lr_scheduler.PolynomialLR", "total_iters": 100, "power": 0.9}
FIRST = {"network": SMALL, "optimizer": ADAMW, "scheduler": ONE_CYCLE, "trainer": {"max_steps": 100}}
SECOND = {"network": GATED, "optimizer": SGD, "scheduler": POLYNOMIAL, "trainer": {"max_steps": 100}}
CHOSEN = (
    {"network": "unet_small", "optimizer": "adamw", "scheduler": "one_cycle"},
    {"network": "attention_unet", "optimizer": "sgd", "scheduler": "polynomial"},
)


def found(*configs, choices=(), overrides=(), names=("unet_small", "attention_unet")) -> Recipes:
    """The recipes of methods of one run each."""
    groups = []
    for place, config in enumerate(configs):
        record = {"choices": choices[place] if choices else None, "overrides": overrides[place] if overrides else []}
        groups.append(
            [SimpleNamespace(path=Path(str(place)), config=config, provenance=json.loads(json.dumps(record)))]
        )
    return recipes(names, groups, config_differences(groups))


def test_choice_replaces_the_keys_that_follow_from_it():
    result = found(FIRST, SECOND, choices=CHOSEN)
    assert list(result.rows.items()) == [
        ("network", ["unet_small", "attention_unet"]),
        ("optimizer", ["adamw lr 0.003", "sgd lr 0.01"]),
        ("scheduler", ["one_cycle", "polynomial"]),
    ]
    assert result.others == ("optimizer", "learning rate", "scheduler")


def test_runs_without_recorded_choices_are_described_by_class():
    result = found(FIRST, SECOND)
    assert result.rows["optimizer"] == ["AdamW lr 0.003", "SGD lr 0.01"]
    assert result.rows["scheduler"] == ["OneCycleLR", "PolynomialLR"]
    # Both networks are a UNet: what lies in it is told, the objects rather than their arguments.
    assert result.rows["network.encoder.features"] == ["[8, 16]", "[16, 32, 64]"]
    assert result.rows["network.decoder.up"] == [None, "Interpolation"]
    assert not any("_target_" in key or "_partial_" in key for key in result.rows)
    assert result.others == ("optimizer", "learning rate", "scheduler")
    mixed = found(FIRST, SECOND, choices=(CHOSEN[0], {}))
    assert mixed.rows["network"] == ["unet_small", "UNet"]


def test_learning_rate_in_the_name_of_a_choice_is_not_repeated():
    one, other = (FIRST | {"optimizer": {"_target_": "torch.optim.Adam", "lr": lr}} for lr in (0.001, 0.0001))
    picked = [{"optimizer": name} for name in ("adam", "adam_1e-4")]
    result = found(one, other, choices=picked, names=("adam", "adam_1e-4"))
    assert result.rows == {"optimizer": ["adam lr 0.001", "adam lr 0.0001"]}
    assert result.others == ("learning rate",)


def test_overrides_are_shown_beside_the_choice():
    changed = json.loads(json.dumps(SECOND))
    changed["network"]["deep_supervision"] = 2
    result = found(FIRST, changed, choices=CHOSEN, overrides=([], ["network.deep_supervision=2"]))
    assert list(result.rows)[:2] == ["network", "network.deep_supervision"]
    assert result.rows["network.deep_supervision"] == ["0", "2"]


@pytest.mark.parametrize(
    ("change", "names", "row"),
    [
        ({"optimizer": {"lr": 0.2}, "scheduler": {"max_lr": 0.2}}, ("lr=0.003", "lr=0.2"), "optimizer.lr"),
        ({"optimizer": {"lr": 0.2}, "scheduler": {"max_lr": 0.2}}, ("old", "new"), "optimizer.lr"),
        ({"trainer": {"max_steps": 50}, "scheduler": {"total_steps": 50}}, ("long", "short"), "trainer.max_steps"),
    ],
)
def test_single_choice_has_no_further_differences(change, names, row):
    other = {key: FIRST[key] | change.get(key, {}) for key in FIRST}
    result = found(FIRST, other, names=names)
    assert list(result.rows) == [row]
    assert result.others == ()


def test_scheduler_with_its_own_learning_rate_is_shown():
    result = found(FIRST, FIRST | {"scheduler": ONE_CYCLE | {"max_lr": 0.5}}, names=("a", "b"))
    assert list(result.rows) == ["scheduler.max_lr"]


def test_network_and_machine_settings_are_no_further_differences():
    other = FIRST | {"network": GATED, "sampler": {"workers": 3}, "data": {"root": "x"}, "logger": {"csv": {"a": 1}}}
    result = found(FIRST | {"sampler": {"workers": 0}}, other, choices=CHOSEN)
    assert next(iter(result.rows)) == "network"
    assert result.others == ()


def test_plan_is_described_by_its_main_values():
    plans = [{"patch_size": [size] * 3, "batch_size": 2, "features": [size], "spacing": [1]} for size in (16, 32)]
    one, other = (
        FIRST | {"planned": plan, "plan": {"memory": 1}, "network": SMALL | {"features": plan["features"]}}
        for plan in plans
    )
    result = found(one, other, names=("a", "b"))
    assert list(result.rows) == ["planned.patch_size"]
    one["plan"], other["plan"] = ({"patch_size": plan["patch_size"]} for plan in plans)
    assert list(found(one, other, names=("a", "b")).rows) == ["plan.patch_size"]
    other["loss"] = {"_target_": "a.Dice"}
    assert found(one, other, names=("a", "b")).others == ("loss", "plan")


def test_each_group_shows_a_limited_number_of_its_shortest_keys():
    one, other = (
        {"augment": {f"a_{'x' * length}": value for length in range(30)}, "weights": str(value)} for value in range(2)
    )
    result = found(one, other, names=("a", "b"))
    assert list(result.rows) == [*(f"augment.a_{'x' * length}" for length in range(6)), "weights"]
    assert result.others == ("augmentation", "initial weights")


def test_methods_are_named_after_a_choice_if_each_name_contains_its_own():
    configs = [
        FIRST | {"loss": {"_target_": f"a.{loss}"}, "optimizer": rate}
        for loss, rate in (("Dice", ADAMW), ("Focal", ADAMW), ("Dice", SGD))
    ]
    result = found(*configs, names=("Dice x", "Focal x", "Dice y"))
    assert result.rows["loss"] == ["Dice", "Focal", "Dice"]
    assert result.others == ("optimizer", "learning rate")
    assert found(*configs, names=("1", "2", "3")).others == ("optimizer", "learning rate", "loss")
