"""Cost of a training, with a fake clock that reading and training advance by known amounts."""

import multiprocessing
import time
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import Dataset

from segment.runs.cost import cost_lines
from segment.sampling import loader
from segment.training.callbacks import cost

READING, TRAINING, ELSE = 1.0, 3.0, 50.0


class Clock:
    def __init__(self, monkeypatch) -> None:
        self.now = 0.0
        for module in (loader, cost):
            monkeypatch.setattr(module, "time", self)

    def perf_counter(self) -> float:
        return self.now


class Numbers(Dataset):
    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        self.clock.now += READING / 2  # two samples a batch
        return {"image": torch.full((1, 6, 8), float(index))}  # larger than the patch


class Module(pl.LightningModule):
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.network = torch.nn.Conv2d(1, 3, 3, padding=1)
        self.plan = SimpleNamespace(patch_size=(4, 5))

    def training_step(self, batch, batch_idx):
        self.clock.now += TRAINING
        return self.network(batch["image"]).sum()

    def validation_step(self, batch, batch_idx):
        self.clock.now += ELSE

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)


class Kept(pl.loggers.CSVLogger):
    def __init__(self, folder) -> None:
        super().__init__(folder)
        self.seen: list[dict] = []

    def log_metrics(self, metrics, step=None):
        self.seen.append(dict(metrics))


def fit(clock, folder, measured, steps, checkpoint=None) -> Kept:
    logger = Kept(folder)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=steps,
        callbacks=[measured],
        logger=logger,
        log_every_n_steps=2,
        num_sanity_val_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    numbers = Numbers(clock)
    trainer.fit(
        Module(clock),
        loader.TimedLoader(numbers, batch_size=2),
        torch.utils.data.DataLoader(numbers),
        ckpt_path=checkpoint,
        weights_only=True,
    )
    trainer.save_checkpoint(folder / "last.ckpt")
    return logger


@pytest.fixture
def clock(monkeypatch) -> Clock:
    return Clock(monkeypatch)


def test_costs_of_a_run_and_of_a_resumed_run(clock, monkeypatch, tmp_path):
    monkeypatch.setattr(cost, "peak_memory_mb", lambda: 2000.0)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3e9)
    measured = cost.Cost()
    logged = fit(clock, tmp_path, measured, 8).seen
    # Two epochs of four steps, each with eight scans validated.
    expected = {
        "wall_seconds": 8 * (READING + TRAINING) + 2 * 8 * (READING / 2 + ELSE),
        "train_seconds": 8 * (READING + TRAINING),
        "seconds_per_step": READING + TRAINING,
        "samples_per_second": 2 / (READING + TRAINING),
        "waiting_share": 0.25,
        "peak_memory_mb": 2000,
        "peak_gpu_memory_mb": 3000,
        "parameters": 3 * 9 + 3,
        "flops_per_step": 2 * 2 * 2 * 4 * 5 * 3 * 9,  # two passes, two operations, two samples
    }
    assert measured.cost() == expected
    assert [row["time/waiting_share"] for row in logged if "time/waiting_share" in row] == [0.25] * 4
    assert [row["time/samples_per_second"] for row in logged if "time/samples_per_second" in row] == [0.5] * 4
    monkeypatch.setattr(cost, "peak_memory_mb", lambda: 1000.0)
    clock.now += 1e6  # between the sittings
    resumed = cost.Cost()
    fit(clock, tmp_path, resumed, 12, tmp_path / "last.ckpt")
    assert resumed.cost() == expected | {key: 1.5 * expected[key] for key in ("wall_seconds", "train_seconds")}


def test_memory_includes_the_data_loaders_processes(monkeypatch):
    context = multiprocessing.get_context("spawn")
    before = cost.children_memory_mb()
    child = context.Process(target=time.sleep, args=(60,))
    child.start()
    try:
        assert cost.children_memory_mb() > before
    finally:
        child.kill()
        child.join()
    assert cost.children_memory_mb() == before


def test_no_costs_without_a_step():
    assert cost.Cost().cost() == {}


def test_cost_line():
    told = {
        "wall_seconds": 234,
        "seconds_per_step": 0.23,
        "samples_per_second": 8.7,
        "waiting_share": 0.015,
        "peak_memory_mb": 1900,
        "peak_gpu_memory_mb": 3200,
        "parameters": 1_200_000,
        "flops_per_step": 12_300_000_000,
        "energy_kwh": 0.004,
        "energy_source": "estimated",
        "co2_kg": 0.0012,
    }
    assert cost_lines({"cost": told}) == [
        "training 3.9 min, 0.23 s per step (1.5 % of it waiting for data), 8.7 samples per second",
        "1.2 M parameters, 12.3 GFLOP per step, peak memory 1.9 GB and 3.2 GB on the GPU, 0.004 kWh (estimated), "
        "0.0012 kg CO2",
    ]
    assert cost_lines({"cost": {"seconds_per_step": 4.0, "waiting_share": 0.25, "samples_per_second": 12345}}) == [
        "4 s per step (25.0 % of it waiting for data), 12,345 samples per second"
    ]


@pytest.mark.parametrize("value", ["x", None, True, float("nan"), float("inf"), -1.0, 10**400, [1], {"a": 1}])
def test_cost_line_omits_values_that_are_not_numbers(value):
    keys = ("wall_seconds", "seconds_per_step", "waiting_share", "parameters", "flops_per_step", "energy_kwh", "co2_kg")
    assert cost_lines({"cost": dict.fromkeys(keys, value)}) == cost_lines({"cost": value}) == cost_lines({}) == []
    strange = cost_lines({"cost": {"energy_kwh": 1, "energy_source": f"<b>{value}"}})
    assert strange == ["1 kWh"]
