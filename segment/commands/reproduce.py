"""``segment reproduce``: run a published study and compare the results with the published figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from segment.config.choices import studies
from segment.config.options import ReproduceOptions, read_options
from segment.errors import UserError
from segment.studies.study import find
from segment.text import output, print_json, print_table
from segment.workflow.experiment import NO_COMMAND, Command


def run(config: DictConfig, command: Command = NO_COMMAND) -> None:
    """Reproduce a study, list all studies, or write the page of a folder of studies."""
    options = read_options(ReproduceOptions, config)
    if options.page is not None:
        from segment.studies.results import write_page

        folder = studies_folder("page", options.page)
        write_page(folder)
        print(f"Page     {folder / 'README.md'}")
    elif options.study is None:
        listed = studies()
        if options.format == "json":
            print_json(listed)
        else:
            print_table(output(), "studies", listed)
    else:
        study = find(options.study, options.run, Path(options.output), command)
        entered = "experiments" if options.write is True else options.write
        target = studies_folder("write", entered) if entered else None
        # Here, since torch takes seconds to import.
        from segment.studies.reproduce import Request, reproduce

        reproduce(study, Request(options.fold, options.budget, options.steps, options.format, target))


def studies_folder(key: str, value: Any) -> Path:
    """A folder of studies that the user named."""
    folder = Path(str(value))
    if not folder.is_dir():
        raise UserError(f"{key}={value}: {folder} is not a folder. Give a folder of studies, or run: mkdir {folder}")
    return folder
