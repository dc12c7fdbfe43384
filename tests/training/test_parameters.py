"""Freezing, learning rates and weight decay by parameter name."""

import json
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from assembled import assembled
from safetensors.torch import load_file
from torch import nn

from segment.errors import UserError
from segment.training.parameters import ParameterRules


def network() -> nn.Module:
    parts = {"encoder": nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)), "head": nn.Conv2d(2, 1, 1)}
    return nn.ModuleDict(parts)


def sizes(groups: list[dict]) -> list[tuple[float, float | None, int]]:
    return [(group["factor"], group.get("weight_decay"), len(group["params"])) for group in groups]


def test_without_rules_the_optimiser_gets_the_parameters_themselves():
    net = network()
    rules = ParameterRules()
    rules.freeze_in(net)
    assert [id(p) for p in rules.groups(net)] == [id(p) for p in net.parameters()]


def test_a_name_means_all_within_it_and_the_last_factor_counts():
    net = network()
    rules = ParameterRules(freeze=["encoder.1"], lr_factors={"encoder": 0.1, "*.0.bias": 0.5}, no_decay=["*.bias"])
    rules.freeze_in(net)
    assert [name for name, p in net.named_parameters() if not p.requires_grad] == ["encoder.1.weight", "encoder.1.bias"]
    assert sizes(rules.groups(net)) == [(0.1, None, 1), (0.5, 0.0, 1), (1.0, None, 1), (1.0, 0.0, 1)]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"freeze": ["decoder"]}, r"parameters\.freeze: 'decoder' matches no.*encoder, head.*encoder\.0\.weight"),
        ({"lr_factors": {"enc": 0.1}}, r"parameters\.lr_factors: 'enc' matches no"),
        ({"no_decay": ["*norm*"]}, r"parameters\.no_decay: '\*norm\*' matches no"),
        ({"freeze": ["encoder", "head"]}, "no parameter is left"),
        ({"freeze": "encoder"}, r"parameters\.freeze=encoder: give a list"),
        ({"lr_factors": ["encoder"]}, r"parameters\.lr_factors=.*give a factor for each"),
        *(
            ({"lr_factors": {"encoder": factor}}, "give a positive factor")
            for factor in (0, -1, "a", float("inf"), True)
        ),
    ],
)
def test_rules_that_do_not_fit_are_refused(rules, message):
    def apply() -> None:
        found, net = ParameterRules(**rules), network()
        found.freeze_in(net)
        found.groups(net)

    with pytest.raises(UserError, match=message):
        apply()


def test_rates_decay_from_the_last_layer_of_the_encoder_to_the_first():
    stages = nn.ModuleList(nn.Conv2d(1, 1, 1) for _ in range(2))
    encoder = nn.ModuleDict({"downs": nn.ModuleList([nn.Identity(), nn.Conv2d(1, 1, 1)]), "stages": stages})
    encoder["stem"] = nn.Conv2d(1, 1, 1)
    net = nn.Module()
    net.encoder, net.head = encoder, nn.Conv2d(1, 1, 1)
    groups = ParameterRules(layer_decay=0.5, lr_factors={"encoder.stem": 2.0}).groups(net)
    assert sorted(sizes(groups)) == [(0.25, None, 4), (0.5, None, 4), (1.0, None, 2)]  # stem 2/8 and first stage 1/4
    with pytest.raises(UserError, match="has no encoder"):
        ParameterRules(layer_decay=0.5).groups(nn.Linear(1, 1))


@pytest.mark.slow
def test_a_new_head_is_trained_first_also_when_resumed(run_train, make_dataset, tmp_path, monkeypatch, without_pages):
    old, new = (make_dataset(tmp_path / str(n), layout="folders", n=3, labels=n) for n in (1, 2))
    source = run_train(old, "source", "trainer.max_steps=2")
    given = (
        f"weights={source}", "parameters.head_first=3", "parameters.layer_decay=0.5", "trainer.max_steps=4",
        "+callbacks.stop={_target_: stopping.StopAtBatch}",
    )  # fmt: skip
    whole = run_train(new, "whole", *given)
    record = json.loads((whole / "weights.json").read_text())
    assert record["parts"] == {"encoder": [16, 16], "decoder": [10, 10], "heads": [0, 2]}
    assert json.loads((whole / "provenance.json").read_text())["taken"] == record
    monkeypatch.setenv("STOP_AT_BATCH", "2")
    part = run_train(new, "part", *given, "trainer.max_time=00:01:00:00")
    held, before = weights_of(part), weights_of(source)
    changed = {name for name in before if not torch.equal(held[name], before[name])}
    assert changed == {"heads.0.0.weight", "heads.0.0.bias"}
    monkeypatch.delenv("STOP_AT_BATCH")
    run_train(new, "part", *given)
    first, second = weights_of(whole), weights_of(part)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert not torch.equal(first["encoder.stages.0.0.conv.weight"], before["encoder.stages.0.0.conv.weight"])


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "weights.safetensors")


class Rates(pl.Callback):
    """The learning rate of every group at every step."""

    def __init__(self) -> None:
        self.seen: list[list[float]] = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.seen.append([group["lr"] for group in optimizer.param_groups])


@pytest.mark.parametrize("scheduler", ["one_cycle", "polynomial"])
def test_a_training_keeps_what_is_frozen_and_scales_the_rates(make_dataset, tmp_path, scheduler):
    root = make_dataset(tmp_path / "data", layout="folders", n=3, shape=(64, 64), labels=1)
    given = [
        "data=auto", f"data.root={root}", f"cache={tmp_path / 'cache'}", f"output={tmp_path / 'run'}", "name=x",
        "plan.patch_size=[64,64]", "trainer.max_steps=3", "sampler.steps_per_epoch=3", "trainer.precision=32-true",
        "network=linknet", "parameters.freeze=[encoder]", "parameters.lr_factors={heads: 0.25}", "optimizer=adamw",
        f"scheduler={scheduler}", "callbacks.learning_rate=null",
    ]  # fmt: skip
    rates = Rates()
    _, module, trainer, data = assembled(given, [rates])
    before = {name: value.clone() for name, value in module.network.state_dict().items()}
    trainer.fit(module, data)
    changed = {name for name, value in module.network.state_dict().items() if not torch.equal(value, before[name])}
    assert any("running_mean" in name for name in before if name.startswith("encoder"))
    assert not [name for name in changed if name.startswith("encoder")]  # nor statistics of normalisation
    assert [name for name in changed if name.startswith("heads")]
    assert len(rates.seen) == 3
    for body, heads in rates.seen:
        assert heads == pytest.approx(body / 4)
    assert max(body for body, _ in rates.seen) > 1e-3
