"""What a data set is like: sizes, spacings and intensities of all its scans, from which a plan is decided."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from segment.data.check.survey import ForegroundIntensity, Survey
from segment.errors import UserError
from segment.preprocessing.plan import Intensity

_MOST_POINTS = 1 << 18  # kept a channel before they are summarised: 4 MB
_SUMMARY = (1 << 16) + 1


@dataclass(frozen=True)
class Fingerprint:
    """Facts about the training scans, those that nnU-Net plans by (Isensee et al. 2021, supplement, "fingerprint").

    Attributes:
        shapes: Voxels of each scan along z, y, x (y, x for flat images) after cropping to what is not 0.
        spacings: Voxel size of each scan in mm along these axes.
        intensities: One a channel, over the foreground; empty when no scan has foreground.
        relative_size: Median over the scans of the voxels after cropping, as a part of those before; 0..1.
        channels: Channel names.
        labels: Number of labels, as nnU-Net's dataset.json counts them: background and an ignore label too.
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
        """Number of spatial axes: 2 for flat images, else 3."""
        return len(self.shapes[0])


def take_fingerprint(surveys: Iterable[Survey], channels: Sequence[str], labels: int) -> Fingerprint:
    """Sum up the surveys of the training scans; each is looked at once and let go.

    Args:
        surveys: One a scan.
        channels: Channel names.
        labels: Number of labels, background and ignore label included.

    Returns:
        The facts that :func:`segment.preprocessing.planner.plan_dataset` decides by.

    Raises:
        UserError: When there are no scans, or some are flat and some are not.
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
    """Intensities of one channel, each scan counting the same, in bounded memory."""

    def __init__(self) -> None:
        self.scans = 0
        self.mean = 0.0
        self.within = 0.0  # sum of the scans' variances
        self.between = 0.0  # sum of squared distances of their means (Welford)
        self.summary = (np.empty(0), np.empty(0))
        self.fresh: list[np.ndarray] = []

    def add(self, intensity: ForegroundIntensity) -> None:
        """Count one more scan."""
        self.scans += 1
        step = intensity.mean - self.mean
        self.mean += step / self.scans
        self.within += intensity.sd**2
        self.between += step * (intensity.mean - self.mean)
        self.fresh.append(np.asarray(intensity.quantiles))
        if sum(map(len, self.fresh)) > _MOST_POINTS:
            values, at = self._points()
            self.summary = np.interp(np.linspace(0, 1, _SUMMARY), at, values), _weights(_SUMMARY) * self.scans
            self.fresh = []

    def intensity(self) -> Intensity:
        """Mean, deviation and percentiles so far."""
        values, at = self._points()
        low, high = np.interp([0.005, 0.995], at, values)
        sd = math.sqrt((self.within + self.between) / self.scans)
        return Intensity(float(self.mean), sd, float(low), float(high))

    def _points(self) -> tuple[np.ndarray, np.ndarray]:
        """All points in order, and the part of the mixture below each."""
        values = np.concatenate([self.summary[0], *self.fresh])
        weights = np.concatenate([self.summary[1], *(_weights(len(points)) for points in self.fresh)])
        order = np.argsort(values, kind="stable")
        weights = weights[order] / weights.sum()
        return values[order], np.cumsum(weights) - weights / 2


def _weights(points: int) -> np.ndarray:
    """Parts of a scan that evenly spaced quantiles stand for: the first and the last for half as much as the others."""
    if points == 1:
        return np.ones(1)
    weights = np.full(points, 1 / (points - 1))
    weights[[0, -1]] /= 2
    return weights
