"""Which parameters of a network are trained, and how: rules by parameter name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from segment.errors import UserError

if TYPE_CHECKING:  # importing torch takes seconds
    from torch import nn

FACTOR = "factor"
"""Key of a parameter group: what its learning rate is multiplied by."""


@dataclass(frozen=True)
class ParameterRules:
    """Rules for parameters by name.

    A pattern is a name such as ``encoder.stem.weight``, may contain the wildcards ``*``, ``?`` and ``[...]``, and
    also applies to everything within what it names: ``encoder`` to all parameters of the encoder.

    Attributes:
        freeze: Patterns of parameters that are not trained.
        lr_factors: Pattern to factor of the learning rate; of several that match, the last one counts.
        no_decay: Patterns of parameters without weight decay.
        take: Patterns of what is taken from ``weights=``; empty: all that fits.
        head_first: Number of optimiser steps at the start that train only what ``weights=`` did not give, such as a
            new head (the heads, if it gave everything), so that its random gradients do not change what was learned
            (Kumar et al. 2022, arXiv 2202.10054).
        layer_decay: Factor of the learning rate from each layer of the encoder to the one before; the decoder has the
            optimiser's rate (Clark et al. 2020, arXiv 2003.10555, sec. 3.1; Bao et al. 2022, arXiv 2106.08254).
    """

    freeze: Sequence[str] = ()
    lr_factors: Mapping[str, float] = field(default_factory=dict)
    no_decay: Sequence[str] = ()
    take: Sequence[str] = ()
    head_first: int = 0
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        """Check the patterns and factors.

        Raises:
            UserError: When a list does not hold text, or a factor is not a positive number; the message has the key.
        """
        for key in ("freeze", "no_decay", "take"):
            patterns = getattr(self, key)
            if isinstance(patterns, str) or not all(isinstance(pattern, str) for pattern in patterns):
                raise UserError(f"parameters.{key}={patterns}: give a list of names, such as [encoder].")
        if not isinstance(self.lr_factors, Mapping):
            raise UserError(
                f"parameters.lr_factors={self.lr_factors}: give a factor for each name, such as {{encoder: 0.1}}."
            )
        for pattern, factor in self.lr_factors.items():
            if not _is_number(factor) or not 0 < factor < math.inf:
                raise UserError(
                    f"parameters.lr_factors={{{pattern}: {factor}}}: give a positive factor of optimizer.lr. "
                    f"parameters.freeze=[{pattern}] does not train it at all."
                )

        if isinstance(self.head_first, bool) or not isinstance(self.head_first, int) or self.head_first < 0:
            raise UserError(f"parameters.head_first={self.head_first}: give a number of steps.")
        if not _is_number(self.layer_decay) or not 0 < self.layer_decay <= 1:
            raise UserError(f"parameters.layer_decay={self.layer_decay}: give a factor above 0, up to 1.")

    def check_start(self, weights: bool, steps: int) -> None:
        """Check the rules that need initial weights.

        Args:
            weights: Whether the training starts from weights.
            steps: Its number of optimiser steps.

        Raises:
            UserError: When it does not, or is over before all parameters are trained.
        """
        key = "take" if self.take else "head_first" if self.head_first else None
        if key and not weights:
            raise UserError(f"parameters.{key}: is about what weights= gives. Give weights=RUN too, or leave it out.")
        if self.head_first >= steps > 0:
            raise UserError(
                f"parameters.head_first={self.head_first}: the training has {steps} steps in all. Give fewer, or do "
                "not train the encoder at all: parameters.freeze=[encoder]."
            )

    def freeze_in(self, network: nn.Module) -> None:
        """Exclude the frozen parameters from training.

        Raises:
            UserError: When a pattern matches no parameter, or none would be left to train.
        """
        frozen = matching(network, self.freeze, "freeze")
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and name not in frozen)
        if not any(parameter.requires_grad for parameter in network.parameters()):
            raise UserError(f"parameters.freeze={list(self.freeze)}: no parameter is left to train. Freeze fewer.")

    def groups(self, network: nn.Module) -> Iterable[Any]:
        """The trained parameters, for an optimiser.

        Returns:
            The parameters, or groups of them with their `FACTOR`, and ``weight_decay`` 0 where it is excluded.

        Raises:
            UserError: When a pattern matches no parameter.
        """
        trained = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
        if not self.lr_factors and not self.no_decay and self.layer_decay == 1:
            return list(trained.values())
        own: dict[str, float] = {}
        for pattern, factor in self.lr_factors.items():
            own |= dict.fromkeys(matching(network, [pattern], "lr_factors"), factor)
        by_layer = _layer_factors(network, self.layer_decay)
        factors = {name: own.get(name, 1.0) * by_layer.get(name, 1.0) for name in trained}
        undecayed = matching(network, self.no_decay, "no_decay")
        groups: dict[tuple[float, bool], dict[str, Any]] = {}
        for name, parameter in trained.items():
            factor, decayed = factors.get(name, 1.0), name not in undecayed
            group = groups.setdefault((factor, decayed), {"params": [], FACTOR: factor})
            group["params"].append(parameter)
            if not decayed:
                group["weight_decay"] = 0.0
        return list(groups.values())


def matching(network: nn.Module, patterns: Iterable[str], key: str) -> set[str]:
    """Names of the parameters that any of several patterns matches.

    Args:
        network: The network.
        patterns: See `ParameterRules`.
        key: The rule, for the error.

    Raises:
        UserError: When a pattern matches no parameter.
    """
    names = [name for name, _ in network.named_parameters()]
    found: set[str] = set()
    for pattern in patterns:
        own = {name for name in names if matches(name, [pattern])}
        if not own:
            parts = list(dict.fromkeys(name.partition(".")[0] for name in names))
            raise UserError(
                f"parameters.{key}: {pattern!r} matches no parameter of the network. Its parts are "
                f"{', '.join(parts)}; a name in full is {names[0]}."
            )
        found |= own
    return found


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether any of several patterns matches a name; see `ParameterRules`."""
    return any(fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*") for pattern in patterns)


def _layer_factors(network: nn.Module, decay: float) -> dict[str, float]:
    """The factor of every parameter of the encoder; its layers are its children and those of its lists of layers.

    Children of equal number, such as a stage and the downsampling before it, are one layer. Named ones come first,
    except those that the encoder's attribute ``final_layers`` lists.
    """
    if decay == 1:
        return {}
    encoder: Any = getattr(network, "encoder", None)
    if encoder is None:
        raise UserError("parameters.layer_decay: the network has no encoder. Use parameters.lr_factors instead.")
    kinds = ("ModuleList", "Sequential")  # not their subclasses, which are layers
    lists = {name for name, child in encoder.named_children() if type(child).__name__ in kinds}
    final = getattr(encoder, "final_layers", ())
    layers = {}
    for name, _ in encoder.named_parameters():
        part, *rest = name.split(".")
        layers[f"encoder.{name}"] = rest[0] if part in lists else part
    order = [*dict.fromkeys(layers.values())]
    order.sort(key=lambda layer: int(layer) if layer.isdigit() else len(order) if layer in final else -1)
    return {name: decay ** (len(order) - order.index(layer)) for name, layer in layers.items()}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
