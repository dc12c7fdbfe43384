"""``segment convert``: DICOM series to files, images to other formats, masks to DICOM, and anonymous copies."""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress

from segment.command_line import assign
from segment.command_line import command as command_line
from segment.config.options import MODEL, ConvertOptions, read_options
from segment.errors import UserError
from segment.inference.inputs import notes_on
from segment.inference.nnunet_folders import is_nnunet
from segment.io.dicom.codes import read_codes
from segment.workflow.anonymize import Copying
from segment.workflow.convert import Conversion, convert
from segment.workflow.experiment import NO_COMMAND, Command
from segment.workflow.values import require_folder


def run(config: DictConfig, command: Command = NO_COMMAND) -> None:
    """Convert every scan or mask, and say what was left out."""
    options = read_options(ConvertOptions, config)
    for key in ("labels", "codes"):
        value = getattr(options, key)
        if value is not None and not isinstance(value, dict):
            raise UserError(f"{key}={value}: give names and values, such as '{key}={{liver: ...}}'.")
    for key in ("input", "reference"):
        path = getattr(options, key)
        if path is not None and not Path(path).exists():
            raise UserError(f"{key}={path}: there is no such file or folder.")
    require_folder("output", Path(options.output))
    if options.format == MODEL:
        _convert_model(options)
        return
    if is_nnunet(Path(options.input)):
        raise UserError(f"input={options.input}: is a model of nnU-Net's. Give format={MODEL}.")
    work = Conversion(
        Path(options.input),
        Path(options.output),
        options.format,
        None if options.reference is None else Path(options.reference),
        options.labels,
        read_codes(options.codes or {}, "codes"),
        "ellipse" if options.boxes == "ellipse" else "box",
        options.suv,
        options.overwrite,
        options.deface,
        None if options.face_pictures is None else Path(options.face_pictures),
        _copying(options),
    )
    for note in () if work.copying else notes_on(work.source):
        print(f"Note: {note}", file=sys.stderr)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("converting", total=None)
        written = convert(work, lambda done, total: progress.update(task, completed=done, total=total))
    print(f"{len(written)} file(s) in {options.output}")


def _convert_model(options: ConvertOptions) -> None:
    """Write the model folders of a results folder of nnU-Net's."""
    unused = ("reference", "labels", "codes", "suv", "anonymize")
    if given := next((key for key in unused if getattr(options, key)), None):
        raise UserError(f"{given}: is for images and masks, not for format={MODEL}. Remove it.")
    from segment.inference.nnunet.convert import convert_models  # torch takes seconds to import

    written = convert_models(Path(options.input), Path(options.output), options.overwrite)
    print(f"{len(written)} model(s) in {options.output}")
    print(
        f"Predict {command_line('predict', assign('model', options.output), 'input=FILE_OR_FOLDER', 'output=FOLDER')}"
    )


def _copying(options: ConvertOptions) -> Copying | None:
    """How to write anonymous copies; None if that is not asked for."""
    table = None if options.names_table is None else Path(options.names_table)
    if not options.anonymize:
        if options.names != "kept" or table is not None:
            raise UserError("names: is for anonymous copies. Give anonymize=true too, or remove it.")
        return None
    if table is not None and options.names == "kept":
        raise UserError(f"names_table={table}: names are kept. Give names=numbered too, or remove it.")
    return Copying(options.names == "numbered", table)
