"""Checks of the values of a training that need neither its data nor torch, which takes seconds to import."""

from __future__ import annotations

import importlib.metadata
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segment.errors import UserError, did_you_mean
from segment.inference.limits import has_gpu, model_folders

ACCELERATORS = ("cpu", "gpu", "cuda", "mps", "auto")
# Lightning's names; the others (16-true, bf16-true, 64-true) train, but nothing is scored in them.
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
SAME_PRECISION = {"32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed"}  # Lightning's older names
MAX_TIME = re.compile(r"\d+:\d{1,2}:\d{1,2}:\d{1,2}")
MAX_SEED = 2**32 - 1  # NumPy's


def check_run(
    fold: int | str,
    folds: int,
    splits: Path | None,
    seed: int,
    overfit: int,
    nested: bool,
    postprocessing: str = "none",
    calibration: str = "none",
) -> None:
    """Check which fold is trained, and the seed.

    Raises:
        UserError: When there is no such fold, or a number is out of range.
    """
    if splits is not None and not splits.is_file():
        raise UserError(
            f"splits={splits}: there is no such file. Give a file in the format of nnU-Net's splits_final.json."
        )
    if splits is None and folds < 2:
        raise UserError(f"folds={folds}: cross-validation needs at least 2.")
    number = folds
    if splits is not None:
        from segment.data.splits import count_folds  # here, since its package imports nibabel

        number = count_folds(splits)
    if fold != "all" and (not isinstance(fold, int) or isinstance(fold, bool) or not 0 <= fold < number):
        where = "" if splits is None else f" in {splits}"
        raise UserError(f"fold={fold}: there are {number} folds{where}. Give a number from 0 to {number - 1}, or all.")
    if nested and (fold == "all" or overfit):
        raise UserError(
            "nested=true: chooses a configuration for one fold, whose validation scans it does not use. Give one fold, "
            "such as fold=0 or -m fold=0,1,2,3,4, and no overfit."
        )
    for key, value in {"postprocessing": postprocessing, "calibration": calibration}.items():
        if overfit and value != "none":
            raise UserError(
                f"{key}={value}: is decided on validation scans, and overfit={overfit} has none. Leave one of them out."
            )
    require_number("seed", seed, 0, MAX_SEED, whole=True)
    require_number("overfit", overfit, 0, whole=True)


def check_trainer(trainer: Mapping[str, Any]) -> None:
    """Check the arguments of Lightning's Trainer that it would reject only after seconds or ignore.

    Args:
        trainer: The arguments, by name.

    Raises:
        UserError: When one of them is out of range or unknown.
    """
    require_choice("trainer.accelerator", trainer["accelerator"], ACCELERATORS)
    if trainer["accelerator"] in ("gpu", "cuda", "mps") and not has_gpu(trainer["accelerator"]):
        raise UserError(
            f"trainer.accelerator={trainer['accelerator']}: torch {importlib.metadata.version('torch')} finds no GPU. "
            "Train with trainer=cpu, or install a torch build that fits the GPU's driver."
        )
    precision = str(trainer["precision"])
    if precision in SAME_PRECISION:
        raise UserError(f"trainer.precision={precision}: give Lightning's new name, {SAME_PRECISION[precision]}.")
    require_choice("trainer.precision", precision, PRECISIONS)
    if trainer["accelerator"] == "cpu" and precision == "16-mixed":
        raise UserError("trainer.precision=16-mixed: needs a GPU. On the processor, use 32-true, bf16-mixed or auto.")
    steps, epochs, limit = trainer["max_steps"], trainer.get("max_epochs", -1), trainer.get("max_time")
    require_number("trainer.max_steps", steps, -1, whole=True)
    require_number("trainer.max_epochs", epochs, -1, whole=True)
    if 0 in (steps, epochs):
        raise UserError(
            "trainer.max_steps and trainer.max_epochs: 0 trains nothing. Give at least 1, or -1 for no limit."
        )
    if steps == epochs == -1 and limit is None:
        raise UserError("trainer.max_steps=-1: has no end. Give it, trainer.max_epochs or trainer.max_time.")
    if limit is not None and not isinstance(limit, Mapping) and not MAX_TIME.fullmatch(str(limit)):
        raise UserError(f"trainer.max_time={limit}: give DD:HH:MM:SS, such as 00:05:00:00 for five hours.")
    require_number("trainer.accumulate_grad_batches", trainer["accumulate_grad_batches"], 1, whole=True)
    if trainer["check_val_every_n_epoch"] is not None:
        require_number("trainer.check_val_every_n_epoch", trainer["check_val_every_n_epoch"], 1, whole=True)
    if trainer.get("overfit_batches"):
        raise UserError("trainer.overfit_batches: use overfit=N, which trains on N scans and scores the same scans.")
    devices = trainer["devices"]
    if isinstance(devices, int) and devices < 1 and devices != -1:
        raise UserError(f"trainer.devices={devices}: give a positive number, -1 for all, or a list such as [0,1].")


def check_sampling(sampler: Mapping[str, Any], accumulated: int) -> None:
    """Check the arguments of `segment.sampling.datamodule.PatchDataModule`.

    Args:
        sampler: The arguments, by name.
        accumulated: Batches per optimiser step.

    Raises:
        UserError: When a number is out of range, or an epoch would end within an optimiser step.
    """
    require_number("sampler.foreground", sampler["foreground"], 0, 1)
    steps = sampler["steps_per_epoch"]
    require_number("sampler.steps_per_epoch", steps, 1, whole=True)
    require_number("sampler.workers", sampler["workers"], 0, whole=True)
    if steps % accumulated:  # the trainer would take the last step with fewer batches
        raise UserError(
            f"sampler.steps_per_epoch={steps}: the last step would have fewer than the {accumulated} batches of "
            f"trainer.accumulate_grad_batches. Give a multiple of {accumulated}, such as "
            f"{-(-steps // accumulated) * accumulated}."
        )


def read_shard(text: str | None) -> tuple[int, int]:
    """The number of a share, from 1, and the number of shares; (1, 1) for None, all of it.

    Raises:
        UserError: When the text is not of the form ``3/16``, or there is no such share.
    """
    if text is None:
        return 1, 1
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise UserError(f"shard={text}: give a share and their number, from 1/16 to 16/16 for 16 of them.")
    return int(found[1]), int(found[2])


def check_files(plan: Path | None, weights: Path | None, output: Path, cascade: str | None = None) -> None:
    """Check that given files exist, and that the run folder can be made.

    Raises:
        UserError: When they do not, or it cannot.
    """
    if plan is not None and not plan.expanduser().is_file():
        raise UserError(f"plan={plan}: there is no such file. 'segment plan data=... output=plan.yaml' writes one.")
    if weights is not None and not weights.expanduser().exists():
        raise UserError(f"weights={weights}: does not exist. Give a file of weights or a finished run's folder.")
    for folder in model_folders(cascade) if cascade else ():
        if not folder.is_dir():
            raise UserError(f"cascade={folder}: there is no such folder. Give the run folder of the first stage.")
    require_folder("output", output)


def require_folder(key: str, folder: Path) -> None:
    """Check that a folder exists or can be made.

    Raises:
        UserError: When it is a file, lies in one, or may not be written.
    """
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        what = "is a file" if nearest == folder else f"{nearest} is a file"
        raise UserError(f"{key}={folder}: {what}. Give a folder.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"{key}={folder}: {nearest} may not be written. Give another folder.")


def require_choice(key: str, value: object, choices: tuple[str, ...]) -> None:
    """Check that a value is among the choices.

    Raises:
        UserError: When it is not, with the closest one.
    """
    if value not in choices:
        raise UserError(
            f"{key}={value}: there is no such choice.{did_you_mean(str(value), choices)} Choices: {', '.join(choices)}."
        )


def require_number(key: str, value: object, least: float, most: float | None = None, whole: bool = False) -> None:
    """Check that a value is a number within bounds.

    Raises:
        UserError: When it is not.
    """
    is_kind = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not is_kind or not least <= value <= (math.inf if most is None else most):  # type: ignore[operator]
        what = "a whole number" if whole else "a number"
        bounds = f"of at least {least:g}" if most is None else f"from {least:g} to {most:.10g}"
        raise UserError(f"{key}={value}: give {what} {bounds}.")
