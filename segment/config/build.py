"""Builds objects from configuration nodes, after checking the nodes against the signatures of their targets."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from hydra.errors import HydraException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from segment.config.signatures import Signature, is_imported, names_in, read_signature, signature_of
from segment.errors import UserError, did_you_mean
from segment.text import one_line
from segment.user_modules import allow


def check_targets(config: DictConfig) -> None:
    """Check every ``_target_`` node of a configuration against its constructor's signature, before anything is read.

    Raises:
        UserError: When a target cannot be imported or has no such parameter, with the closest valid name.
    """
    plain = OmegaConf.to_container(config, resolve=False)
    for key in config:
        if "/" in str(key):
            raise UserError(f"{key!s}={config[key]}: there is no such group. 'segment list' shows what is available.")
    for key, node in [("", plain), *walk(plain)]:
        if isinstance(node, dict) and "_target_" in node:
            check_target(key, node)


def check_target(key: str, node: dict[str, Any]) -> None:
    """Check one ``_target_`` node against its constructor's signature; see :func:`check_targets`."""
    target = node["_target_"]
    signature = _signature(key, target)
    for argument, value in node.items():
        if argument.startswith("_"):
            continue
        if argument not in signature.names and not signature.open:
            raise UserError(
                f"{key}.{argument}: {target} has no such parameter.{did_you_mean(argument, signature.names)} "
                f"Its parameters: {', '.join(signature.names)}."
            )
        kinds = signature.numbers.get(argument)
        if kinds and isinstance(value, str) and "${" not in value:
            raise UserError(f"{key}.{argument}={value}: {target} expects {describe_kinds(kinds)} here, not text.")
        if kinds and isinstance(value, float) and not kinds & {float, bool}:
            raise UserError(f"{key}.{argument}={value}: {target} expects {describe_kinds(kinds)} here.")


def _signature(key: str, target: str) -> Signature:
    """The signature of a target: from its source if that tells it, since importing it may take seconds."""
    allow(str(target))
    try:
        found = None if is_imported(target) else read_signature(target)
        return found or signature_of(get_object(target))
    except Exception as error:  # a module may raise anything
        module, _, name = target.rpartition(".")
        near = did_you_mean(name, names_in(module)) if isinstance(error, AttributeError) else ""
        raise UserError(
            f"{key}._target_={target}: cannot be imported ({one_line(error)}).{near} Is the module in this folder or "
            "on PYTHONPATH?"
        ) from error


def describe_type(hint: Any) -> str:
    """A type in plain words: ``an integer or null``."""
    return describe_kinds(get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,))


def describe_kinds(kinds: Collection[Any]) -> str:
    """Types in plain words; see `describe_type`."""
    words = {bool: "true or false", int: "an integer", float: "a number", str: "text", NoneType: "null"}
    kinds = sorted(kinds, key=lambda kind: [*words].index(kind) if kind in words else len(words))
    names = [words.get(kind, "a list") for kind in kinds if not (kind is int and float in kinds)]
    return " or ".join(dict.fromkeys(names))


def make(config: DictConfig, key: str, **more: Any) -> Any:
    """Instantiate the node at a dotted key; containers are passed as plain lists and dictionaries.

    Raises:
        UserError: When the constructor rejects its arguments; the message names the key.
    """
    node = OmegaConf.select(config, key)
    if node is None:
        return None
    for _, part in [("", node), *walk(node)]:
        if isinstance(part, dict | DictConfig) and "_target_" in part:
            allow(str(part["_target_"]))
    try:
        made = instantiate(node, **more, _convert_="all")
    except HydraException as error:
        cause = error.__cause__ or error
        if isinstance(cause, UserError):
            raise cause from error
        raise UserError(f"{key}: {one_line(cause)}") from error
    return _with_key(made, key) if isinstance(made, functools.partial) else made


def _with_key(constructor: functools.partial, key: str) -> Callable[..., Any]:
    """Wrap a constructor so that a rejected argument is reported as a user error at ``key``."""

    def construct(*args: Any, **kwargs: Any) -> Any:
        try:
            return constructor(*args, **kwargs)
        except (TypeError, ValueError, AssertionError) as error:
            raise UserError(f"{key}: {one_line(error)}") from error

    return construct


def walk(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, node) of every node in a configuration, parents first."""
    if isinstance(node, DictConfig | dict):
        items = [(str(key), node._get_node(key) if isinstance(node, DictConfig) else node[key]) for key in node]
    elif isinstance(node, ListConfig | list):
        items = [(str(i), node._get_node(i) if isinstance(node, ListConfig) else item) for i, item in enumerate(node)]
    else:
        return
    for key, child in items:
        name = f"{prefix}.{key}" if prefix else key
        yield name, child
        yield from walk(child, name)
