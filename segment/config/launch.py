"""Composes a verb's configuration, reports mistakes in it in one paragraph, and runs the verb."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import signal
import sys
import threading
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

from segment.command_line import for_hydra, typed
from segment.config import sweep
from segment.config.arguments import parse, without_null
from segment.config.build import make
from segment.config.compose import composed_command, register
from segment.config.folders import ON_DISK
from segment.config.messages import explain, near_keys
from segment.config.nested import outer_trainings
from segment.config.options import OPTIONS, read_options
from segment.errors import Stopped, UserError
from segment.failures import explain_failure
from segment.slurm import requeue, stop_signals
from segment.text import printable
from segment.workflow.experiment import Command

# Let exceptions propagate unlogged, also in the processes of a parallel sweep, which import this file.
logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)
os.environ.setdefault("HYDRA_FULL_ERROR", "1")
# MLflow sends telemetry as soon as it is imported, and MONAI imports it wherever it is installed.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

LONGEST = 3000  # letters of a paragraph
CRASHED = 1  # exit code of a sweep of which a job crashed


@contextlib.contextmanager
def _exit_on_user_error(explain_error: Callable[[Exception], str]) -> Iterator[None]:
    """Print one paragraph and exit when the block raises a user error or is interrupted."""
    try:
        yield
    except UserError as error:
        fail(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        fail(explain_error(error))
    except (KeyboardInterrupt, Stopped) as error:
        stop = error if isinstance(error, Stopped) else Stopped(signal.SIGINT)
        again = requeue() if stop.number == signal.SIGUSR1 else ""
        print(f"segment: {stop} {again}".rstrip(), file=sys.stderr)
        sys.exit(stop.code)
    except Exception as error:
        if (message := explain_failure(error)) is None:
            raise
        fail(message)


@_exit_on_user_error(str)  # also of a signal that arrives before or after the work
def launch(
    verb: str,
    arguments: Sequence[str],
    work: Callable[[DictConfig, Command], float | None],
    folders: Sequence[tuple[str, Path]],
    usage: str,
) -> None:
    """Compose the verb's configuration from command-line overrides and run the verb, or every job of a sweep.

    Exits with code 2 after a user error, and after a sweep with the code that `sweep.conclude` returns. A sweep with
    ``nested=true`` is followed by the training of its best configuration for the validation scans of the fold.

    Args:
        verb: Name of the verb and of its primary configuration.
        arguments: The command line after the verb, as typed.
        work: Called with the composed configuration and the command; an optimising sweeper maximises its return value.
        folders: (scheme, folder) of the configuration roots in search order.
        usage: The verb's usual keys, for messages.
    """
    _catch_termination()
    register(folders)
    sweep.SweepFolder.begun = None
    with _exit_on_user_error(str):
        overrides = without_null(verb, for_hydra(arguments))

    def explain_error(error: Exception) -> str:
        return explain(error, verb, overrides)

    def run_work(config: DictConfig, command: Command) -> float | None:
        if config.get("formats"):
            from segment.io.formats import import_formats  # here, since it imports nibabel

            import_formats(config.formats)
        return work(config, command)

    def run_composed(config: DictConfig) -> float | None:
        hydra = HydraConfig.get()
        if hydra.mode is RunMode.MULTIRUN:
            position = sweep.position_of(hydra)
            return sweep.run_job(run_work, config, composed_command(verb, hydra), position, explain_error)
        with _exit_on_user_error(explain_error):
            check_required(config, verb)
            return run_work(config, replace(composed_command(verb, hydra), arguments=(verb, *arguments), nested=False))

    # Hydra also searches beside the function's module; our configuration is in the registered folders only.
    run_composed.__module__ = "__main__"
    code = 0
    try:
        with _exit_on_user_error(explain_error):
            version.setbase("1.3")
            parsed = parse(verb, overrides, usage, lambda word: near_keys(word, verb, overrides))
            # As `hydra.main`, except that it would read sys.argv, where the verb comes first.
            _run_hydra(parsed, get_args_parser(), run_composed, config_path=None, config_name=verb)
    except Exception:
        # An optimising sweeper without any score raises, after each job has reported its own failure.
        if not (jobs := sweep.jobs_so_far()) or any(job.error is None for job in jobs):
            raise
    finally:
        code = sweep.conclude(verb, sweep.jobs_so_far())
    for overrides in outer_trainings(sweep.jobs_so_far()) if code != CRASHED else ():
        print(f"\nThe best of them, trained on all training scans of its fold: {shlex.join(map(typed, overrides))}")
        launch(verb, overrides, work, folders, usage)
    if code:
        sys.exit(code)


def _catch_termination() -> None:
    """Raise `Stopped` on SIGTERM, and when Slurm takes the machine back; Python allows it in the main thread only."""

    def stop(number: int, frame: object) -> NoReturn:
        raise Stopped(number)

    if threading.current_thread() is threading.main_thread():
        for number in stop_signals():
            if number != signal.SIGINT:  # Python's own handler raises KeyboardInterrupt
                signal.signal(number, stop)


def fail(message: str) -> NoReturn:
    """Print one paragraph, without the middle of a very long one and control characters, and exit with code 2."""
    if len(message) > LONGEST:
        message = f"{message[: LONGEST * 3 // 4].rstrip()} [...] {message[-LONGEST // 4 :].lstrip()}"
    print("segment: " + "\n".join(map(printable, message.split("\n"))), file=sys.stderr)
    sys.exit(2)


def check_required(config: DictConfig, verb: str) -> None:
    """Check that a verb's required values are present, before its imports, which take seconds.

    Args:
        config: The verb's configuration.
        verb: The verb. If it reads the data set, the data set's folder must exist.

    Raises:
        MissingMandatoryValue: When a required key has no value.
        UserError: When the data set's folder does not exist.
    """
    for key in config:
        if OmegaConf.is_missing(config, key):
            raise MissingMandatoryValue(f"Missing mandatory value: {key!s}")
    if verb in OPTIONS:
        read_options(OPTIONS[verb], config)
    on_disk = verb in ("train", "pretrain", "plan", "prepare") and config.data.get("_target_") == ON_DISK
    if on_disk and not Path(str(config.data.root)).expanduser().exists():
        make(config, "data")  # the error says how to get it
