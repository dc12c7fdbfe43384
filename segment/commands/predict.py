"""``segment predict``: predict masks of new scans, with each input's own grid, format and name."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import Progress

from segment.inference.model import load_model
from segment.inference.scans import find_scans, predict_scans
from segment.training.checkpoints import best_model
from segment.workflow.experiment import NO_COMMAND, Command


def run(config: DictConfig, command: Command = NO_COMMAND) -> None:
    """Predict a file or every image in a folder, by default with the settings that the model was scored with."""
    model = load_model(Path(config.model), list(config.trust))
    weights = ""
    if config.checkpoint == "best":
        model, described = best_model(model)
        weights = f", weights of {described}"
    scans = list(find_scans(Path(config.input), len(model.channels)))
    overrides: Any = OmegaConf.to_container(config.inference)
    settings = model.settings(overrides, config.precision, config.accelerator)
    if weights:
        note = "checkpoint is best here, last for the model's scores, as requested."
        settings = replace(settings, notes=(note, *settings.notes))
    for note in settings.notes:
        print(f"Note: {note}", file=sys.stderr)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("predicting", total=len(scans))
        predict_scans(
            model, scans, Path(config.output), settings, lambda name: progress.advance(task), command.arguments
        )
    print(f"{len(scans)} mask(s) in {config.output}, labels {model.labels.declared}{weights}")
