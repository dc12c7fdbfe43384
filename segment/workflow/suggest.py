"""Suggests which scans to label next: where a model is uncertain, and those unlike the labelled ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from segment.data.case import Case
from segment.errors import UserError
from segment.inference.encoding import features_of
from segment.inference.model import Model, predictor_with
from segment.inference.predictor import Predictor
from segment.inference.uncertainty import entropy
from segment.io.images import read_image
from segment.statistics.coverage import k_centre
from segment.workflow.check import checked_data
from segment.workflow.experiment import DataSource

WAYS = ("both", "uncertainty", "coverage")
SHORTLIST = 3  # times as many uncertain scans as are asked for, of which `both` covers


@dataclass(frozen=True)
class Suggestion:
    """A scan to label.

    Attributes:
        case: Its id.
        uncertainty: Mean entropy of the label over its voxels, 0 to 1.
        image: Its first image file.
    """

    case: str
    uncertainty: float
    image: str


def suggest(
    model: Model,
    data: DataSource,
    count: int,
    by: str = "both",
    accelerator: str = "auto",
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> list[Suggestion]:
    """Choose scans without a mask to label next; training and test scans alike.

    ``uncertainty``: highest mean entropy of the label. ``coverage``: greedy k-centre on the encoder's features, given
    the scans that have masks. ``both``: the same among the three times as many most uncertain scans (Yang et al. 2017,
    arXiv 1706.04737, sec. 2.3).

    Args:
        model: From `segment.inference.model.load_model`.
        data: The data set.
        count: How many scans.
        by: One of `WAYS`.
        accelerator: ``cpu``, ``gpu`` or ``auto``.
        advance: Called after each scan with the number of scans done and in total.

    Returns:
        The scans, the most useful first.

    Raises:
        UserError: When every scan has a mask, one cannot be read, or coverage is asked for without an encoder.
    """
    dataset = checked_data(data, tests="all").dataset
    assert dataset is not None
    cases = [*dataset.cases, *dataset.test_cases]
    if all(case.label for case in cases):
        raise UserError(
            f"{dataset.root}: every scan has a mask. Give a data set with scans to label (data.layout=images)."
        )
    predictor = predictor_with(model, model.settings(accelerator=accelerator))
    encoder = getattr(model.network, "encoder", None)
    if by != "uncertainty" and not (isinstance(predictor, Predictor) and isinstance(encoder, nn.Module)):
        raise UserError(f"by={by}: needs one network with an encoder, which this model is not. Use by=uncertainty.")
    unlabelled = [i for i, case in enumerate(cases) if case.label is None]
    looked_at = unlabelled if by == "uncertainty" else range(len(cases))
    uncertain, features = np.zeros(len(cases)), {}
    for done, i in enumerate(looked_at, 1):
        uncertain[i], features[i] = _look(predictor, model.network, cases[i], by, i in unlabelled)
        advance(done, len(looked_at))
    ranked = sorted(unlabelled, key=lambda i: -uncertain[i])
    if by == "uncertainty":
        chosen = ranked[:count]
    else:
        table = np.stack([features[i] for i in range(len(cases))])
        known = [i for i in range(len(cases)) if i not in unlabelled]
        chosen = k_centre(table, known, unlabelled if by == "coverage" else ranked[: SHORTLIST * count], count)
    return [Suggestion(cases[i].id, float(uncertain[i]), str(cases[i].images[0])) for i in chosen]


def _look(predictor: Any, network: nn.Module, case: Case, by: str, asked: bool) -> tuple[float, Any]:
    """Mean entropy of a scan, if it is asked for, and its features, if they are."""
    prepared, placement = predictor.prepare(read_image(case.images), str(case.images[0]))
    mean = 0.0
    if asked:
        probabilities = predictor.probabilities(prepared, placement)
        mean = float(entropy(probabilities.clamp(0, 1), bool(predictor.labels.regions)).mean())
    return mean, None if by == "uncertainty" else features_of(network, prepared, predictor.plan.patch_size)
