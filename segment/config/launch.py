"""Composes a verb's configuration, says what is wrong with it in one paragraph, and makes objects of it."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from hydra import version
from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from segment.command_line import for_hydra
from segment.config import sweep
from segment.config.build import make
from segment.config.compose import composed_command, register
from segment.config.folders import ON_DISK
from segment.config.messages import explain
from segment.config.options import OPTIONS, read_options
from segment.errors import UserError
from segment.workflow.experiment import Command

# Exceptions come through as they are, unlogged, also in the processes of a parallel sweep, which import this file.
logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)
os.environ.setdefault("HYDRA_FULL_ERROR", "1")
# MLflow reports its use to its makers from the moment of its import, and MONAI imports it wherever it is installed.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


def launch(
    verb: str,
    arguments: Sequence[str],
    work: Callable[[DictConfig, Command], float | None],
    folders: Sequence[tuple[str, Path]],
) -> None:
    """Compose the verb's configuration from command-line overrides and run its work, or that of every job of a sweep.

    Ends the process with code 2 after a mistake of the user's, and after a sweep with that of `sweep.conclude`.

    Args:
        verb: Name of the verb and of its primary configuration.
        arguments: What follows the verb on the command line, as typed.
        work: Called with the composed configuration and the command; a sweeper that searches maximises what it gives.
        folders: (scheme, folder) of the configuration roots in search order.
    """
    register(folders)
    sweep.SweepFolder.begun = None
    given = for_hydra(arguments)

    def tell(error: Exception) -> str:
        return explain(error, verb, given)

    def ready(config: DictConfig, command: Command) -> float | None:
        if config.get("formats"):
            from segment.io.formats import import_formats  # here, since it brings nibabel

            import_formats(config.formats)
        return work(config, command)

    def guarded(config: DictConfig) -> float | None:
        hydra = HydraConfig.get()
        if hydra.mode is RunMode.MULTIRUN:
            return sweep.run_job(ready, config, composed_command(verb, hydra), sweep.place_of(hydra), tell)
        with _mistakes_told(tell):
            check_given(config, verb)
            return ready(config, replace(composed_command(verb, hydra), arguments=(verb, *arguments), nested=False))

    # Hydra looks for configuration beside a module it can name; ours lies in the registered folders only.
    guarded.__module__ = "__main__"
    code = 0
    try:
        with _mistakes_told(tell):
            parser = get_args_parser()
            version.setbase("1.3")
            # What `hydra.main` does, but for reading sys.argv, where the verb comes first.
            _run_hydra(parser.parse_args(given), parser, guarded, config_path=None, config_name=verb)
    except Exception:
        # A sweeper that finds no score to choose from gives up by itself, after each job has told why.
        if not (jobs := sweep.jobs_so_far()) or any(job.error is None for job in jobs):
            raise
    finally:
        code = sweep.conclude(verb, sweep.jobs_so_far())
    if code:
        sys.exit(code)


@contextlib.contextmanager
def _mistakes_told(tell: Callable[[Exception], str]) -> Iterator[None]:
    """End the process with one paragraph where the block ends with a mistake of the user's, or is stopped."""
    try:
        yield
    except UserError as error:
        fail(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        fail(tell(error))
    except KeyboardInterrupt:
        print("segment: stopped. The same command goes on from here.", file=sys.stderr)
        sys.exit(130)


def fail(message: str) -> NoReturn:
    """Print one paragraph and end with exit code 2."""
    print(f"segment: {message}", file=sys.stderr)
    sys.exit(2)


def check_given(config: DictConfig, verb: str) -> None:
    """See that a verb has what it cannot do without, before its own imports, which take seconds.

    Args:
        config: The verb's configuration.
        verb: The verb. Where it reads the data set, its folder must be there.

    Raises:
        MissingMandatoryValue: When a key is left out.
        UserError: When the data set's folder is not there.
    """
    for key in config:
        if OmegaConf.is_missing(config, key):
            raise MissingMandatoryValue(f"Missing mandatory value: {key!s}")
    read_options(OPTIONS[verb], config)
    on_disk = verb in ("train", "plan") and config.data.get("_target_") == ON_DISK
    if on_disk and not Path(str(config.data.root)).expanduser().exists():
        make(config, "data")  # says how to get it
