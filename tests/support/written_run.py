"""A small finished run, as `segment train` leaves it, made without training."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segment.data.labels import Labels
from segment.evaluation.score import score_pairs
from segment.runs.scans import write_scans
from segment.runs.summary import summarise, write_summary

LABELS = {"background": 0, "Anterior": 1, "Posterior": 2}
CONFIG = """\
experiment: hippocampus
seed: 12345
output: runs/{name}
data:
  name: Task04
  fold: 0
network:
  _target_: segment.networks.unet.UNet
  features: [8, 16, 32]
  dropout: null
optimizer:
  lr: {lr}
  nesterov: true
trainer:
  gradient_clip_val: .inf
"""
PROTOCOL = {"split": "val", "fold": 0, "overlap": 0.5, "test_time_augmentation": False}


def _boxes(shift: int) -> np.ndarray:
    """Two boxes in an array of x, y, z order; every second scan lacks the second one."""
    mask = np.zeros((12, 14, 10), np.uint8)
    mask[3 + shift : 8 + shift, 3:7, 3:7] = 1
    mask[3 + shift : 8 + shift, 7:11, 3:7] = 2
    return mask


def _maker(tmp_path: Path) -> Callable[..., Path]:
    """Function (name, lr, shifts, notice) -> run folder with one scan per shift; larger shifts are worse."""

    def make(name="first", lr=0.01, shifts=(1, 0, 3), case="scan_{}", notice="") -> Path:
        run, sources = tmp_path / "runs" / name, tmp_path / "sources"
        (run / "predictions").mkdir(parents=True)
        (run / "tensorboard").mkdir()
        sources.mkdir(exist_ok=True)
        affine = np.diag([1.0, 1.0, 2.0, 1.0])
        pairs, cases = [], {}
        for index, shift in enumerate(shifts):
            id_ = case.format(index)
            image, label = sources / f"{id_}.nii.gz", sources / f"{id_}_label.nii.gz"
            prediction = run / "predictions" / f"{id_}.nii.gz"
            grey = np.random.default_rng(index).normal(100, 10, _boxes(0).shape) + 50 * _boxes(0)
            for file, array in ((image, grey.astype(np.float32)), (label, _boxes(0)), (prediction, _boxes(shift))):
                nib.save(nib.Nifti1Image(array, affine), file)
            hashes = {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in (image, label)}
            cases[id_] = {"images": [str(image)], "label": str(label), "sha256": hashes}
            pairs.append((id_, prediction, label))
        scans = score_pairs(pairs, Labels(LABELS), "val", 0)
        write_scans(run / "scans.csv", scans)
        write_summary(run / "summary.json", summarise(scans, PROTOCOL))
        (run / "config.yaml").write_text(CONFIG.format(name=name, lr=lr))
        provenance = {"versions": {"torch": "2.13.0"}, "labels": LABELS, "notice": notice, "cases": cases}
        (run / "provenance.json").write_text(json.dumps(provenance))
        return run

    return make


@pytest.fixture
def make_run(tmp_path):
    """Function (name, lr, shifts, notice) -> run folder with one scan per shift; larger shifts are worse."""
    return _maker(tmp_path)


@pytest.fixture(scope="module")
def shared_run(tmp_path_factory):
    """A run folder of five scans that the tests of a module share and do not change."""
    return _maker(tmp_path_factory.mktemp("shared"))(name="shared", shifts=(1, 0, 3, 2, 0))
