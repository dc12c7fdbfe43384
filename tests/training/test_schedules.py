"""Every learning-rate schedule of conf/scheduler, stepped as the trainer steps it."""

import math
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from segment.training.schedules import Plateau

CONF = Path(__file__).parents[2] / "conf"
SCHEDULES = sorted({file.stem for file in CONF.glob("scheduler/*.yaml")} - {"plateau"})  # it follows a score


def rates(name: str, steps: int) -> list[float]:
    """Learning rate of each optimiser step, and the one after the last."""
    given = {"optimizer": {"lr": 0.5}, "trainer": {"max_steps": steps}}
    config = OmegaConf.create({**given, "scheduler": OmegaConf.load(CONF / "scheduler" / f"{name}.yaml")})
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    schedule = instantiate(config.scheduler)(optimizer)
    seen = [optimizer.param_groups[0]["lr"]]
    for _ in range(steps):
        optimizer.step()
        schedule.step()
        seen.append(optimizer.param_groups[0]["lr"])
    return seen


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 5, 9, 10, 11, 20, 100])
def test_every_schedule_works_for_any_number_of_steps(name, steps):
    assert all(math.isfinite(rate) and -1e-12 <= rate <= 0.5 + 1e-12 for rate in rates(name, steps))


@pytest.mark.parametrize(("name", "first", "middle", "last"), [
    ("constant", 0.5, 0.5, 0.5),
    ("cosine", 0.5, 0.25, 0.0),
    ("polynomial", 0.5, 0.5 * 0.5**0.9, 0.0),
    ("one_cycle", 0.02, 0.302, 0.0),
])  # fmt: skip
def test_rates_at_the_start_middle_and_end(name, first, middle, last):
    seen = rates(name, 100)
    assert [seen[0], seen[50], seen[100 if name != "one_cycle" else 99]] == pytest.approx(
        [first, middle, last], abs=2e-2
    )


@pytest.mark.parametrize(("mode", "scores"), [("max", [0.1, 0.5, 0.4, 0.5, 0.3, 0.6]), ("min", [5, 1, 2, 1, 3, 0.5])])
def test_a_plateau_lowers_the_rate_after_the_patience(mode, scores):
    config = OmegaConf.load(CONF / "scheduler" / "plateau.yaml")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.8)
    schedule = instantiate(config, mode=mode, patience=2)(optimizer)
    seen = []
    for score in scores:
        schedule.step(score)
        seen.append(optimizer.param_groups[0]["lr"])
    assert seen == [0.8, 0.8, 0.8, 0.8, 0.4, 0.4]
    assert schedule.monitor == "val/foreground_dice"


def test_a_plateau_needs_a_direction():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.8)
    with pytest.raises(ValueError, match="mode=up"):
        Plateau(optimizer, mode="up")
