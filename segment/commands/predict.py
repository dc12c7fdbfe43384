"""``segment predict``: predict masks of new scans, with each input's own grid, format and name."""

from __future__ import annotations

import functools
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress

from segment import __version__
from segment.config.checks import check_inference
from segment.config.options import PredictOptions, read_options
from segment.errors import UserError
from segment.inference.engines.names import check_engine
from segment.inference.inputs import (
    CONFORMAL,
    PROBABILITIES,
    UNCERTAINTY,
    Scan,
    Studies,
    check_maps,
    check_masks,
    find_scans,
    notes_on,
    renamed,
)
from segment.inference.limits import (
    channels_of,
    check_accelerator,
    check_precision,
    find_model,
    format_of,
    model_folders,
)
from segment.io.dicom.codes import read_codes
from segment.io.dicom.web import SCHEME, fetch, is_address, parse_address, store
from segment.io.mask_formats import OF_SERIES
from segment.parallel import launch_time, local_rank
from segment.workflow.experiment import NO_COMMAND, Command
from segment.workflow.values import require_folder, require_number

if TYPE_CHECKING:  # importing torch takes seconds
    from segment.inference.model import Model
    from segment.inference.scans import Roi


def run(config: DictConfig, command: Command = NO_COMMAND) -> None:
    """Predict a file or every image in a folder, by default with the settings that the model was scored with."""
    options = read_options(PredictOptions, config)
    # For what is fetched from a server, and for series that are resampled to be channels.
    with tempfile.TemporaryDirectory(prefix="segment-") as folder:
        _predict(options, Path(folder), command)


def _predict(options: PredictOptions, folder: Path, command: Command) -> None:
    scans = checked_scans(options, folder)
    # Here, since torch takes seconds to import.
    from segment.inference.ensemble import ensemble
    from segment.inference.model import load_model
    from segment.inference.postprocessing import postprocessing_of
    from segment.inference.scans import predict_scans
    from segment.io.masks import Naming, write_mask
    from segment.training.checkpoints import best_model
    from segment.training.memory import keep_freed_memory

    models = [load_model(folder, options.trust) for folder in model_folders(options.model)]
    weights = ""
    notes: tuple[str, ...] = ()
    if options.checkpoint == "best":
        models, described = map(list, zip(*map(best_model, models), strict=True))
        weights = f", weights of {'; '.join(dict.fromkeys(described))}"
        notes = ("checkpoint is best here, last for the model's scores, as requested.",)
    model, differences = ensemble(models, postprocessing_of(Path(options.model), models[0].labels))
    source = _source(options, folder)
    scans = scans or _found(options, source, model.channels, folder)
    roi = _roi(options, model)
    labels = model.labels.foreground
    codes = read_codes({**model.codes, **(options.codes or {})}, "codes", [*labels])
    naming = Naming(labels, codes, model.dataset, __version__)
    settings = model.settings(
        options.inference, options.precision, options.accelerator, options.postprocessing == "scored"
    )
    settings = replace(settings, notes=(*notes, *differences, *settings.notes))
    for note in (*settings.notes, *notes_on(source)):
        print(f"Note: {note}", file=sys.stderr)
    if settings.device.type == "cpu":
        keep_freed_memory()
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("predicting", total=len(scans))
        predicted = predict_scans(
            model,
            scans,
            Path(options.output),
            settings,
            lambda name: progress.advance(task),
            command.arguments,
            functools.partial(write_mask, kind=_format(options), naming=naming),
            _maps(options),
            options.conformal,
            roi,
            since=launch_time() if options.overwrite else 0.0,
        )
    failed = predicted.failed
    if predicted.completed:  # once, where several processes share the scans
        _store(options, [name for name, _ in scans if name not in failed])
    if failed:
        raise _failure(failed, len(scans), options.output)
    shared = f", {predicted.own} of them by this process" if predicted.own < len(scans) else ""
    averaged = f", mean of {len(models)} models" if len(models) > 1 else ""
    print(f"{len(scans)} mask(s) in {options.output}{shared}, labels {model.labels.declared}{averaged}{weights}")


def _source(options: PredictOptions, folder: Path) -> Path:
    """The file or folder of the scans; what a server's address names is fetched."""
    if not is_address(options.input):
        return Path(options.input)
    study = folder / "study"
    study.mkdir()
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("fetching", total=None)
        fetch(parse_address(options.input), study, lambda files: progress.update(task, completed=files))
    return study


def _store(options: PredictOptions, masks: Sequence[str]) -> None:
    """Send the masks to the server that the scans came from, if that is asked for."""
    if options.store and masks:
        url = parse_address(options.input).url
        store(url, [Path(options.output) / name for name in masks])
        print(f"{len(masks)} mask(s) stored at {url}")


def _format(options: PredictOptions) -> str:
    """The format of the masks; what is stored on a server is DICOM."""
    return "dicom_seg" if options.store and options.output_format == "own" else options.output_format


def _roi(options: PredictOptions, model: Model) -> Roi | None:
    """The coarse model that finds the part of each scan that is predicted."""
    if options.roi is None:
        return None
    from segment.inference.ensemble import ensemble
    from segment.inference.model import load_model
    from segment.inference.scans import Roi

    coarse, _ = ensemble([load_model(folder, options.trust) for folder in model_folders(options.roi)])
    if coarse.channels != model.channels:
        raise UserError(
            f"roi={options.roi}: its channels are {', '.join(coarse.channels)}, those of the model "
            f"{', '.join(model.channels)}. Give a model of the same images."
        )
    return Roi(coarse, coarse.settings(None, options.precision, options.accelerator), options.roi_margin)


def _failure(failed: Mapping[str, str], scans: int, output: str) -> UserError:
    """The error that lists the scans that could not be predicted."""
    reasons = list(failed.values())
    if scans == 1:
        return UserError(reasons[0])
    there = f"The other masks ({scans - len(failed)}) are in {output}" if len(failed) < scans else "No mask is written"
    return UserError(f"{len(failed)} of {scans} scans could not be predicted. {' '.join(reasons)} {there}.")


def _found(options: PredictOptions, source: Path, channels: Sequence[str], folder: Path) -> list[Scan]:
    """The scans, with the names of masks in the format that is asked for, none of which would replace a file."""
    studies = Studies(channels, options.series or {}, folder, lambda text: print(f"Note: {text}", file=sys.stderr))
    scans = renamed(find_scans(source, len(channels), studies), _format(options))
    # Another process of those started together may have written all by now; the journal knows whose masks they are.
    check_masks(Path(options.output), scans, options.overwrite or local_rank() is not None)
    if _maps(options):
        check_maps(scans)
    return scans


def checked_scans(options: PredictOptions, folder: Path) -> list[Scan]:
    """Find the scans, and check what can be checked without reading the model and the scans.

    Args:
        options: The options.
        folder: For series that are resampled to be channels.

    Returns:
        The scans; empty if they are on a server, or the model's description is damaged, which `load_model` reports.

    Raises:
        UserError: When a value or a path is wrong.
    """
    remote = is_address(options.input)
    if remote:
        parse_address(options.input)
    if options.store and not remote:
        raise UserError(f"store=true: is for input={SCHEME}URL?StudyInstanceUID=UID. Remove it, or give that input.")
    if options.store and _format(options) not in OF_SERIES:
        raise UserError(
            f"output_format={options.output_format}: a DICOM server stores {', '.join(OF_SERIES)}. Give one of these."
        )
    folders = [find_model(folder) for folder in model_folders(options.model)]
    if not folders:
        raise UserError(f"model={options.model}: names no model. Give a run folder, or several as model=[A,B].")
    for folder in model_folders(options.roi) if options.roi else ():
        find_model(folder, "roi")
    require_number("roi_margin", options.roi_margin, 0, 10_000)
    inference = dict(options.inference)
    if engine := inference.pop("engine", None):
        for folder in folders:
            check_engine(engine, format_of(folder))
    check_inference(inference)
    check_accelerator(options.accelerator)
    check_precision(options.precision)
    require_folder("output", Path(options.output))
    if options.conformal is not None:
        require_number("conformal", options.conformal, 0.001, 0.999)
        if len(folders) > 1:
            raise UserError("conformal: each model is calibrated, not their mean. Give one model.")
    channels = channels_of(folders[0])
    read_codes(options.codes or {}, "codes")
    return [] if channels is None or remote else _found(options, Path(options.input), channels, folder)


def _maps(options: PredictOptions) -> list[str]:
    """What to write beside the masks."""
    asked = {PROBABILITIES: options.probabilities, UNCERTAINTY: options.uncertainty, CONFORMAL: options.conformal}
    return [name for name, wanted in asked.items() if wanted]
