"""Freezing, learning rates and weight decay by parameter name."""

import pytest
import pytorch_lightning as pl
import torch
from assembled import assembled
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
