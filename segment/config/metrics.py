"""Builds the metrics of a configuration."""

from __future__ import annotations

from omegaconf import DictConfig

from segment.config.build import make
from segment.errors import UserError
from segment.metrics.check import check_metric
from segment.metrics.metric import Metric
from segment.metrics.standard import STANDARD
from segment.runs.columns import COLUMNS, OPTIONAL


def metrics_of(config: DictConfig) -> tuple[Metric, ...]:
    """Build the metrics of ``metrics:`` and try each on two small masks.

    Args:
        config: May have a mapping ``metrics`` of nodes with ``_target_``, to add to the standard metrics.

    Returns:
        The standard metrics, which every table of scans contains, then the others in the order of the configuration.

    Raises:
        UserError: When a node does not build a usable metric (the message names the key), or a standard metric is
            removed.
    """
    found = {metric.name: metric for metric in STANDARD}
    nodes = config.get("metrics") or {}
    if "_target_" in nodes:
        raise UserError("metrics: the file needs a name above _target_, as in 'hd95: {_target_: mine.HD95}'.")
    for key in nodes:
        metric = make(config, f"metrics.{key}")
        if metric is None:
            if key in found:
                raise UserError(f"metrics.{key}=null: every table of scans contains this metric. Remove others only.")
            continue
        if any(type(metric) is type(standard) for standard in STANDARD):
            continue
        try:
            check_metric(metric, {*COLUMNS, *OPTIONAL, *found})
        except ValueError as error:
            raise UserError(f"metrics.{key}: {error}.") from error
        found[metric.name] = metric
    return tuple(found.values())
