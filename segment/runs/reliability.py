"""How reliable a run's probabilities are: its part of ``summary.json``, and ``expected_dice.csv``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segment.text import printable

KEY = "reliability"
"""Key in ``summary.json``."""
EXPECTED = "expected_dice.csv"
"""Expected and real Dice of the most probable labels of every validation scan."""
COLUMNS = ("case", "name", "dice", "expected_dice")


def reliability_lines(found: Mapping[str, Any]) -> list[str]:
    """The record as lines for a terminal.

    Args:
        found: The entry of ``summary.json``, as `segment.workflow.calibrated.Calibrated.record` makes it.
    """
    lines = [
        f"calibrated on {found['scans']} validation scans: temperature {found['temperature']:.3f}, negative "
        f"log-likelihood {number(found.get('nll_before'))} before, {number(found.get('nll'))} after, per voxel of the "
        "plan's grid"
    ]
    thresholds = ", ".join(f"{printable(name)} {value:.3f}" for name, value in found["thresholds"].items())
    lines.append(f"thresholds of the highest Dice: {thresholds}")
    if decision := found.get("decision"):
        interval = decision["ci95"]
        ends = "" if interval is None else f" (95 % interval {interval[0]:+.4f} - {interval[1]:+.4f})"
        mean = "-" if decision["mean"] is None else f"{decision['mean']:+.4f}"
        lines.append(f"decision {decision['rule']} beside the most probable labels: foreground Dice {mean}{ends}")
    expected = found["expected_dice"]["foreground"]
    lines.append(
        f"expected Dice of {expected['n']} scans beside the real one: correlation {number(expected['correlation'])}, "
        f"mean absolute error {number(expected['mean_absolute_error'])}"
    )
    return lines


def number(value: float | None) -> str:
    """Four decimals, or a dash for an undefined number."""
    return "-" if value is None else f"{value:.4f}"
