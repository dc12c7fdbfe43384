"""The cost of a training in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def cost_lines(summary: Mapping[str, Any]) -> list[str]:
    """The cost of training; no lines if nothing was measured.

    Args:
        summary: Content of ``summary.json``; see `segment.runs.summary.summarise`.

    Returns:
        At most two lines: time, then size, memory, operations and energy.
    """
    cost = summary.get("cost")
    known = {key: value for key, value in cost.items() if _is_amount(value)} if isinstance(cost, Mapping) else {}

    def amount(key: str, words: str, unit: float = 1) -> list[str]:
        if key not in known:
            return []
        value = known[key] / unit
        return [words.format(f"{value:.3g}" if value < 1000 else f"{value:,.0f}")]

    share = known.get("waiting_share")
    waiting = [] if share is None or share > 1 else [f" ({100 * share:.1f} % of it waiting for data)"]
    graphics = amount("peak_gpu_memory_mb", " and {} GB on the GPU", 1e3)
    source = cost.get("energy_source") if isinstance(cost, Mapping) else None
    lines = [
        [
            *amount("wall_seconds", "training {} min", 60),
            *amount("seconds_per_step", "{} s per step" + "".join(waiting)),
            *amount("samples_per_second", "{} samples per second"),
        ],
        [
            *amount("parameters", "{} M parameters", 1e6),
            *amount("flops_per_step", "{} GFLOP per step", 1e9),
            *amount("peak_memory_mb", "peak memory {} GB" + "".join(graphics), 1e3),
            *amount("energy_kwh", "{} kWh" + (f" ({source})" if source in ("measured", "estimated") else "")),
            *amount("co2_kg", "{} kg CO2"),
        ],
    ]
    return [", ".join(parts) for parts in lines if parts]


def _is_amount(value: Any) -> bool:
    """Whether a value from a file is a valid amount."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e18
