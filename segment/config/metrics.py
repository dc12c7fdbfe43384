"""The metrics that a configuration names."""

from __future__ import annotations

from omegaconf import DictConfig

from segment.config.build import make
from segment.errors import UserError
from segment.metrics.check import check_metric
from segment.metrics.metric import Metric
from segment.metrics.standard import STANDARD
from segment.runs.scans import COLUMNS


def metrics_of(config: DictConfig) -> tuple[Metric, ...]:
    """Make the metrics of ``metrics:`` and try each on two small masks.

    Args:
        config: With a mapping ``metrics`` of nodes with ``_target_``; without one, the standard metrics are meant.

    Returns:
        The standard metrics, which every table of scans has, then the others in the order of the configuration.

    Raises:
        UserError: A node makes no metric, or one that cannot be scored with, naming the key; or a standard metric is
            left out.
    """
    found = {metric.name: metric for metric in STANDARD}
    given = config.get("metrics") or {}
    if "_target_" in given:
        raise UserError("metrics: its file needs a name above _target_, as 'hd95: {_target_: mine.HD95}'.")
    for key in given:
        metric = make(config, f"metrics.{key}")
        if metric is None:
            if key in found:
                raise UserError(f"metrics.{key}=null: every table of scans has it. Leave out others only.")
            continue
        if any(type(metric) is type(standard) for standard in STANDARD):
            continue
        try:
            check_metric(metric, {*COLUMNS, *found})
        except ValueError as error:
            raise UserError(f"metrics.{key}: {error}.") from error
        found[metric.name] = metric
    return tuple(found.values())
