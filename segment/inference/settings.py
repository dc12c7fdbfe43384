"""Prediction settings: by default those of the model's scores; differences are reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from segment.errors import UserError, did_you_mean
from segment.inference.engines.names import PACKAGES, PRECISIONS, check_engine
from segment.inference.exported import Export
from segment.inference.limits import AUTO, LOGITS, check_accelerator, check_precision
from segment.inference.postprocessing import Step, words
from segment.inference.precision import precision_for
from segment.inference.speed import with_way
from segment.inference.windows import SlidingWindows
from segment.parallel import local_rank

Measure = Callable[[SlidingWindows, torch.device, str], SlidingWindows]
ONE_BY_ONE = (1, "contiguous")  # how an engine other than torch computes windows, whatever it is given


@dataclass(frozen=True)
class Settings:
    """Prediction settings of a model.

    Attributes:
        windows: How a scan is divided into windows.
        precision: Lightning's name of the precision.
        device: Where the network runs.
        scored: Settings of the scores: arguments of the windows, ``engine``, and ``precision``, None if unknown.
        notes: A sentence for each setting that differs from that of the model's scores.
        engine: What computes the network.
        steps: Post-processing of the masks.
        parts: The settings of each plan's models, in an ensemble of several plans.
        previous: The settings of a cascade's first stage.
    """

    windows: SlidingWindows
    precision: str
    device: torch.device
    scored: Mapping[str, Any]
    notes: tuple[str, ...]
    engine: str = "torch"
    steps: tuple[Step, ...] = ()
    parts: tuple[Settings, ...] = ()
    previous: Settings | None = None

    @property
    def used(self) -> dict[str, Any]:
        """Settings of the prediction, with the keys of `scored`."""
        own = {"precision": self.precision, "engine": self.engine, "postprocessing": words(self.steps)}
        first = {"first_stage": self.previous.used} if self.previous else {}
        return {**vars(self.windows), **own, **first}


def decide_settings(
    inference: Mapping[str, Any],
    scored_in: str | None,
    requested: Mapping[str, Any] | None = None,
    precision: str | None = None,
    accelerator: str = "auto",
    measure: Measure = lambda windows, device, precision: windows,
    export: Export | None = None,
) -> Settings:
    """Decide the prediction settings of a model.

    Args:
        inference: Arguments of the windows that it was scored with, as plain data.
        scored_in: Lightning's name of the precision it was scored in; None if unknown.
        requested: Arguments of the windows to change, and ``engine``; values of None are as scored.
        precision: Lightning's name, or auto; None: as scored, if this machine computes it fast.
        accelerator: As for `device_of`.
        measure: Replaces what is ``auto`` in windows that are used on a device and in a precision.
        export: How the network was exported; None for one in torch.

    Raises:
        UserError: When a value is out of range or unknown, naming it.
    """
    check_accelerator(accelerator)
    check_precision(precision)
    requested = dict(requested or {})
    engine = requested.pop("engine", None) or (export.engine if export else "torch")
    check_engine(engine, export.format if export else None)
    device = device_of(accelerator)
    if engine in PACKAGES:
        if accelerator not in ("auto", "cpu"):
            raise UserError(f"accelerator={accelerator}: {engine} runs on the CPU here. Leave it out.")
        device = torch.device("cpu")
    wanted = windows_of(inference, requested)
    chosen, reason = _precision(engine, export, scored_in, precision, device)
    windows = measure(wanted, device, chosen) if engine == "torch" else with_way(wanted, ONE_BY_ONE)
    scored = {**vars(windows_of(inference, {})), "precision": scored_in, "engine": "torch"}
    used = {**vars(windows), "precision": chosen, "engine": engine}
    reasons = {key: "the fastest measured on this machine" for key, value in vars(wanted).items() if value == AUTO}
    reasons |= {"precision": reason, "engine": "as exported" if export else "as requested"}
    notes = different(scored, used, reasons)
    return Settings(windows, chosen, device, scored, tuple(notes), engine)


def device_of(accelerator: str) -> torch.device:
    """The device that a name stands for.

    Args:
        accelerator: ``cpu``; ``gpu``, on a Mac its own; ``cuda`` or ``mps``; or ``auto``, a GPU of NVIDIA or AMD if
            there is one, else the CPU. Of processes that were started together, each has a GPU of its own.
    """
    if accelerator in ("cuda", "gpu", "auto") and torch.cuda.is_available():
        rank = local_rank()
        return torch.device("cuda" if rank is None else f"cuda:{rank % torch.cuda.device_count()}")
    return torch.device("mps" if accelerator in ("gpu", "mps") else "cpu")


def on_device(settings: Settings, device: torch.device) -> Settings:
    """The settings on one of several devices of a kind, such as ``cuda:3``, a cascade's first stage included."""
    previous = None if settings.previous is None else on_device(settings.previous, device)
    return replace(settings, device=device, previous=previous)


def with_steps(settings: Settings, scored: Sequence[Step], used: Sequence[Step]) -> Settings:
    """The settings with post-processing.

    Args:
        settings: The settings of the prediction.
        scored: The post-processing of the model's scores.
        used: That of the prediction.
    """
    before = {"postprocessing": words(scored)}
    notes = different(before, {"postprocessing": words(used)}, {})
    return replace(settings, scored={**settings.scored, **before}, notes=(*settings.notes, *notes), steps=tuple(used))


def with_previous(settings: Settings, previous: Settings) -> Settings:
    """The settings of a cascade: those of its second stage with those of its first."""
    notes = [f"first stage: {note}" for note in previous.notes]
    scored = {**settings.scored, "first_stage": previous.scored}
    return replace(settings, scored=scored, notes=(*notes, *settings.notes), previous=previous)


def together(parts: Mapping[str, Settings], scored: Sequence[Step], used: Sequence[Step]) -> Settings:
    """The settings of an ensemble of several plans.

    Args:
        parts: The settings of each plan's models, by what to call them.
        scored: The post-processing of their scores.
        used: That of the prediction.
    """
    notes = [f"{name}: {note}" for name, part in parts.items() for note in part.notes]
    with_own = tuple(with_steps(replace(part, notes=()), scored, used) for part in parts.values())
    first = with_own[0]
    return replace(first, notes=(*notes, *first.notes), parts=with_own)


def _precision(
    engine: str, export: Export | None, scored_in: str | None, requested: str | None, device: torch.device
) -> tuple[str, str]:
    """The name of the precision that an engine computes in, and the reason if it differs from that of the scores."""
    if export:
        chosen, reason = PRECISIONS[export.precision], "as exported"
        if requested not in (None, "auto", chosen):
            raise UserError(f"precision={requested}: the model was exported to compute in {chosen}. Leave it out.")
        return chosen, reason
    if engine == "onnxruntime":
        if requested not in (None, "auto", "32-true"):
            raise UserError(f"precision={requested}: onnxruntime computes in fp32. Leave it out, or use openvino.")
        return "32-true", "since onnxruntime computes in fp32"
    return precision_for(scored_in, requested, "gpu" if device.type == "cuda" else device.type)


def windows_of(inference: Mapping[str, Any], requested: Mapping[str, Any]) -> SlidingWindows:
    """The windows that a model was scored with, with the requested changes.

    Raises:
        UserError: When a value is out of range or unknown, naming it.
    """
    arguments = {key: value for key, value in inference.items() if not key.startswith("_")}
    arguments |= {key: value for key, value in requested.items() if value is not None and not key.startswith("_")}
    if arguments.get("average") != LOGITS and requested.get("restore") is None:
        arguments.pop("restore", None)  # a model's own, which needs the average that was replaced
    known = SlidingWindows().__dict__
    for key in arguments:
        if key not in known:
            raise UserError(f"inference.{key}: there is no such key.{did_you_mean(key, known)}")
    try:
        return SlidingWindows(**arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"inference: {error}") from error


def different(scored: Mapping[str, Any], used: Mapping[str, Any], reasons: Mapping[str, str]) -> list[str]:
    """A sentence for each setting that differs from that of the model's scores, with its reason if it has its own."""
    notes = []
    for key, value in used.items():
        if scored[key] != value:
            before = "unknown" if scored[key] is None else scored[key]
            why = reasons.get(key, "as requested")
            notes.append(f"{key} is {value} here, {before} for the model's scores, {why}.")
    return notes
