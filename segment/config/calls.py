"""What Python code asks for in the words of the command line: a configuration, or one object of it."""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from segment.config.arguments import for_hydra, quoted
from segment.config.build import check_target, check_targets, make
from segment.config.compose import register
from segment.config.launch import check_given
from segment.config.messages import explain
from segment.errors import UserError, did_you_mean

GROUPS = ("augment", "data", "inference", "loss", "network", "optimizer", "scheduler")
"""Groups whose choices are objects by themselves."""


@contextlib.contextmanager
def called(verb: str, overrides: Sequence[str]) -> Iterator[DictConfig]:
    """The configuration of a verb, and while it is worked on, what a command would know of how it was asked for.

    Args:
        verb: Name of the primary configuration.
        overrides: As on the command line, paths without quotes.

    Raises:
        UserError: When it does not compose, or what is made of it finds a mistake in it.
    """
    for word in overrides:
        if not isinstance(word, str) or not re.match(r"\+{0,2}[\w./@]+=|~", word):
            raise UserError(f"{word!r}: is no key=value. Sweeps (-m) and other options are those of the command alone.")
    given = for_hydra(overrides)
    register()
    before = HydraConfig.instance().cfg
    try:
        with hydra.initialize(version_base="1.3", config_path=None):
            whole = hydra.compose(verb, given, return_hydra_config=True)
            HydraConfig.instance().set_config(whole)
            config = whole.copy()
            with open_dict(config):
                del config["hydra"]
            yield config
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error, verb, given)) from error
    finally:
        HydraConfig.instance().cfg = before


def require_given(config: DictConfig) -> None:
    """See that a configuration of ``train`` has what it cannot do without, and sound targets.

    Raises:
        UserError: When a target cannot be made, or the data set's folder is not there.
        MissingMandatoryValue: When a key is left out.
    """
    check_given(config, reads=True)
    check_targets(config)


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
    with called("train", [f"{group}={quoted(str(name))}", *overrides]) as config:
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
