"""The clock is a counter that reading and training move by known amounts, so that the share is exact."""

import pytorch_lightning as pl
import torch
from torch.utils.data import Dataset

from segment.report.summary import cost_lines
from segment.sampling import loader
from segment.training import pace

READING, TRAINING, ELSE = 1.0, 3.0, 50.0


class Clock:
    def __init__(self, monkeypatch) -> None:
        self.now = 0.0
        for module in (loader, pace):
            monkeypatch.setattr(module, "time", self)

    def perf_counter(self) -> float:
        return self.now


class Numbers(Dataset):
    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> torch.Tensor:
        self.clock.now += READING / 2  # two samples a batch
        return torch.tensor([float(index)])


class Module(pl.LightningModule):
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        self.clock.now += TRAINING
        return self.layer(batch).sum()

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


def test_the_share_of_waiting_is_that_of_reading(monkeypatch, tmp_path):
    clock, measured = Clock(monkeypatch), pace.Pace()
    logged = fit(clock, tmp_path, measured, 8).seen
    assert measured.cost() == {"seconds_per_step": READING + TRAINING, "waiting_share": 0.25}
    assert [row["time/waiting_share"] for row in logged if "time/waiting_share" in row] == [0.25] * 4
    assert cost_lines({"cost": measured.cost()}) == ["training step 4 s, 25.0% of it waiting for data"]
    resumed = pace.Pace()
    fit(clock, tmp_path, resumed, 12, tmp_path / "last.ckpt")
    assert (resumed.steps, resumed.cost()) == (12, {"seconds_per_step": READING + TRAINING, "waiting_share": 0.25})


def test_without_a_step_there_is_no_figure():
    assert pace.Pace().cost() == {}
    assert cost_lines({}) == cost_lines({"cost": None}) == cost_lines({"cost": {"seconds_per_step": "x"}}) == []
