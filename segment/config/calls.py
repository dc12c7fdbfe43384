"""The command line's overrides in Python: composes a configuration, or builds one object of it."""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from hydra.errors import HydraException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from segment.command_line import for_hydra, quoted
from segment.config.arguments import without_null
from segment.config.build import check_target, check_targets, make
from segment.config.compose import compose_command
from segment.config.experiment import read_experiment
from segment.config.launch import check_required
from segment.config.messages import explain
from segment.errors import UserError, did_you_mean
from segment.workflow.experiment import Command, Experiment

GROUPS = ("augment", "data", "inference", "loss", "network", "optimizer", "scheduler")
"""Groups whose choices can be built on their own."""


@contextlib.contextmanager
def explained_errors(verb: str, overrides: Sequence[str]) -> Iterator[None]:
    """Convert errors of Hydra and OmegaConf within the block to one paragraph.

    Raises:
        UserError: In place of their errors, and when an override is not ``key=value``.
    """
    for word in overrides:
        if not isinstance(word, str) or not re.match(r"\+{0,2}[\w./@]+=|~", word):
            raise UserError(f"{word!r}: is not key=value. Sweeps (-m) and options exist on the command line only.")
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error, verb, without_null(verb, for_hydra(overrides)))) from error


def composed(verb: str, overrides: Sequence[str]) -> tuple[DictConfig, Command]:
    """The configuration of a verb, and the equivalent command.

    Args:
        verb: Name of the primary configuration.
        overrides: As on the command line, paths without quotes.
    """
    config, command = compose_command(verb, without_null(verb, for_hydra(overrides)))
    return config, replace(command, arguments=(verb, *overrides))


def experiment_of(overrides: Sequence[str]) -> Experiment:
    """The experiment that overrides of ``segment train`` describe.

    Raises:
        UserError: When they do not compose, a component cannot be built, or the data set's folder does not exist.
    """
    with explained_errors("train", overrides):
        config, command = composed("train", overrides)
        check_required(config, "train")
        return read_experiment(config, command)


def part(group: str, name: str, overrides: Sequence[str], arguments: dict[str, Any]) -> Any:
    """Build one object of a configuration of ``train``.

    Args:
        group: One of `GROUPS`.
        name: A choice of the group.
        overrides: As on the command line.
        arguments: Further constructor arguments, which override those of the configuration file.

    Returns:
        The object; if required arguments are missing, a function that takes them and returns the object. A network is
        always built, in 3D unless ``spatial_dims=2``.

    Raises:
        UserError: When there is no such choice, or the constructor rejects its arguments.
    """
    if group not in GROUPS:
        raise UserError(
            f"build: there is no group {group!r} of objects.{did_you_mean(str(group), GROUPS)} Groups: "
            f"{', '.join(GROUPS)}."
        )
    all_overrides = [f"{group}={quoted(str(name))}", *overrides]
    with explained_errors("train", all_overrides):
        config, _ = composed("train", all_overrides)
        node: Any = OmegaConf.to_container(config[group], resolve=False)
        if "_target_" not in node:
            raise UserError(f"{group}={name}: its file has no _target_, so there is nothing to build. Add one.")
        if group == "network":
            arguments = {"spatial_dims": 3, **arguments}
        check_targets(OmegaConf.masked_copy(config, [group]))
        check_target(group, node | arguments)
        if not node.get("_partial_"):
            return make(config, group, **arguments)
        constructor = make(config, group)
        if group != "network" and _lacks_arguments(node, arguments):
            return functools.partial(constructor, **arguments)
        return constructor(**arguments)


def _lacks_arguments(node: dict[str, Any], arguments: dict[str, Any]) -> bool:
    """Whether required arguments of a node's constructor are missing."""
    present = {key: value for key, value in (node | arguments).items() if not key.startswith("_")}
    try:
        inspect.signature(get_object(node["_target_"])).bind(**present)
    except TypeError:
        return True
    return False
