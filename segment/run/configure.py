"""Composes a verb's configuration, says what is wrong with it in one paragraph, and makes objects of it."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from segment.errors import UserError, did_you_mean
from segment.run import sweep
from segment.run.arguments import typed
from segment.run.experiments import ExperimentsSource
from segment.run.explain import explain, walk


def _planned(key: str, default: Any, *, _root_: DictConfig) -> Any:
    """``${planned:KEY,DEFAULT}``: what the plan says of a network or a loss; the default where it says nothing."""
    value = (_root_.get("planned") or {}).get(key)
    return default if value is None or value in ("", []) else value


OmegaConf.register_new_resolver("planned", _planned, replace=True)
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
        arguments: What follows the verb on the command line, as `segment.run.arguments.for_hydra` gives it.
        work: Called with the composed configuration; a sweeper that searches maximises what it gives.
        folders: (scheme, folder) of the configuration roots in search order.
    """
    register(folders)
    given = sys.argv[:]
    sweep.SweepFolder.begun = None

    def tell(error: Exception) -> str:
        return explain(error, verb, arguments)

    def guarded(config: DictConfig) -> float | None:
        # Children that a strategy starts re-run sys.argv, so the verb goes back in; those of a job run this job alone.
        if sweep.sweeping():
            sys.argv = [given[0], verb, *map(typed, HydraConfig.get().overrides.task)]
            return sweep.run_job(work, config, tell)
        sys.argv = given
        with _mistakes_told(tell):
            check_given(config, reads=verb in ("train", "plan"))
            return work(config)

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


def register(folders: Sequence[tuple[str, Path]]) -> None:
    """Make Hydra search these (scheme, folder) roots, first one first."""

    class SegmentSearchPath(SearchPathPlugin):
        def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
            for scheme, folder in folders:
                search_path.append(provider="segment", path=f"{scheme}://{folder}")

    plugins = Plugins.instance()
    known = plugins.plugin_type_to_subclass_list[SearchPathPlugin]
    known[:] = [plugin for plugin in known if plugin.__name__ != "SegmentSearchPath"]
    plugins.register(SegmentSearchPath)
    plugins.register(ExperimentsSource)
    sweep.register_optuna()


def compose(verb: str, overrides: Sequence[str], folders: Sequence[tuple[str, Path]]) -> DictConfig:
    """Compose a configuration in Python, as the command line would.

    Args:
        verb: Name of the primary configuration.
        overrides: Hydra overrides.
        folders: As for :func:`launch`.
    """
    register(folders)
    with hydra.initialize(version_base="1.3", config_path=None):
        return hydra.compose(verb, list(overrides), return_hydra_config=False)


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


def check_targets(config: DictConfig) -> None:
    """Bind every ``_target_`` of a configuration to its constructor's signature, before anything is read.

    Raises:
        UserError: When a target cannot be imported or has no such parameter, with the nearest right name.
    """
    plain = OmegaConf.to_container(config, resolve=False)
    for key in config:
        if "/" in str(key):
            raise UserError(f"{key!s}={config[key]}: there is no such group. 'segment list' names what there is.")
    for key, node in [("", plain), *walk(plain)]:
        if isinstance(node, dict) and "_target_" in node:
            check_target(key, node)


def check_target(key: str, node: dict[str, Any]) -> None:
    """Bind one ``_target_`` node to its constructor's signature; see :func:`check_targets`."""
    target = node["_target_"]
    try:
        found = get_object(target)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{key}._target_={target}: cannot be imported ({reason}). Is the module here or on PYTHONPATH?"
        ) from error
    parameters = inspect.signature(found).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    for argument in node:
        if not argument.startswith("_") and argument not in names:
            raise UserError(
                f"{key}.{argument}: {target} has no such parameter.{did_you_mean(argument, names)} "
                f"It has: {', '.join(names)}."
            )


def make(config: DictConfig, key: str, **more: Any) -> Any:
    """Instantiate the node at a dotted key with plain arguments.

    Raises:
        UserError: When the constructor refuses its arguments, naming the key.
    """
    node = OmegaConf.select(config, key)
    if node is None:
        return None
    try:
        made = instantiate(node, **more, _convert_="all")
    except HydraException as error:
        cause = error.__cause__ or error
        if isinstance(cause, UserError):
            raise cause from error
        raise UserError(f"{key}: {' '.join(str(cause).split())}") from error
    return _naming(made, key) if isinstance(made, functools.partial) else made


def _naming(constructor: functools.partial, key: str) -> Callable[..., Any]:
    """The constructor, with its refusal of an argument told as the user's mistake at ``key``."""

    def construct(*args: Any, **kwargs: Any) -> Any:
        try:
            return constructor(*args, **kwargs)
        except (TypeError, ValueError, AssertionError) as error:
            raise UserError(f"{key}: {' '.join(str(error).split())}") from error

    return construct
