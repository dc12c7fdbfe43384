"""A training step and the windows of a prediction ask the device for nothing, so that it never waits for the host.

No GPU is needed; `watched_operations` says what is seen without one, and what is not: the time of kernels, and waits
that a kernel of CUDA brings with it.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
import torchgen
import yaml
from assembled import assembled
from watched_operations import Watched
from whole_runs import TINY

from segment.augment import recipe
from segment.augment.resampling import resample
from segment.inference import forward
from segment.inference.predictor import Predictor
from segment.inference.windows import SlidingWindows
from segment.sampling.datamodule import PatchDataModule
from segment.training.modules.segmentation import SegmentationModule
from segment.workflow.prepare import Work

# Every kind of change of a patch; logging as with trainer=gpu.
SETTINGS = ("augment=heavy", "trainer.log_every_n_steps=10")
# Deep supervision, instance norm and momentum, where part of the voxels is not annotated.
DEEP = (
    "network=nnunet_plain", "network.encoder.features=[4,8,8]", "network.encoder.strides=null",
    "network.encoder.kernel_sizes=3", "network.encoder.depths=1", "network.decoder.depths=1",
    "network.deep_supervision=1",
)  # fmt: skip
IGNORED = {"background": 0, "ball_1": 1, "ignore": 2}


@pytest.fixture(scope="module")
def lacking() -> Callable[[Iterable[str], str], set[str]]:
    """``lacking(operations, device)``: which have no kernel, from the table that torch's own code is generated from.

    A build for CPUs has the table of all others. Whether kernels are written for every type and size, it does not say.
    """
    table = Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml"
    entries = {entry["func"].partition("(")[0]: entry for entry in yaml.load(table.read_text(), yaml.CSafeLoader)}

    def without(operations: Iterable[str], device: str) -> set[str]:
        return {name for name in operations if name in entries and not _has(entries, entries[name], device)}

    return without


def _has(entries, entry, device: str) -> bool:
    entry = entries[entry.get("structured_delegate", entry["func"].partition("(")[0])]
    if device == "CUDA" and "ufunc_inner_loop" in entry:  # generated for CPU and CUDA
        return True
    # What is composed consists of others, which dispatch on their own.
    kinds = ", ".join(entry.get("dispatch", {"CompositeImplicitAutograd": ""}))
    return device in kinds.split(", ") or "Composite" in kinds


@dataclass
class Training:
    """A training, assembled but not started."""

    work: Work
    module: SegmentationModule
    trainer: pl.Trainer
    patches: PatchDataModule
    watched: Watched
    most: int  # operations of a step, a tenth more than when it was counted

    def on(self, device: torch.device) -> SegmentationModule:
        """A copy of the module on a device."""
        return copy.deepcopy(self.module).to(device)


class Second(pl.Callback):
    """Notes the operations of the second step alone: the first one creates the optimiser's state."""

    def __init__(self, watched: Watched) -> None:
        self.watched = watched
        watched.on = False

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.watched.on = trainer.global_step == 1

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.watched.on = False


@pytest.fixture(scope="module", params=["plain", "deep"])
def training(request, make_dataset, tmp_path_factory) -> Training:
    folder, deep = tmp_path_factory.mktemp("waiting"), request.param == "deep"
    root: Path = make_dataset(folder / "data", layout="nnunet", n=4)
    if deep:
        described = json.loads((root / "dataset.json").read_text())
        (root / "dataset.json").write_text(json.dumps(described | {"labels": IGNORED}))
    given = (f"data.root={root}", f"output={folder / 'run'}", f"cache={folder / 'cache'}")
    watched = Watched()
    made = assembled([*TINY, *given, *SETTINGS, *(DEEP if deep else ())], [Second(watched)])
    return Training(*made, watched, 1210 if deep else 930)


@pytest.fixture
def like_a_device(monkeypatch) -> None:
    """What a CPU does in a way of its own is done as on any other device."""
    monkeypatch.setattr(recipe, "resample", functools.partial(resample, at_borders=False))


@pytest.fixture
def meta(monkeypatch, like_a_device) -> torch.device:
    """The device without values, with what torch lacks for it: autocast, which is not used, and generators."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: contextlib.nullcontext())
    monkeypatch.setattr(recipe, "field_generator", lambda seed, sample, purpose, device: None)
    return torch.device("meta")


def test_steps_on_a_device_without_values(training, meta, lacking, monkeypatch):
    module, watched = training.on(meta), Watched(device_apart=True)
    monkeypatch.setattr(module, "log", lambda *args, **options: None)
    optimizer = module.make_optimizer(list(module.network.parameters()))
    for batch in training.patches.train_dataloader():
        there = training.patches.transfer_batch_to_device(batch, meta, 0)
        assert there["image"][0].is_meta
        with watched:
            module.training_step(there, 0).backward()
            optimizer.step()
    assert watched.operations["convolution_backward"]
    assert watched.operations["index_select"]
    assert watched.asked == []
    assert watched.doubles == []
    assert lacking(watched.operations, "CUDA") | lacking(watched.operations, "MPS") == set()


def test_windows_on_a_device_without_values(training, meta, monkeypatch):
    work, module, watched = training.work, training.on(meta).eval(), Watched(device_apart=True)
    image = torch.from_numpy(work.store.load(work.val[0]).image[...])
    # They are read once for each scan, before its first window.
    monkeypatch.setattr(forward, "constant_places", lambda *given: {})
    with watched:
        there = image.to(meta, non_blocking=True)
        planes = list(SlidingWindows(mirror="all").planes(module.network, there, work.plan.patch_size))
    assert len(planes) == image.shape[1]
    assert watched.asked == []
    assert watched.doubles == []


def test_a_prediction_asks_once_whether_it_is_finite(training, lacking):
    work, watched = training.work, Watched()
    module = training.on(torch.device("cpu"))
    predictor = Predictor(module.network, work.plan, SlidingWindows(mirror="all"), work.dataset.labels)
    scan = work.store.load(work.val[0])
    with watched:
        predictor.predict_prepared(torch.from_numpy(scan.image[...]), scan.placement)
    # The Gaussian's smallest weight is computed on the host on any device.
    assert [place.partition(":")[0] for place in watched.asked] == ["/inference/tiling.py", "/inference/predictor.py"]
    assert lacking(watched.operations, "CUDA") | lacking(watched.operations, "MPS") == set()


@pytest.mark.usefixtures("like_a_device")
def test_a_training_step_asks_for_nothing_and_has_kernels_for_cuda_and_metal(training, lacking):
    with training.watched:
        training.trainer.fit(training.module, training.patches)
    seen = training.watched.operations
    assert seen["convolution_backward"]
    assert seen["index_select"]
    assert training.watched.asked == []
    assert seen.total() <= training.most
    assert lacking(seen, "CUDA") == set()
    assert lacking(seen, "MPS") == set()
