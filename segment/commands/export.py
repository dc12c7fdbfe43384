"""``segment export``: write a model for another engine, compared with its network."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from segment.command_line import assign
from segment.command_line import command as command_line
from segment.config.options import ExportOptions, read_options
from segment.errors import UserError
from segment.export.checks import check_output, check_precision
from segment.inference.limits import find_model, format_of
from segment.workflow.experiment import NO_COMMAND, Command
from segment.workflow.values import require_folder, require_number


def run(config: DictConfig, command: Command = NO_COMMAND) -> None:
    """Export a model, compare both on scans, and print the comparison."""
    options = read_options(ExportOptions, config)
    check_options(options)
    # Here, since torch takes seconds to import.
    from segment.export.compare import comparison_table
    from segment.export.export import export_model
    from segment.export.scans import scans_to_calibrate, scans_to_compare
    from segment.inference.model import load_model
    from segment.training.checkpoints import best_model

    model = load_model(Path(options.model), options.trust)
    if options.checkpoint == "best":
        model, _ = best_model(model)
    given, calibration = (None if path is None else Path(path) for path in (options.input, options.calibration))
    written = export_model(
        model,
        Path(options.output),
        options.format,
        options.precision,
        scans_to_compare(model, given, options.scans),
        scans_to_calibrate(model, calibration, given, options.scans) if options.precision == "int8" else None,
        options.agreement,
    )
    print(comparison_table(written.comparison, written.seconds, written.megabytes))
    print(f"Export  {options.output}: {options.format}, {options.precision}")
    print(
        f"Predict {command_line('predict', assign('model', options.output), 'input=FILE_OR_FOLDER', 'output=FOLDER')}"
    )


def check_options(options: ExportOptions) -> None:
    """Check what can be checked without reading the model and the scans.

    Raises:
        UserError: When a value or a path is wrong, or a package is missing.
    """
    folder = find_model(Path(options.model))
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
    require_folder("output", Path(options.output))
    check_output(Path(options.output), options.overwrite)
