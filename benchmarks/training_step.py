"""A training step of `segment train` beside a plain torch loop around MONAI's DynUNet, same widths, patch and batch.

The peer has its patches in memory and only flips and adds noise; ours reads patches from disk, augments and logs.

    python benchmarks/training_step.py [--steps 20] [--features 16 32 64 128] [--patch 40 56 40] [--batch 4] [--compile]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytorch_lightning as pl
import torch
from _machine import describe
from monai.losses import DiceCELoss
from monai.networks.nets import DynUNet

from segment.config.compose import compose_command
from segment.config.experiment import read_experiment
from segment.instruction_set import precision
from segment.workflow import train
from segment.workflow.loggers import logged
from segment.workflow.prepare import prepare

PRECISION = precision("auto", "cpu")


def peer_seconds(features: list[int], patch: list[int], batch: int, steps: int) -> float:
    """Median seconds a step of the plain loop."""
    torch.manual_seed(0)
    strides = [1] + [2] * (len(features) - 1)
    network = DynUNet(3, 1, 3, [3] * len(features), strides, strides[1:], filters=features)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    loss = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    images, labels = torch.randn(8, 1, *patch), torch.randint(0, 3, (8, 1, *patch))
    times = []
    for step in range(steps + 2):
        started = time.perf_counter()
        chosen = torch.randint(0, 8, (batch,))
        axes = [axis for axis in (2, 3, 4) if torch.rand(()) < 0.5]
        image = torch.flip(images[chosen], axes) + 0.1 * torch.randn(batch, 1, *patch)
        with torch.autocast("cpu", torch.bfloat16, enabled=PRECISION == "bf16-mixed"):
            logits = network(image)
        optimizer.zero_grad()
        loss(logits.float(), torch.flip(labels[chosen], axes)).backward()
        optimizer.step()
        if step >= 2:
            times.append(time.perf_counter() - started)
    return float(np.median(times))


class Clock(pl.Callback):
    """When every step ended, in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.ends: list[float] = []
        self.now = now

    def on_train_batch_end(self, *_: object) -> None:
        self.ends.append(self.now())


def our_seconds(
    features: list[int], patch: list[int], batch: int, steps: int, now: Callable[[], float], compiled: bool = False
) -> float:
    """Median seconds a step of a run, everything included."""
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for kind in ("images", "labels"):
            (root / "data" / kind).mkdir(parents=True)
            for case in range(8):
                voxels = random.integers(0, 3 if kind == "labels" else 255, [size + 8 for size in patch[::-1]])
                nib.save(nib.Nifti1Image(voxels.astype(np.uint8), np.eye(4)), root / "data" / kind / f"c{case}.nii.gz")
        overrides = [
            "data=auto", f"data.root={root / 'data'}", f"output={root / 'run'}", f"cache={root}", "name=x",
            "network=nnunet_plain", "network.deep_supervision=0", "optimizer=adamw", "scheduler=one_cycle",
            f"network.encoder.features={features}", f"plan.patch_size={patch}", f"plan.batch_size={batch}",
            f"trainer.max_steps={steps + 2}", f"sampler.steps_per_epoch={steps + 2}", "folds=4",
            f"compile={str(compiled).lower()}",
        ]  # fmt: skip
        experiment = read_experiment(*compose_command("train", overrides))
        train.silence_libraries()
        work = prepare(experiment)
        parts = experiment.build({})
        clock = Clock(now)
        module, trainer, data = train.assemble(experiment, parts, work)
        trainer.callbacks.insert(0, clock)
        trainer.limit_val_batches = 0
        with logged(trainer, parts, root / "run"):
            trainer.fit(module, data)
    return float(np.median(np.diff(clock.ends[1:])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--features", type=int, nargs="+", default=[16, 32, 64, 128])
    parser.add_argument("--patch", type=int, nargs=3, default=[40, 56, 40])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--compile", action="store_true", help="measure compile=true too, which takes minutes")
    given = parser.parse_args()
    describe(PRECISION)
    arguments = (given.features, given.patch, given.batch, given.steps)
    peer, ours = peer_seconds(*arguments), our_seconds(*arguments, time.perf_counter)
    print(f"{torch.get_num_threads()} threads, {given.batch} x {given.patch}, {given.features}")
    print(
        f"plain torch + DynUNet {peer:.3f} s a step   segment {ours:.3f} s a step   ratio {peer / ours:.2f} x as fast"
    )
    if given.compile:
        # Time of processors, which other work on the machine changes less; other processes that compile are not in it.
        plain, compiled, again = (our_seconds(*arguments, time.process_time, way) for way in (False, True, False))
        print(f"processor time a step: {plain:.3f} s, compile=true {compiled:.3f} s, once more without {again:.3f} s")


if __name__ == "__main__":
    main()
