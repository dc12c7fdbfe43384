"""``segment predict``: masks for new scans, on each input's own grid, format and name."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track

from segment import provenance
from segment.data.layouts.common import image_files, split_channel
from segment.errors import UserError, did_you_mean
from segment.files import file_sha256, read_mapping, write_json
from segment.inference.model import PRECISIONS, Model, find_model, load_model
from segment.inference.predictor import predictor_of
from segment.inference.windows import SlidingWindows
from segment.instruction_set import precision
from segment.io.formats import is_image_file, listed, stem, suffix
from segment.io.images import write_label
from segment.workflow.experiment import NO_COMMAND, Command


def run(config: DictConfig, command: Command = NO_COMMAND) -> None:
    """Predict a file or every image file of a folder, as the model was scored unless told otherwise."""
    started = time.time()
    folder = find_model(Path(config.model))
    model = load_model(folder, list(config.trust))
    scans = list(find_scans(Path(config.input), len(model.channels)))
    windows = windows_of(model, OmegaConf.to_container(config.inference))  # type: ignore[arg-type]
    gpu = config.accelerator in ("gpu", "cuda") or (config.accelerator == "auto" and torch.cuda.is_available())
    device = torch.device("cuda" if gpu else "cpu")
    scored = {**vars(windows_of(model, {})), "precision": model.precision or written_precision(folder)}
    chosen, why = precision_for(scored["precision"], config.precision, "gpu" if gpu else "cpu")
    predictor = predictor_of(model, windows, device, chosen)
    output = Path(config.output)
    taken = {file.resolve() for _, files in scans for file in files}
    for name, _ in scans:
        if (output / name).resolve() in taken:
            raise UserError(f"output={output}: the mask {name} would take the place of an input. Give another folder.")
    output.mkdir(parents=True, exist_ok=True)
    used = {**vars(windows), "precision": chosen}
    notes = different(scored, used, why)
    for note in notes:
        print(f"Note: {note}", file=sys.stderr)
    for name, files in track(scans, "predicting", console=Console(stderr=True)):
        write_label(output / name, model.labels.decode(predictor.predict_files(files).mask), like=files[0])
    record = {
        "model": {"folder": str(folder.absolute()), "sha256": file_sha256(folder / "weights.safetensors")},
        "dataset": model.dataset,
        "labels": model.labels.declared,
        "scored": scored,
        "predicted": used,
        "device": device.type,
        "notes": notes,
        "scans": {name: [str(file.absolute()) for file in files] for name, files in scans},
        "provenance": provenance.collect(0, started, command.arguments),
    }
    write_json(output / "predictions.json", record)
    print(f"{len(scans)} mask(s) in {output}, labels {model.labels.declared}")


def written_precision(model: Path) -> str | None:
    """The precision of the run that a model folder lies in, for models whose model.json does not say it."""
    config = model.parent / "config.yaml"
    trainer = read_mapping(config).get("trainer") if config.is_file() else None
    found = trainer.get("precision") if isinstance(trainer, dict) else None
    return found if found in PRECISIONS else None


def precision_for(scored: str | None, wanted: str | None, accelerator: str) -> tuple[str, str]:
    """The precision to predict in: what is wanted, else that of the scores where this machine has it.

    Args:
        scored: What the model was scored in; None where nothing says it.
        wanted: Lightning's name, or auto; None: as the model was scored.
        accelerator: Lightning's name of the device.

    Returns:
        Lightning's name, and why it is another than that of the scores.

    Raises:
        UserError: When there is no such precision.
    """
    if wanted is not None:
        if wanted not in ("auto", *PRECISIONS):
            raise UserError(
                f"precision={wanted}: there is no such precision.{did_you_mean(str(wanted), PRECISIONS)} There are: "
                f"{', '.join(PRECISIONS)}, auto (the fastest here) and null (as the model was scored)."
            )
        return precision(wanted, accelerator), "as asked"
    fastest = precision("auto", accelerator)
    slow = {"bf16-mixed": fastest != "bf16-mixed", "16-mixed": accelerator == "cpu"}
    if scored is None:
        return "32-true", "since the model does not say what it was scored in"
    if slow.get(scored):
        return "32-true", f"since this machine computes {scored} slowly or not at all; precision={scored} insists"
    return scored, ""


def different(scored: Mapping[str, Any], used: Mapping[str, Any], why: str) -> list[str]:
    """A sentence for each setting in which the masks are made otherwise than the model's scores were."""
    found = []
    for key, value in used.items():
        if scored[key] != value:
            before = "unknown" if scored[key] is None else scored[key]
            found.append(
                f"{key} is {value} here, {before} for the model's scores, {why if key == 'precision' else 'as asked'}."
            )
    return found


def find_scans(source: Path, channels: int) -> Iterator[tuple[str, list[Path]]]:
    """The scans of a file or folder.

    Args:
        source: An image file or a folder of them. Files NAME_0000, NAME_0001, ... are the channels of one scan.
        channels: Channels the model wants; decides whether a lone four-digit ending is a channel number.

    Yields:
        (name of the mask file, the scan's image files in channel order).

    Raises:
        UserError: When there is no such file or no image in the folder, or a scan lacks a channel.
    """
    if not source.exists():
        raise UserError(f"input={source}: there is no such file or folder.")
    if source.is_file() and not is_image_file(source):
        raise UserError(f"input={source}: is no image file. Formats read: {listed()}.")
    files = [source] if source.is_file() else image_files(source)
    if not files:
        raise UserError(f"input={source}: holds no image file. Formats read: {listed()}.")
    for (name, end), members in groupby(sorted(files, key=_scan_key), key=_scan_key):
        group = list(members)
        numbers = [split_channel(stem(file))[1] for file in group]
        if numbers == [None] or (numbers[0] is not None and numbers == list(range(channels))):
            yield f"{name}{end}", group
        elif len(group) == 1 and channels == 1:
            # A lone scan whose name happens to end in four digits.
            yield group[0].name, group
        else:
            raise UserError(
                f"{group[0]}: the scan {name!r} has the channels {numbers}, but the model wants 0 to {channels - 1}. "
                "Add the missing files or name the model's channels only."
            )


def _scan_key(file: Path) -> tuple[str, str]:
    return split_channel(stem(file))[0], suffix(file)


def windows_of(model: Model, wanted: Mapping[str, object]) -> SlidingWindows:
    """The windows a model was scored with, but for what is wanted otherwise.

    Raises:
        UserError: When a value is out of range or unknown, naming it.
    """
    arguments = {key: value for key, value in model.inference.items() if not key.startswith("_")}
    arguments |= {key: value for key, value in wanted.items() if value is not None}
    known = SlidingWindows().__dict__
    for key in arguments:
        if key not in known:
            raise UserError(f"inference.{key}: there is no such key.{did_you_mean(key, known)}")
    try:
        return SlidingWindows(**arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"inference: {error}") from error
