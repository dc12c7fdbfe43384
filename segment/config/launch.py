"""Composes a verb's configuration, says what is wrong with it in one paragraph, and makes objects of it."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from segment.config import sweep
from segment.config.arguments import typed
from segment.config.build import make
from segment.config.compose import register
from segment.config.messages import explain
from segment.errors import UserError

# Exceptions come through as they are, unlogged, also in the processes of a parallel sweep, which import this file.
logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)
os.environ.setdefault("HYDRA_FULL_ERROR", "1")
# MLflow reports its use to its makers from the moment of its import, and MONAI imports it wherever it is installed.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


def launch(
    verb: str,
    arguments: Sequence[str],
    work: Callable[[DictConfig], float | None],
    folders: Sequence[tuple[str, Path]],
) -> None:
    """Compose the verb's configuration from command-line overrides and run its work, or that of every job of a sweep.

    Ends the process with code 2 after a mistake of the user's, and after a sweep with that of `sweep.conclude`.

    Args:
        verb: Name of the verb and of its primary configuration.
        arguments: What follows the verb on the command line, as `segment.config.arguments.for_hydra` gives it.
        work: Called with the composed configuration; a sweeper that searches maximises what it gives.
        folders: (scheme, folder) of the configuration roots in search order.
    """
    register(folders)
    given = sys.argv[:]
    sweep.SweepFolder.begun = None

    def tell(error: Exception) -> str:
        return explain(error, verb, arguments)

    def ready(config: DictConfig) -> float | None:
        if config.get("formats"):
            from segment.io.formats import import_formats  # here, since it brings nibabel

            import_formats(config.formats)
        return work(config)

    def guarded(config: DictConfig) -> float | None:
        # Children that a strategy starts re-run sys.argv, so the verb goes back in; those of a job run this job alone.
        if sweep.sweeping():
            sys.argv = [given[0], verb, *map(typed, HydraConfig.get().overrides.task)]
            return sweep.run_job(ready, config, tell)
        sys.argv = given
        with _mistakes_told(tell):
            check_given(config, reads=verb in ("train", "plan"))
            return ready(config)

    # Hydra looks for configuration beside a module it can name; ours lies in the registered folders only.
    guarded.__module__ = "__main__"
    sys.argv = [given[0], *arguments]
    code = 0
    try:
        with _mistakes_told(tell):
            hydra.main(version_base="1.3", config_path=None, config_name=verb)(guarded)()
    except Exception:
        # A sweeper that finds no score to choose from gives up by itself, after each job has told why.
        if not (jobs := sweep.jobs_so_far()) or any(job.error is None for job in jobs):
            raise
    finally:
        sys.argv = given
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


def check_given(config: DictConfig, reads: bool) -> None:
    """See that a verb has what it cannot do without, before its own imports, which take seconds.

    Args:
        config: The verb's configuration.
        reads: Whether it reads the data set, whose folder must then be there.

    Raises:
        MissingMandatoryValue: When a key is left out.
        UserError: When the data set's folder is not there.
    """
    for key in config:
        if OmegaConf.is_missing(config, key):
            raise MissingMandatoryValue(f"Missing mandatory value: {key!s}")
    on_disk = reads and config.data.get("_target_") == "segment.data.open_dataset"
    if on_disk and not Path(str(config.data.root)).expanduser().exists():
        make(config, "data")  # says how to get it
