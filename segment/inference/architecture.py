"""A network from a plain description and a file of weights, neither of which can run code."""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from segment.errors import UserError
from segment.networks.channels import resize
from segment.networks.meta import on_meta
from segment.networks.weights import not_finite
from segment.user_modules import allow

TRUSTED_MODULES = ("segment.networks", "monai.networks.nets")
MAX_NUMBER = 1 << 16
PRUNED = "_channels_"
"""Key of a description: the channel counts of a pruned network, see `segment.networks.channels`."""
MAX_PARTS = 5_000  # modules in a network; the largest in use have about 1,500


@contextlib.contextmanager
def limited_modules() -> Iterator[None]:
    """Stop a construction that would never end."""
    count = itertools.count(1)

    def check(*_: Any) -> None:
        if next(count) > MAX_PARTS:
            raise UserError(f"a network of more than {MAX_PARTS} modules cannot be built.")

    hook = register_module_module_registration_hook(check)
    try:
        yield
    finally:
        hook.remove()


def load_network(weights: Path, path: Path, architecture: Any, trust: tuple[str, ...]) -> nn.Module:
    """Build a network from its description and load its weights, in evaluation mode.

    Args:
        weights: A safetensors file.
        path: The file with the description, for messages.
        architecture: Plain ``_target_`` description.
        trust: Additional modules whose networks may be built.

    Raises:
        UserError: When the network is not from a trusted module, or the weights do not fit it or are not finite.
    """
    try:
        # On the meta device nothing is allocated: a description that does not fit the weights costs no memory.
        with on_meta(), limited_modules():
            expected = build(architecture, trust).state_dict()
        shapes = {name: list(value.shape) for name, value in expected.items()}
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # a constructor may raise anything on wrong arguments
        raise UserError(f"{path}: its network cannot be built ({error!r}). Copy the model folder again.") from error
    try:
        with safe_open(weights, framework="pt") as file:
            stored = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        if shapes != stored:
            wrong = next(n for n in [*shapes, *stored] if shapes.get(n) != stored.get(n))
            raise ValueError(f"tensor {wrong!r} is {stored.get(wrong)} in the file, {shapes.get(wrong)} in the network")
        state = load_file(weights)
        if kind := next((n for n in state if state[n].is_floating_point() != expected[n].is_floating_point()), None):
            raise ValueError(
                f"tensor {kind!r} is {state[kind].dtype} in the file, {expected[kind].dtype} in the network"
            )
        if name := not_finite(state):
            raise ValueError(f"tensor {name!r} has values that are not finite, as after a training that diverged")
        network = build(architecture, trust)
        network.load_state_dict(state)
    except Exception as error:  # as may readers of invalid files
        raise UserError(f"{weights}: does not fit {path.name} ({error}). Copy the model folder again.") from error
    return network.eval()


def build(architecture: Any, trust: tuple[str, ...] = ()) -> nn.Module:
    """Build a network from a plain ``_target_`` description, from trusted modules only.

    Raises:
        UserError: When a target is not from a trusted module or not a network, or an argument is out of range.
    """
    node = _resolve(architecture, TRUSTED_MODULES + trust)
    if isinstance(node, functools.partial):
        node = node()
    if not isinstance(node, nn.Module):
        raise UserError("the entry 'network' does not describe a network.")
    if isinstance(architecture, Mapping) and isinstance(counts := architecture.get(PRUNED), Mapping):
        resize(node, counts)
    return node


def _resolve(node: Any, trusted: tuple[str, ...]) -> Any:
    if isinstance(node, Mapping):
        arguments = {str(key): _resolve(value, trusted) for key, value in node.items() if not str(key).startswith("_")}
        if "_target_" not in node:
            return arguments
        if arguments.get("pretrained"):
            raise UserError("the network requests pretrained weights; a model folder must use its own weights.")
        constructor = functools.partial(_trusted_class(str(node["_target_"]), trusted), **arguments)
        return constructor if node.get("_partial_") else constructor()
    if isinstance(node, list | tuple):
        if len(node) > MAX_NUMBER:
            raise UserError(f"a list of {len(node)} entries cannot describe a network.")
        return [_resolve(value, trusted) for value in node]
    if isinstance(node, int | float) and not abs(node) <= MAX_NUMBER:  # NaN compares as not smaller
        raise UserError(f"the number {node} cannot describe a network.")
    return node


def _trusted_class(target: str, trusted: tuple[str, ...]) -> type[nn.Module]:
    module, _, name = target.rpartition(".")
    if not any(module == known or module.startswith(f"{known}.") for known in trusted):
        raise UserError(
            f"network {target!r} is not from {' or '.join(trusted)}, and a model file may not choose which code runs. "
            f"If you trust the module, add: trust=[{module or target}]."
        )
    allow(module)
    try:
        constructor = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"network {target!r} cannot be imported ({error}).") from error
    if not (isinstance(constructor, type) and issubclass(constructor, nn.Module)):
        raise UserError(f"{target!r} is not a network.")
    return constructor
