"""The cost of a training: time, share of time spent waiting for data, memory, operations."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import psutil
import pytorch_lightning as pl
import torch

from segment.networks.describe import training_operations
from segment.networks.padding import count_parameters
from segment.provenance import peak_memory_mb


@dataclass
class Steps:
    """Training steps: number, samples, seconds waiting for data and seconds of work."""

    count: int = 0
    samples: int = 0
    waited: float = 0.0
    worked: float = 0.0

    def since(self, before: Steps) -> Steps:
        """The steps after ``before``."""
        now, then = asdict(self), asdict(before)
        return Steps(**{key: now[key] - then[key] for key in now})

    def figures(self) -> dict[str, float]:
        """``seconds_per_step``, ``samples_per_second`` and ``waiting_share`` (0 to 1); empty if there is no step."""
        seconds = self.waited + self.worked
        if not self.count or not seconds:
            return {}
        return {
            "seconds_per_step": seconds / self.count,
            "samples_per_second": self.samples / seconds,
            "waiting_share": self.waited / seconds,
        }


class Cost(pl.Callback):
    """Measures what a training costs, and logs ``time/seconds_per_step``, ``time/samples_per_second``, ...

    A step is one batch: the wait for it and the work on it, without validation and checkpoints. The training loader
    (`segment.sampling.loader.TimedLoader`) measures the wait. A resumed run adds to its previous measurements; those of
    a killed session count up to its last checkpoint, since later steps are repeated.
    """

    def __init__(self) -> None:
        self.steps = Steps()
        self.logged = Steps()
        self.wall = 0.0  # seconds of previous sessions
        self.started: float | None = None
        self.began = 0.0
        self.seen = 0.0
        self.memory = 0.0
        self.accelerator_memory = 0.0
        self.parameters: int | None = None
        self.operations: int | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        self._measure_memory()
        return {
            "steps": asdict(self.steps),
            "wall": self._wall(),
            "memory": self.memory,
            "accelerator_memory": self.accelerator_memory,
            "parameters": self.parameters,
            "operations": self.operations,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        self.steps = Steps(**state_dict["steps"])
        self.logged = replace(self.steps)
        self.wall, self.memory, self.accelerator_memory, self.parameters, self.operations = (
            state_dict[key] for key in ("wall", "memory", "accelerator_memory", "parameters", "operations")
        )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start measuring; earlier waits do not count."""
        self.started = time.perf_counter()
        self.seen = _waited(trainer)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Record the wait for the batch."""
        total = _waited(trainer)
        self.steps.waited += max(0.0, total - self.seen)
        self.seen = total
        if self.parameters is None and trainer.is_global_zero:
            self._count(trainer, pl_module, batch["image"])
        self.began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the step and log."""
        self.steps.worked += time.perf_counter() - self.began
        self.steps.count += 1
        self.steps.samples += len(batch["image"]) * trainer.world_size
        latest = self.steps.since(self.logged)
        if latest.count < trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        self.logged = replace(self.steps)
        for logger in trainer.loggers:
            values = {f"time/{key}": value for key, value in latest.figures().items()}
            logger.log_metrics(values, step=trainer.global_step)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure memory while the loader's processes are still running."""
        self._measure_memory()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop measuring."""
        self.wall, self.started = self._wall(), None
        self._measure_memory()

    def cost(self) -> dict[str, float]:
        """The entry ``cost`` of ``summary.json``, without unknown values; see `segment.runs.summary.summarise`.

        Empty before the first step.
        """
        if not self.steps.count:
            return {}
        figures = {
            "wall_seconds": self._wall(),
            "train_seconds": self.steps.waited + self.steps.worked,
            **self.steps.figures(),
            "peak_memory_mb": round(self.memory),
            "peak_gpu_memory_mb": round(self.accelerator_memory) or None,
            "parameters": self.parameters,
            "flops_per_step": self.operations,
        }
        return {key: value for key, value in figures.items() if value is not None}

    def _wall(self) -> float:
        return self.wall + (0.0 if self.started is None else time.perf_counter() - self.started)

    def _measure_memory(self) -> None:
        self.memory = max(self.memory, peak_memory_mb() + children_memory_mb())
        # 0 if no accelerator was used.
        self.accelerator_memory = max(self.accelerator_memory, torch.cuda.max_memory_allocated() / 1e6)

    def _count(self, trainer: pl.Trainer, pl_module: pl.LightningModule, boxes: Any) -> None:
        """Count parameters and operations once; patches are smaller than the boxes they are augmented from."""
        network: Any = pl_module.network
        self.parameters = count_parameters(network)
        size = pl_module.plan.patch_size  # type: ignore[union-attr]
        operations = training_operations(network, (len(boxes), boxes[0].shape[0], *size))  # type: ignore[misc]
        self.operations = operations and operations * trainer.world_size


def _waited(trainer: pl.Trainer) -> float:
    return float(getattr(trainer.train_dataloader, "waited", 0.0))


def children_memory_mb() -> float:
    """Memory in MB (10^6 bytes) that only the loader's processes use, without what they share with this one."""
    total = 0
    for child in multiprocessing.active_children():
        with contextlib.suppress(psutil.Error):  # the process has just ended
            total += psutil.Process(child.pid).memory_full_info().uss
    return total / 1e6
