"""Masks that miss no more of a structure than a chosen share: conformal risk control of the false-negative rate.

Angelopoulos, Bates, Fisch, Lei and Schuster 2022, "Conformal Risk Control" (ICLR 2024), section 4.1 on tumour
segmentation. Over new scans like those that it was calibrated on, the mean share of a structure's voxels that lie
outside of its mask is at most the chosen risk, whatever the network; it says nothing of a single scan.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from segment.data.labels import Labels
from segment.errors import UserError
from segment.text import printable
from segment.validation import whole

EDGES = np.concatenate([[0], 1 / (1 + np.exp(-np.linspace(-8, 8, 129)))]).astype(np.float32)
"""Thresholds of a probability that are tried: 0, and an eighth apart in log-odds from 3e-4 to 1 - 3e-4."""

Share = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]


@dataclass(frozen=True)
class Missed:
    """How much of a structure is missed at each threshold: an entry of ``conformal`` in a model.json.

    Attributes:
        scans: Number of validation scans that have the structure.
        shares: Mean share of its voxels below each of `EDGES`, over these scans.
    """

    scans: Annotated[int, whole(0, 1 << 31)]
    shares: Annotated[tuple[Share, ...], Field(min_length=len(EDGES), max_length=len(EDGES))]

    @property
    def least_risk(self) -> float:
        """No smaller risk can be promised from so few scans."""
        return 1 / (self.scans + 1)

    def threshold(self, risk: float) -> float | None:
        """The largest threshold whose mask misses at most `risk` of new scans on average; None if none is known to.

        The loss of a scan is at most 1, so that with n scans it is the largest threshold of which n / (n + 1) times the
        mean loss, plus 1 / (n + 1), is at most the risk (equation 4 of the paper).
        """
        bounded = (self.scans * np.array(self.shares) + 1) / (self.scans + 1) <= risk
        # Shares rise with the threshold; what is above the first that is too large does not count.
        count = int(np.cumprod(bounded).sum())
        return float(EDGES[count - 1]) if count else None


def missed_shares(inside: np.ndarray) -> Missed:
    """Count what masks miss.

    Args:
        inside: (scan, `EDGES`) voxels of the structure whose probability is in [edge, next edge).
    """
    there = inside[inside.sum(axis=1) > 0].astype(np.float64)
    if not len(there):
        return Missed(0, (0.0,) * len(EDGES))
    below = (np.cumsum(there, axis=1) - there) / there.sum(axis=1, keepdims=True)
    # Rounded up, so that what is promised still holds.
    return Missed(len(there), tuple((np.ceil(below.mean(axis=0) * 1e5) / 1e5).clip(0, 1).tolist()))


def conformal_thresholds(missed: Mapping[str, Missed], risk: float, labels: Labels) -> np.ndarray:
    """The threshold (structure,) float32 of each structure for a risk.

    Raises:
        UserError: When the model was not calibrated, or on too few scans for such a risk.
    """
    found = []
    for name in labels.structures:
        if name not in missed:
            raise UserError(
                f"conformal={risk:g}: the model was not calibrated. The command that trained it does so with "
                "calibration=auto, without training again."
            )
        threshold = missed[name].threshold(risk)
        if threshold is None:
            raise UserError(
                f"conformal={risk:g}: {missed[name].scans} validation scans with {printable(name)} can promise no "
                f"risk below {math.ceil(missed[name].least_risk * 1000) / 1000:g}. Give a larger one, or validate on "
                "more scans."
            )
        found.append(threshold)
    return np.array(found, np.float32)


def conformal_masks(probabilities: np.ndarray, thresholds: np.ndarray, labels: Labels) -> np.ndarray:
    """The voxels of each structure whose probability is at least its threshold; masks overlap.

    Args:
        probabilities: (output, *spatial).
        thresholds: (structure,).
        labels: Meaning of the outputs.

    Returns:
        (structure, *spatial) bool.
    """
    outputs = [index if labels.regions else classes[0] for index, classes in enumerate(labels.structures.values())]
    return np.stack([probabilities[output] >= limit for output, limit in zip(outputs, thresholds, strict=True)])


def edge_counts(probabilities: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Voxels outside and inside of a structure by probability.

    Args:
        probabilities: (voxel,) in [0, 1].
        inside: (voxel,) bool.

    Returns:
        (2, `EDGES`) int64: those in [edge, next edge).
    """
    values = torch.from_numpy(np.ascontiguousarray(probabilities, np.float32))
    place = torch.bucketize(values, torch.from_numpy(EDGES), right=True).numpy() - 1
    counts = np.bincount(place + len(EDGES) * inside, minlength=2 * len(EDGES))
    return counts.reshape(2, len(EDGES)).astype(np.int64)
