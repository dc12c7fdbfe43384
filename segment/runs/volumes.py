"""How well the predicted volumes of a run agree with those of the references."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from segment.runs.columns import COUNTS, VOLUMES
from segment.statistics.agreement import intraclass_correlations, limits_of_agreement


def volume_differences(scans: pd.DataFrame) -> pd.DataFrame:
    """The difference between predicted and reference volume of every structure that is in one of the masks.

    Args:
        scans: Table of scans.

    Returns:
        Columns name, reference and predicted (volumes in ml; in voxels for flat images and tables of before 2026-12),
        mean (of the two) and percent (the difference in percent of that mean, from -200, missed, to 200, invented), in
        the order of the class indices.
    """
    ordered = scans.sort_values("label", kind="stable")
    reference, predicted = (ordered[column].astype(float) for column in _columns(scans))
    mean = (predicted + reference) / 2
    percent = 100 * (predicted - reference) / mean.where(mean > 0)
    table = pd.DataFrame(
        {"name": ordered["name"], "reference": reference, "predicted": predicted, "mean": mean, "percent": percent}
    )
    return table.dropna().reset_index(drop=True)


def volume_unit(scans: pd.DataFrame) -> str:
    """Unit of the volumes of a table: ``ml``, or ``voxels`` where it does not have them in ml."""
    return "ml" if _columns(scans) == VOLUMES else "voxels"


def volume_agreement(scans: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Agreement of the volumes of every structure, for ``summary.json``.

    Args:
        scans: Table of scans of one split.

    Returns:
        Name to ``{n, unit, percent, difference, icc_agreement, icc_consistency}``. ``percent`` (of the mean of both
        volumes) and ``difference`` (in the unit) are ``{bias, low, high, bias_ci95, low_ci95, high_ci95}`` by Bland and
        Altman; the intraclass correlations ICC(2,1) and ICC(3,1) are ``{value, ci95}``. None with fewer than three
        scans that have the structure in one of the masks.
    """
    differences, unit = volume_differences(scans), volume_unit(scans)
    found = {}
    groups = dict(iter(differences.groupby("name", sort=False)))
    for name in scans[["label", "name"]].drop_duplicates().sort_values("label", kind="stable")["name"]:
        own = groups.get(name, differences[:0])
        correlations = intraclass_correlations(own[["reference", "predicted"]].to_numpy()) or (None, None)
        found[str(name)] = {
            "n": len(own),
            "unit": unit,
            "percent": _limits(own["percent"].to_numpy()),
            "difference": _limits((own["predicted"] - own["reference"]).to_numpy()),
            **{
                key: None if one is None else {"value": one.value, "ci95": list(one.interval)}
                for key, one in zip(("icc_agreement", "icc_consistency"), correlations, strict=True)
            },
        }
    return found


def _columns(scans: pd.DataFrame) -> tuple[str, ...]:
    """The columns of the volumes of reference and prediction."""
    measured = all(column in scans for column in VOLUMES) and scans[list(VOLUMES)].notna().all(axis=None)
    return VOLUMES if measured else COUNTS


def _limits(differences: np.ndarray) -> dict[str, Any] | None:
    limits = limits_of_agreement(differences)
    if limits is None:
        return None
    return {
        key.replace("_interval", "_ci95"): list(v) if isinstance(v, tuple) else v for key, v in vars(limits).items()
    }
