"""Temperature scaling of probabilities (Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2)."""

from __future__ import annotations

import math

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from segment.inference.limits import MAX_TEMPERATURE

TINY = 1e-30  # in place of a probability of 0, whose logarithm is infinite


def tempered(probabilities: Tensor, temperature: float, regions: bool) -> Tensor:
    """Divide the logits that belong to probabilities by a temperature.

    For classes this is ``p ** (1 / temperature)``, divided by its sum: of a single pass exactly the softmax of its
    logits divided by the temperature, of the mean of several passes what stands for it. The most probable class of a
    voxel stays the most probable one, and a region above 0.5 stays above it.

    Args:
        probabilities: (output, *spatial) in [0, 1]; not changed.
        temperature: Above 1 for less certain probabilities; 1 returns the same tensor.
        regions: Whether outputs are independent regions.

    Returns:
        The same shape, in [0, 1].
    """
    if temperature == 1:
        return probabilities
    logs = probabilities.clamp_min(TINY).log()
    if regions:
        return ((logs - (1 - probabilities).clamp_min(TINY).log()) / temperature).sigmoid()
    return (logs / temperature).softmax(dim=0)


def fit_temperature(probabilities: Tensor, truth: Tensor, regions: bool) -> float:
    """The temperature of the smallest mean negative log-likelihood.

    Args:
        probabilities: (output, voxel) in [0, 1].
        truth: (voxel,) class indices; with regions (output, voxel) bool.
        regions: Whether outputs are independent regions.

    Returns:
        In [1 / `MAX_TEMPERATURE`, `MAX_TEMPERATURE`]; 1 without voxels.
    """
    if not truth.numel():
        return 1.0
    edge = math.log(MAX_TEMPERATURE)
    found = minimize_scalar(
        lambda log: likelihood(tempered(probabilities, math.exp(log), regions), truth, regions),
        bounds=(-edge, edge),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return round(math.exp(found.x), 4)


def likelihood(probabilities: Tensor, truth: Tensor, regions: bool) -> float:
    """Mean negative log-likelihood in nats of a voxel, or with regions of a voxel and region; as `fit_temperature`."""
    if regions:
        of_truth = torch.where(truth, probabilities, 1 - probabilities)
    else:
        of_truth = probabilities.gather(0, truth[None].long())
    return float(-of_truth.double().clamp_min(TINY).log().mean())
