"""``segment serve``: answer requests for masks over HTTP."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from segment.config.checks import check_inference
from segment.config.options import ServeOptions, read_options
from segment.errors import UserError
from segment.io.dicom.codes import read_codes
from segment.serving.served import ENCODER, QUALITY, How, check_served, named_models
from segment.serving.server import Place, serve
from segment.workflow.experiment import NO_COMMAND, Command
from segment.workflow.values import require_number


def run(config: DictConfig, command: Command = NO_COMMAND) -> None:
    """Serve one or several models until the command is stopped."""
    options = read_options(ServeOptions, config)
    models = named_models(options.model)
    check_inference(options.inference)
    read_codes(options.codes or {}, "codes")
    how = How(
        options.checkpoint,
        {**options.inference, "engine": options.engine},
        options.precision,
        options.accelerator,
        options.postprocessing == "scored",
        tuple(options.trust),
        options.codes or {},
    )
    for folder in models.values():
        check_served(folder, how)
    serve(models, how, _place(options))


def _place(options: ServeOptions) -> Place:
    """Where and for whom to answer.

    Raises:
        UserError: When a value is out of range.
    """
    require_number("port", options.port, 0, 65535, whole=True)
    require_number("workers", options.workers, 1, 64, whole=True)
    require_number("queue", options.queue, 1, 100_000, whole=True)
    for key in ("timeout", "stop_timeout", "keep", "max_upload"):
        require_number(key, getattr(options, key), 0.001, 1e6)
    if options.folder is not None and not Path(options.folder).is_dir():
        raise UserError(f"folder={options.folder}: there is no such folder. Create it, or leave it out.")
    for one in options.log_more:
        if one not in (ENCODER, QUALITY):
            raise UserError(f"log_more={one}: there is no such thing. Give {ENCODER} or {QUALITY}, or both.")
    if options.log_more and options.log is None:
        raise UserError("log_more: says what is logged, but there is no log. Give log=FILE too.")
    folder, log, auth = (None if path is None else Path(path) for path in (options.folder, options.log, options.auth))
    return Place(
        options.host,
        options.port,
        auth,
        options.workers,
        options.queue,
        options.timeout,
        options.stop_timeout,
        options.keep,
        options.max_upload,
        folder,
        log,
        options.log_more,
    )
