"""``segment predict``: predict masks of new scans, with each input's own grid, format and name."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress

from segment.config.checks import check_inference
from segment.config.options import PredictOptions, read_options
from segment.errors import UserError
from segment.inference.inputs import Scan, check_masks, find_scans
from segment.inference.limits import channels_of, check_accelerator, check_precision, find_model
from segment.workflow.experiment import NO_COMMAND, Command
from segment.workflow.values import require_folder


def run(config: DictConfig, command: Command = NO_COMMAND) -> None:
    """Predict a file or every image in a folder, by default with the settings that the model was scored with."""
    options = read_options(PredictOptions, config)
    scans = checked_scans(options)
    # Here, since torch takes seconds to import.
    from segment.inference.model import load_model
    from segment.inference.scans import predict_scans
    from segment.training.checkpoints import best_model
    from segment.training.memory import keep_freed_memory

    model, weights = load_model(Path(options.model), options.trust), ""
    if options.checkpoint == "best":
        model, described = best_model(model)
        weights = f", weights of {described}"
    scans = scans or list(find_scans(Path(options.input), len(model.channels)))
    settings = model.settings(options.inference, options.precision, options.accelerator)
    if weights:
        note = "checkpoint is best here, last for the model's scores, as requested."
        settings = replace(settings, notes=(note, *settings.notes))
    for note in settings.notes:
        print(f"Note: {note}", file=sys.stderr)
    if settings.device.type == "cpu":
        keep_freed_memory()
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("predicting", total=len(scans))
        predict_scans(
            model, scans, Path(options.output), settings, lambda name: progress.advance(task), command.arguments
        )
    print(f"{len(scans)} mask(s) in {options.output}, labels {model.labels.declared}{weights}")


def checked_scans(options: PredictOptions) -> list[Scan]:
    """Find the scans, and check what can be checked without reading the model and the scans.

    Returns:
        The scans; empty if the model's description is damaged, which `load_model` reports.

    Raises:
        UserError: When a value or a path is wrong.
    """
    if options.model.startswith("[") and not Path(options.model).exists():
        raise UserError(
            f"model={options.model}: one model predicts at a time. Give one, and use a command with its own output= "
            "for each of the others."
        )
    folder = find_model(Path(options.model))
    check_inference(options.inference)
    check_accelerator(options.accelerator)
    check_precision(options.precision)
    require_folder("output", Path(options.output))
    channels = channels_of(folder)
    scans = [] if channels is None else list(find_scans(Path(options.input), channels))
    check_masks(Path(options.output), scans, options.overwrite)
    return scans
