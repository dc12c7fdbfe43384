"""What Python code asks for in the words of the command line: a configuration, or one object of it."""

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
from segment.config.build import check_target, check_targets, make
from segment.config.compose import compose_command
from segment.config.experiment import read_experiment
from segment.config.launch import check_given
from segment.config.messages import explain
from segment.errors import UserError, did_you_mean
from segment.workflow.experiment import Command, Experiment

GROUPS = ("augment", "data", "inference", "loss", "network", "optimizer", "scheduler")
"""Groups whose choices are objects by themselves."""


@contextlib.contextmanager
def told(verb: str, overrides: Sequence[str]) -> Iterator[None]:
    """Say in one paragraph what Hydra or OmegaConf find wrong within the block.

    Raises:
        UserError: In place of their errors, and where an override is no ``key=value``.
    """
    for word in overrides:
        if not isinstance(word, str) or not re.match(r"\+{0,2}[\w./@]+=|~", word):
            raise UserError(f"{word!r}: is no key=value. Sweeps (-m) and other options are those of the command alone.")
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error, verb, for_hydra(overrides))) from error


def called(verb: str, overrides: Sequence[str]) -> tuple[DictConfig, Command]:
    """The configuration of a verb, and the command that it stands for.

    Args:
        verb: Name of the primary configuration.
        overrides: As on the command line, paths without quotes.
    """
    config, command = compose_command(verb, for_hydra(overrides))
    return config, replace(command, arguments=(verb, *overrides))


def experiment_of(overrides: Sequence[str]) -> Experiment:
    """The experiment that overrides of ``segment train`` describe.

    Raises:
        UserError: When they do not compose, a part cannot be made, or the data set's folder is not there.
    """
    with told("train", overrides):
        config, command = called("train", overrides)
        check_given(config, "train")
        return read_experiment(config, command)


def part(group: str, name: str, overrides: Sequence[str], arguments: dict[str, Any]) -> Any:
    """One object of a configuration of ``train``.

    Args:
        group: One of `GROUPS`.
        name: A choice of the group.
        overrides: As on the command line.
        arguments: Further arguments of its constructor, in place of those of its file.

    Returns:
        The object; where required arguments are still missing, a function that takes them and gives the object. A
        network is always built, in 3D unless ``spatial_dims=2``.

    Raises:
        UserError: When there is no such choice, or the constructor refuses its arguments.
    """
    if group not in GROUPS:
        raise UserError(
            f"build: there is no group {group!r} of objects.{did_you_mean(str(group), GROUPS)} There are: "
            f"{', '.join(GROUPS)}."
        )
    wanted = [f"{group}={quoted(str(name))}", *overrides]
    with told("train", wanted):
        config, _ = called("train", wanted)
        node: Any = OmegaConf.to_container(config[group], resolve=False)
        if "_target_" not in node:
            raise UserError(f"{group}={name}: its file has no _target_, so there is nothing to build. Name one in it.")
        if group == "network":
            arguments = {"spatial_dims": 3, **arguments}
        check_targets(OmegaConf.masked_copy(config, [group]))
        check_target(group, node | arguments)
        if not node.get("_partial_"):
            return make(config, group, **arguments)
        constructor = make(config, group)
        if group != "network" and _waits(node, arguments):
            return functools.partial(constructor, **arguments)
        return constructor(**arguments)


def _waits(node: dict[str, Any], arguments: dict[str, Any]) -> bool:
    """Whether the constructor of a node still lacks an argument."""
    given = {key: value for key, value in (node | arguments).items() if not key.startswith("_")}
    try:
        inspect.signature(get_object(node["_target_"])).bind(**given)
    except TypeError:
        return True
    return False
