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
    """

    freeze: Sequence[str] = ()
    lr_factors: Mapping[str, float] = field(default_factory=dict)
    no_decay: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Check the patterns and factors.

        Raises:
            UserError: When a list does not hold text, or a factor is not a positive number; the message has the key.
        """
        for key in ("freeze", "no_decay"):
            patterns = getattr(self, key)
            if isinstance(patterns, str) or not all(isinstance(pattern, str) for pattern in patterns):
                raise UserError(f"parameters.{key}={patterns}: give a list of names, such as [encoder].")
        if not isinstance(self.lr_factors, Mapping):
            raise UserError(
                f"parameters.lr_factors={self.lr_factors}: give a factor for each name, such as {{encoder: 0.1}}."
            )
        for pattern, factor in self.lr_factors.items():
            is_number = isinstance(factor, int | float) and not isinstance(factor, bool)
            if not is_number or not 0 < factor < math.inf:
                raise UserError(
                    f"parameters.lr_factors={{{pattern}: {factor}}}: give a positive factor of optimizer.lr. "
                    f"parameters.freeze=[{pattern}] does not train it at all."
                )

    def freeze_in(self, network: nn.Module) -> None:
        """Exclude the frozen parameters from training.

        Raises:
            UserError: When a pattern matches no parameter, or none would be left to train.
        """
        frozen = _matching(network, self.freeze, "freeze")
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
        if not self.lr_factors and not self.no_decay:
            return list(trained.values())
        factors: dict[str, float] = {}
        for pattern, factor in self.lr_factors.items():
            factors |= dict.fromkeys(_matching(network, [pattern], "lr_factors"), factor)
        undecayed = _matching(network, self.no_decay, "no_decay")
        groups: dict[tuple[float, bool], dict[str, Any]] = {}
        for name, parameter in trained.items():
            factor, decayed = factors.get(name, 1.0), name not in undecayed
            group = groups.setdefault((factor, decayed), {"params": [], FACTOR: factor})
            group["params"].append(parameter)
            if not decayed:
                group["weight_decay"] = 0.0
        return list(groups.values())


def _matching(network: nn.Module, patterns: Iterable[str], key: str) -> set[str]:
    """Names of the parameters that any of several patterns matches."""
    names = [name for name, _ in network.named_parameters()]
    found: set[str] = set()
    for pattern in patterns:
        own = {name for name in names if fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")}
        if not own:
            parts = list(dict.fromkeys(name.partition(".")[0] for name in names))
            raise UserError(
                f"parameters.{key}: {pattern!r} matches no parameter of the network. Its parts are "
                f"{', '.join(parts)}; a name in full is {names[0]}."
            )
        found |= own
    return found
