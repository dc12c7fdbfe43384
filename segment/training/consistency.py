"""Settings of mean teacher, without importing torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from segment.errors import UserError


@dataclass(frozen=True)
class MeanTeacher:
    """How a network also learns from scans without masks (Tarvainen and Valpola 2017, arXiv 1703.01780).

    Attributes:
        weight: Of the consistency in the loss, at the end of its ramp; 0: learn from masks alone.
        momentum: Of the teacher, whose weights are a moving average of the network's, 0 to 1.
        ramp: Share of the training in which the weight rises, as exp(-5 (1 - x)^2) (sec. 3.2), 0 to 1.
        noise: Standard deviation of the noise that the two see different draws of, in units of the prepared image.
    """

    weight: float = 0.0
    momentum: float = 0.99
    ramp: float = 0.4
    noise: float = 0.1

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: When one is out of range; the message has the key.
        """
        for key, most in {"weight": 1e6, "momentum": 1, "ramp": 1, "noise": 100}.items():
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
                raise UserError(f"mean_teacher.{key}={value}: give a number from 0 to {most:g}.")

    def weight_at(self, step: int, steps: int) -> float:
        """The weight of the consistency.

        Args:
            step: Optimiser steps that were taken.
            steps: Those of the whole training.
        """
        length = self.ramp * steps
        return self.weight * (math.exp(-5 * (1 - step / length) ** 2) if step < length else 1.0)

    def momentum_at(self, step: int) -> float:
        """The momentum after a number of optimiser steps: the mean of all weights until it reaches its value."""
        return min(1 - 1 / (step + 1), self.momentum)
