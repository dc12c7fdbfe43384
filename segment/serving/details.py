"""What the log tells of a scan beyond its voxels and its mask, because it was asked to: each costs time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from segment.data.labels import Labels
from segment.errors import UserError
from segment.inference.decision import parts
from segment.inference.encoding import features_of
from segment.inference.held import held
from segment.inference.quality import expected_scan_dice
from segment.inference.uncertainty import entropy
from segment.serving.served import ENCODER, Served


def require_encoder(served: Served, name: str) -> nn.Module:
    """The network whose encoder's features are taken; of an ensemble, the first.

    Raises:
        UserError: When there is none.
    """
    model = served.model
    network = model.members[0].network if model.members else model.network
    if model.groups or model.export or not isinstance(getattr(network, "encoder", None), nn.Module):
        raise UserError(
            f"log_more={ENCODER}: {name} has no encoder whose features could be told: it is an export, an ensemble of "
            "several plans, or a network without one. Leave it out."
        )
    return network


def encoder_features(network: nn.Module, served: Served, prepared: Any) -> list[float]:
    """The features of the encoder, to four digits; see `segment.inference.encoding.features_of`.

    Args:
        network: From `require_encoder`.
        served: Its model.
        prepared: What the predictor has read.
    """
    found = features_of(network, prepared[0], served.model.plan.patch_size)
    return [float(f"{value:.4g}") for value in found]


def room_for_probabilities(served: Served, shape: Sequence[int], folder: Path) -> np.ndarray:
    """Room on disk for the probabilities of a scan of this shape, without a name."""
    # Means of several plans are summed up.
    kind = np.float32 if served.model.groups else np.float16
    return held((served.model.labels.outputs, *shape), kind, folder)


def quality_features(probabilities: np.ndarray, classes: np.ndarray, labels: Labels) -> dict[str, float]:
    """What the network itself expects of a mask.

    Args:
        probabilities: (output, *spatial) in [0, 1].
        classes: (*spatial) class indices of the mask.
        labels: Meaning of both.

    Returns:
        ``expected_dice_L`` of every structure L, see `segment.inference.quality.expected_scan_dice`; ``expected_dice``,
        their mean; and ``uncertainty``, the mean entropy of the label over the mask's foreground, 0 to 1, if there is
        any.
    """
    expected = expected_scan_dice(probabilities, classes, labels)
    found = {f"expected_dice_{label}": value for label, value in expected.items()}
    found["expected_dice"] = float(np.mean(list(expected.values())))
    total, count = 0.0, 0
    for part in parts(probabilities):
        inside = classes[part] != 0
        if inside.any():
            chosen = np.ascontiguousarray(probabilities[:, part][:, inside], np.float32).clip(0, 1)
            total += float(entropy(torch.from_numpy(chosen), bool(labels.regions)).sum(dtype=torch.float64))
            count += int(inside.sum())
    return found | ({"uncertainty": total / count} if count else {})
