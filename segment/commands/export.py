"""``segment export``: write a model for another engine, compared with its network."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from omegaconf import DictConfig

from segment.command_line import assign
from segment.command_line import command as command_line
from segment.config.again import pruned_again
from segment.config.options import ExportOptions, read_options
from segment.errors import UserError
from segment.export.checks import check_output, check_precision, check_prune
from segment.inference.limits import find_model, format_of
from segment.inference.nnunet_folders import is_nnunet
from segment.workflow.experiment import NO_COMMAND, Command, Experiment
from segment.workflow.values import require_folder, require_number


def run(config: DictConfig, command: Command = NO_COMMAND) -> None:
    """Export a model, compare both on scans, and print the comparison; with ``prune`` that of a pruned run."""
    options = read_options(ExportOptions, config)
    check_options(options)
    pruning = _pruning(options)
    # Here, since torch takes seconds to import.
    from segment.export.compare import comparison_table
    from segment.export.export import export_model
    from segment.export.prune import pruned_table
    from segment.export.scans import scans_to_calibrate, scans_to_compare
    from segment.inference.inputs import Studies
    from segment.inference.model import load_model
    from segment.training.checkpoints import best_model

    model = load_model(Path(options.model), options.trust)
    if options.checkpoint == "best":
        model, _ = best_model(model)
    if pruning:
        from segment.workflow.train import train

        train(pruning)
        whole, model = model, load_model(pruning.output, options.trust)
        print(pruned_table(whole, model))
    given, calibration = (None if path is None else Path(path) for path in (options.input, options.calibration))
    with tempfile.TemporaryDirectory(prefix="segment-") as folder:
        studies = Studies(
            model.channels, options.series or {}, Path(folder), lambda text: print(f"Note: {text}", file=sys.stderr)
        )
        written = export_model(
            model,
            Path(options.output),
            options.format,
            options.precision,
            scans_to_compare(model, given, options.scans, studies),
            scans_to_calibrate(model, calibration, given, options.scans, studies)
            if options.precision == "int8"
            else None,
            options.agreement,
        )
    print(comparison_table(written.comparison, written.seconds, written.megabytes))
    print(f"Export  {options.output}: {options.format}, {options.precision}")
    print(
        f"Predict {command_line('predict', assign('model', options.output), 'input=FILE_OR_FOLDER', 'output=FOLDER')}"
    )


def _pruning(options: ExportOptions) -> Experiment | None:
    """The training of the pruned network; None without ``prune``."""
    if options.prune is None:
        return None
    output = None if options.pruned_run is None else Path(options.pruned_run)
    return pruned_again(
        Path(options.model), options.prune, options.finetune_steps, output, options.cache, options.trust
    )


def check_options(options: ExportOptions) -> None:
    """Check what can be checked without reading the model and the scans.

    Raises:
        UserError: When a value or a path is wrong, or a package is missing.
    """
    folder = _own_model(options.model)
    if format_of(folder):
        raise UserError(f"model={options.model}: is an export itself. Give the run folder that it was exported from.")
    check_precision(options.format, options.precision)
    for key in ("input", "calibration"):
        path = getattr(options, key)
        if path is not None and not Path(path).exists():
            raise UserError(f"{key}={path}: there is no such file or folder.")
    require_number("scans", options.scans, 1, whole=True)
    if options.agreement is not None:
        require_number("agreement", options.agreement, 0, 1)
    if options.prune is not None:
        check_prune(options.prune)
        if options.checkpoint == "best":
            raise UserError("checkpoint=best: a run is pruned with its last weights. Leave out checkpoint= or prune=.")
    for key in ("finetune_steps", "pruned_run"):
        if options.prune is None and getattr(options, key) is not None:
            raise UserError(f"{key}={getattr(options, key)}: is for a pruned network. Give prune=0.5 too.")
    if options.finetune_steps is not None:
        require_number("finetune_steps", options.finetune_steps, 1, whole=True)
    require_folder("output", Path(options.output))
    check_output(Path(options.output), options.overwrite)


def _own_model(model: str) -> Path:
    """The model folder; nnU-Net's are to be converted first."""
    folder = find_model(Path(model))
    if is_nnunet(folder):
        convert = command_line("convert", assign("input", model), "output=FOLDER", "format=model")
        raise UserError(f"model={model}: is nnU-Net's. Convert it first: {convert}")
    return folder
