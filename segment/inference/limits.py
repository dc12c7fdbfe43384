"""What a prediction may be asked for, without importing torch, which takes seconds."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segment.errors import UserError, did_you_mean
from segment.files import read_mapping
from segment.inference.engines.names import FORMATS
from segment.inference.nnunet_folders import DATASET, channel_names, explain, fold_folders, is_fold, read_dataset
from segment.inference.precision import PRECISIONS

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
MAX_OVERLAP = 0.95  # 8000 windows per voxel of a 3D scan
MAX_SIGMA = 10.0
MAX_BATCH = 4096
AUTO = "auto"  # for the batch size and the layout of windows: the fastest where the model is scored
MAX_DROPOUT = 1000  # passes
LAYOUTS = ("channels_last", "contiguous")
TILINGS = MONAI, NNUNET = "monai", "nnunet"
PROBABILITIES, LOGITS = AVERAGES = ("probabilities", "logits")
DECISIONS = ARGMAX, DICE, THRESHOLDS = "argmax", "dice", "thresholds"
MAX_TEMPERATURE = 100.0  # and its inverse, the least


def check_windows(
    overlap: float = 0.5,
    batch_size: int | str = 1,
    sigma: float = 1,
    layout: str = "channels_last",
    decision: str = ARGMAX,
    temperature: float = 1,
    thresholds: Mapping[str, float] | None = None,
    dropout: int = 0,
) -> None:
    """Check the arguments of `segment.inference.windows.SlidingWindows`.

    Raises:
        ValueError: When a number is out of range, or there is no such layout or decision.
        TypeError: When a value is not a number.
    """
    # NaN compares as false.
    if not 0 <= overlap <= MAX_OVERLAP:
        raise ValueError(f"overlap={overlap} must be in [0, {MAX_OVERLAP}]")
    if not 0 < sigma <= MAX_SIGMA:
        raise ValueError(f"sigma={sigma} must be in (0, {MAX_SIGMA}]")
    number = isinstance(batch_size, int | float) and batch_size == int(batch_size)
    if batch_size != AUTO and not (number and 1 <= int(batch_size) <= MAX_BATCH):
        raise ValueError(f"batch_size={batch_size} must be a whole number from 1 to {MAX_BATCH}, or {AUTO}")
    if layout not in (AUTO, *LAYOUTS):
        raise ValueError(f"layout={layout} must be one of {', '.join((AUTO, *LAYOUTS))}")
    if decision not in DECISIONS:
        raise ValueError(f"decision={decision} must be one of {', '.join(DECISIONS)}")
    if not 1 / MAX_TEMPERATURE <= temperature <= MAX_TEMPERATURE:
        raise ValueError(f"temperature={temperature} must be in [{1 / MAX_TEMPERATURE}, {MAX_TEMPERATURE}]")
    if dropout != int(dropout) or not 0 <= dropout <= MAX_DROPOUT:
        raise ValueError(f"dropout={dropout} must be a whole number of passes from 0 to {MAX_DROPOUT}")
    for name, value in (thresholds or {}).items():
        if not 0 <= value <= 1:
            raise ValueError(f"thresholds.{name}={value} must be in [0, 1]")


def check_accelerator(accelerator: str) -> None:
    """Check the name of a device, and that torch has a GPU if it is asked for.

    Raises:
        UserError: When there is no such device.
    """
    if accelerator not in ACCELERATORS:
        raise UserError(
            f"accelerator={accelerator}: there is no such device.{did_you_mean(accelerator, ACCELERATORS)} "
            f"There are: {', '.join(ACCELERATORS)}."
        )
    if accelerator in ("gpu", "cuda", "mps") and not has_gpu(accelerator):
        raise UserError(
            f"accelerator={accelerator}: torch {importlib.metadata.version('torch')} finds no GPU. Predict with "
            "accelerator=cpu, or install a torch build that fits the GPU's driver."
        )


def check_precision(precision: str | None) -> None:
    """Check the name of a requested precision; None: as the model was scored.

    Raises:
        UserError: When there is none of this name.
    """
    if precision not in (None, "auto", *PRECISIONS):
        raise UserError(
            f"precision={precision}: there is no such precision.{did_you_mean(str(precision), PRECISIONS)} There "
            f"are: {', '.join(PRECISIONS)}, auto (the fastest on this machine) and null (as the model was scored)."
        )


@functools.cache
def has_gpu(accelerator: str) -> bool:
    """Whether torch finds a GPU of a kind; torch is imported only if its build could use one.

    Args:
        accelerator: ``cuda``, of NVIDIA or AMD; ``mps``, Apple's; or ``gpu``, any of these.
    """
    found = importlib.util.find_spec("torch")
    version = Path(str(found.origin)).with_name("version.py") if found else Path()
    if "torch" not in sys.modules and sys.platform != "darwin" and version.is_file():
        builds = re.findall(r"^(?:cuda|hip|rocm)\b[^=]*= *(.*)$", version.read_text(encoding="utf-8"), re.M)
        if builds and all(build.strip() == "None" for build in builds):
            return False
    import torch

    cuda = accelerator != "mps" and torch.cuda.is_available()
    return cuda or (accelerator != "cuda" and torch.backends.mps.is_available())


def find_model(folder: Path, key: str = "model") -> Path:
    """Find the model folder, given the folder itself, a run folder or a results folder of nnU-Net with one fold.

    Args:
        folder: The folder.
        key: The key that names it, in the message.

    Raises:
        UserError: When neither has a model.json.
    """
    for candidate in (folder / "model", folder):
        if (candidate / "model.json").is_file():
            return candidate
        if (candidate / "pretrained.json").is_file():
            raise UserError(
                f"model={folder}: is a pretraining, which cannot segment yet. Fine-tune it: segment train data=... "
                f"weights={folder}"
            )
    folds = [folder] if is_fold(folder) else fold_folders(folder)
    if len(folds) == 1:
        return folds[0]
    if folds:
        raise UserError(f"{key}={folder}: has {len(folds)} folds. Give one of them: {', '.join(map(str, folds))}.")
    if problem := explain(folder):
        raise UserError(f"{key}={folder}: {problem}")
    raise UserError(
        f"{key}={folder}: no model.json there or in its folder model/. Give a finished run folder (runs/NAME), "
        "a model folder or a results folder of nnU-Net."
    )


def model_folders(text: str) -> list[Path]:
    """The folders that ``model=`` names.

    Args:
        text: A run or model folder; the folder of a ``fold=all`` or its ``model/``, or a results folder of nnU-Net,
            whose folds are meant; or several as ``[A,B]``.
    """
    several = text.startswith("[") and text.endswith("]") and not Path(text).exists()
    named = [part.strip().strip("'\"") for part in text[1:-1].split(",")] if several else [text]
    return [folder for name in named if name for folder in _folds(Path(name))]


def _folds(folder: Path) -> list[Path]:
    """The run folders of a cross-validation's folds, else its own copies of their models, else the folder itself."""
    record = folder / "provenance.json"
    if any((place / "model.json").is_file() for place in (folder, folder / "model")):
        return [folder]
    if folds := fold_folders(folder):
        return folds
    copies = [found for place in (folder / "model", folder) if (found := fold_models(place))]
    runs = read_mapping(record).get("runs") if record.is_file() else None
    if isinstance(runs, list) and all(isinstance(run, dict) and "folder" in run for run in runs):
        named = [Path(os.path.normpath(folder / str(run["folder"]))) for run in runs]
        if not copies or all((run / "model" / "model.json").is_file() for run in named):
            return named
    return copies[0] if copies else [folder]


def fold_models(folder: Path) -> list[Path]:
    """The models ``fold0``, ``fold1``, ... in the ``model/`` of a cross-validation; empty for other folders."""
    numbers = {path.parent.name.removeprefix("fold") for path in folder.glob("fold*/model.json")}
    return [folder / f"fold{number}" for number in sorted(filter(str.isdecimal, numbers), key=int)]


def channels_of(model: Path) -> list[str] | None:
    """Names of the channels of a model's scans; None if its description is damaged.

    Args:
        model: The model folder.
    """
    if is_fold(model):
        return list(channel_names(read_dataset(model), model.parent / DATASET))
    try:
        return [str(name) for name in _described(model)["channels"]]
    except (LookupError, TypeError):
        return None


def format_of(model: Path) -> str | None:
    """Format of an exported model; None for a network in torch or if its description is damaged.

    Args:
        model: The model folder.
    """
    try:
        name = _described(model)["export"]["format"]
    except (LookupError, TypeError):
        return None
    return name if name in FORMATS else None


def _described(model: Path) -> Any:
    """The content of a model.json; None if it cannot be read."""
    try:
        return json.loads((model / "model.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
