"""How a model predicts: as it was scored, unless told otherwise; what is different is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from segment.errors import UserError, did_you_mean
from segment.inference.precision import precision_for
from segment.inference.windows import SlidingWindows

ACCELERATORS = ("auto", "cpu", "gpu", "cuda")


@dataclass(frozen=True)
class Settings:
    """How a model predicts.

    Attributes:
        windows: How a scan is covered.
        precision: Lightning's name.
        device: Where the network runs.
        scored: What the model was scored with: arguments of the windows, and ``precision``, None where unknown.
        notes: A sentence for each setting that is another one than for the model's scores.
    """

    windows: SlidingWindows
    precision: str
    device: torch.device
    scored: Mapping[str, Any]
    notes: tuple[str, ...]

    @property
    def used(self) -> dict[str, Any]:
        """What is predicted with, under the keys of `scored`."""
        return {**vars(self.windows), "precision": self.precision}


def decide_settings(
    inference: Mapping[str, Any],
    scored_in: str | None,
    wanted: Mapping[str, Any] | None = None,
    precision: str | None = None,
    accelerator: str = "auto",
) -> Settings:
    """Decide how a model predicts.

    Args:
        inference: Plain arguments of the windows that it was scored with.
        scored_in: Lightning's name of the precision it was scored in; None where nothing says it.
        wanted: Arguments of the windows that are to be others; None among them is as scored.
        precision: Lightning's name, or auto; None: as scored, where this machine computes it fast.
        accelerator: ``cpu``, ``gpu``, or ``auto`` for a GPU where there is one.

    Raises:
        UserError: When a value is out of range or unknown, naming it.
    """
    if accelerator not in ACCELERATORS:
        raise UserError(
            f"accelerator={accelerator}: there is no such device.{did_you_mean(accelerator, ACCELERATORS)} "
            f"There are: {', '.join(ACCELERATORS)}."
        )
    gpu = accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())
    windows = windows_of(inference, wanted or {})
    chosen, why = precision_for(scored_in, precision, "gpu" if gpu else "cpu")
    scored = {**vars(windows_of(inference, {})), "precision": scored_in}
    notes = different(scored, {**vars(windows), "precision": chosen}, why)
    return Settings(windows, chosen, torch.device("cuda" if gpu else "cpu"), scored, tuple(notes))


def windows_of(inference: Mapping[str, Any], wanted: Mapping[str, Any]) -> SlidingWindows:
    """The windows that a model was scored with, but for what is wanted otherwise.

    Raises:
        UserError: When a value is out of range or unknown, naming it.
    """
    arguments = {key: value for key, value in inference.items() if not key.startswith("_")}
    arguments |= {key: value for key, value in wanted.items() if value is not None}
    known = SlidingWindows().__dict__
    for key in arguments:
        if key not in known:
            raise UserError(f"inference.{key}: there is no such key.{did_you_mean(key, known)}")
    try:
        return SlidingWindows(**arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"inference: {error}") from error


def different(scored: Mapping[str, Any], used: Mapping[str, Any], why: str) -> list[str]:
    """A sentence for each setting in which masks are made otherwise than the model's scores were."""
    found = []
    for key, value in used.items():
        if scored[key] != value:
            before = "unknown" if scored[key] is None else scored[key]
            found.append(
                f"{key} is {value} here, {before} for the model's scores, {why if key == 'precision' else 'as asked'}."
            )
    return found
