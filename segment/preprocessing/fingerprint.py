"""Fingerprint of a data set: sizes, spacings and intensities of all its scans, the input of planning."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from segment.data.check.survey import ForegroundIntensity, Survey
from segment.errors import UserError
from segment.preprocessing.plan import Intensity

_MOST_POINTS = 1 << 18  # kept per channel before they are summarised: 4 MB
_SUMMARY = (1 << 16) + 1


@dataclass(frozen=True)
class Fingerprint:
    """Properties of the training scans that nnU-Net plans from (Isensee et al. 2021, supplement, "fingerprint").

    Attributes:
        shapes: Voxels of each scan along z, y, x (y, x for 2D images) after cropping to nonzero voxels.
        spacings: Voxel size of each scan in mm along these axes.
        intensities: One per channel, over the foreground; empty if no scan has foreground.
        relative_size: Median over the scans of the fraction of voxels that cropping keeps, 0..1.
        channels: Channel names.
        labels: Number of labels as in nnU-Net's dataset.json, including background and an ignore label.
    """

    shapes: tuple[tuple[int, ...], ...]
    spacings: tuple[tuple[float, ...], ...]
    intensities: tuple[Intensity, ...]
    relative_size: float
    channels: tuple[str, ...]
    labels: int

    @property
    def scans(self) -> int:
        """Number of scans."""
        return len(self.shapes)

    @property
    def dims(self) -> int:
        """Number of spatial axes: 2 for 2D images, else 3."""
        return len(self.shapes[0])


def take_fingerprint(surveys: Iterable[Survey], channels: Sequence[str], labels: int) -> Fingerprint:
    """Summarise the surveys of the training scans; each is read once and then released.

    Args:
        surveys: One per scan.
        channels: Channel names.
        labels: Number of labels, background and ignore label included.

    Returns:
        The input of :func:`segment.preprocessing.planner.plan_dataset`.

    Raises:
        UserError: If there are no scans, or some are 2D and some 3D.
    """
    shapes, spacings, parts = [], [], []
    mixtures = [_Mixture() for _ in channels]
    for survey in surveys:
        shapes.append(tuple(stop - start for start, stop in survey.box))
        spacings.append(survey.spacing)
        parts.append(math.prod(shapes[-1]) / math.prod(survey.shape))
        if survey.intensities:
            for mixture, intensity in zip(mixtures, survey.intensities, strict=True):
                mixture.add(intensity)
    if not shapes:
        raise UserError("the data set has no labelled scans, so nothing can be planned. Check data.root.")
    if len({len(shape) for shape in shapes}) != 1:
        raise UserError("data: some scans are 2D and some 3D. Split them into two data sets.")
    intensities = tuple(mixture.intensity() for mixture in mixtures) if mixtures and mixtures[0].scans else ()
    return Fingerprint(tuple(shapes), tuple(spacings), intensities, float(np.median(parts)), tuple(channels), labels)


class _Mixture:
    """Intensities of one channel in bounded memory, with all scans weighted equally."""

    def __init__(self) -> None:
        self.scans = 0
        self.mean = 0.0
        self.within = 0.0  # sum of the scans' variances
        self.between = 0.0  # sum of squared deviations of their means (Welford)
        self.summary = (np.empty(0), np.empty(0))
        self.pending: list[np.ndarray] = []

    def add(self, intensity: ForegroundIntensity) -> None:
        """Add a scan."""
        self.scans += 1
        step = intensity.mean - self.mean
        self.mean += step / self.scans
        self.within += intensity.sd**2
        self.between += step * (intensity.mean - self.mean)
        self.pending.append(np.asarray(intensity.quantiles))
        if sum(map(len, self.pending)) > _MOST_POINTS:
            values, at = self._points()
            self.summary = np.interp(np.linspace(0, 1, _SUMMARY), at, values), _weights(_SUMMARY) * self.scans
            self.pending = []

    def intensity(self) -> Intensity:
        """Mean, standard deviation and percentiles so far."""
        values, at = self._points()
        low, high = np.interp([0.005, 0.995], at, values)
        sd = math.sqrt((self.within + self.between) / self.scans)
        return Intensity(float(self.mean), sd, float(low), float(high))

    def _points(self) -> tuple[np.ndarray, np.ndarray]:
        """All points in ascending order, and the fraction of the mixture below each."""
        values = np.concatenate([self.summary[0], *self.pending])
        weights = np.concatenate([self.summary[1], *(_weights(len(points)) for points in self.pending)])
        order = np.argsort(values, kind="stable")
        weights = weights[order] / weights.sum()
        return values[order], np.cumsum(weights) - weights / 2


def _weights(points: int) -> np.ndarray:
    """Weights of evenly spaced quantiles: the first and the last weigh half as much as the others."""
    if points == 1:
        return np.ones(1)
    weights = np.full(points, 1 / (points - 1))
    weights[[0, -1]] /= 2
    return weights
