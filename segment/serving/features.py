"""What is remembered of a scan and its mask: numbers that describe them, neither pixels nor identifiers."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, MutableSequence
from pathlib import Path
from typing import Any

import numpy as np

from segment.io.dicom.files import damage_as_value_error, is_dicom, read_attributes, text
from segment.io.geometry import Grid, canonical_grid, to_canonical
from segment.io.images import Image
from segment.privacy.values import looks_like

SAMPLE = 1 << 18  # voxels of a channel that are looked at
PERCENTILES = (1, 50, 99)
AXES = ("z", "y", "x")
SCANNER = {
    "modality": "Modality",
    "manufacturer": "Manufacturer",
    "model": "ManufacturerModelName",
    "field_strength": "MagneticFieldStrength",
    "kernel": "ConvolutionKernel",
}
"""What is told of a scanner, and the DICOM attribute that says it."""
_PERSONAL = (
    "PatientName",
    "PatientID",
    "OtherPatientIDs",
    "OtherPatientNames",
    "ReferringPhysicianName",
    "PerformingPhysicianName",
    "OperatorsName",
    "AccessionNumber",
    "DeviceSerialNumber",
)
_SCANNER_TEXT = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/+()\\-]{0,63}")
_WORD = re.compile(r"\w{3,}")


def image_features(image: Image) -> dict[str, float]:
    """Describe the intensities and the grid of a scan, in canonical axes, so that its storage order does not matter.

    Args:
        image: float32 ``(channel, z, y, x)`` or ``(channel, y, x)`` on its source grid.

    Returns:
        Of every channel C: ``C_mean``, ``C_sd``, ``C_p1``, ``C_p50``, ``C_p99`` in the file's units; ``C_roughness_A``,
        the mean absolute difference of neighbours along axis A in standard deviations (noise raises it, smoothing
        lowers it); ``C_centre_A``, where the centre of intensity lies, 0 to 1 (a flipped scan moves it). Of the grid:
        ``voxels_A`` and ``spacing_A`` in mm.
    """
    grid = canonical_grid(image.grid)
    names = AXES[-grid.ndim :]
    found: dict[str, float] = {}
    for name, voxels, size in zip(names, grid.shape, grid.spacing, strict=True):
        found |= {f"voxels_{name}": float(voxels), f"spacing_{name}": float(size)}
    for number, channel in enumerate(to_canonical(image.array, image.grid)):
        found |= {f"image{number}_{key}": value for key, value in _intensities(channel, names).items()}
    return found


def _intensities(channel: np.ndarray, names: tuple[str, ...]) -> dict[str, float]:
    """Features of a channel ``(z, y, x)`` or ``(y, x)``."""
    sample = _sampled(channel)
    low, middle, high = (float(value) for value in np.percentile(sample, PERCENTILES))
    spread = float(sample.std(dtype=np.float64))
    found = {"mean": float(sample.mean(dtype=np.float64)), "sd": spread, "p1": low, "p50": middle, "p99": high}
    weights = np.clip(sample, low, high) - np.float32(low)
    total = float(weights.sum(dtype=np.float64))
    for axis, name in enumerate(names):
        pairs = _sampled(channel, keep=axis)
        steps = float(np.abs(np.diff(pairs, axis=axis)).mean(dtype=np.float64)) if pairs.shape[axis] > 1 else 0.0
        found[f"roughness_{name}"] = steps / spread if spread > 0 else 0.0
        profile = weights.sum(axis=tuple(other for other in range(weights.ndim) if other != axis), dtype=np.float64)
        places = (np.arange(len(profile)) + 0.5) / len(profile)
        found[f"centre_{name}"] = float((profile * places).sum() / total) if total > 0 else 0.5
    return found


def _sampled(array: np.ndarray, keep: int | None = None) -> np.ndarray:
    """Every n-th voxel along every axis but one, so that about `SAMPLE` are left."""
    steps = [1] * array.ndim
    others = [axis for axis in range(array.ndim) if axis != keep]
    while np.prod([-(-size // step) for size, step in zip(array.shape, steps, strict=True)]) > SAMPLE:
        longest = max(others, key=lambda axis: array.shape[axis] // steps[axis])
        if steps[longest] >= array.shape[longest]:
            break
        steps[longest] += 1
    return array[tuple(slice(None, None, step) for step in steps)]


def mask_features(mask: np.ndarray, grid: Grid, labels: Mapping[str, int]) -> dict[str, float]:
    """Describe a mask.

    Args:
        mask: Values of labels ``(z, y, x)`` or ``(y, x)``, on the source grid.
        grid: The source grid.
        labels: Name to value, without the background.

    Returns:
        Of every label L: ``volume_L`` in ml (cm² of a 2D image), 0 if absent; and if present ``place_L_A``, the centre
        along axis A in canonical axes, 0 to 1.
    """
    turned = to_canonical(mask, grid)
    names = AXES[-turned.ndim :]
    unit = float(np.prod(grid.spacing)) / (1000.0 if turned.ndim == 3 else 100.0)
    found: dict[str, float] = {}
    for label, value in labels.items():
        inside = turned == value
        count = int(np.count_nonzero(inside))
        found[f"volume_{label}"] = count * unit
        for axis, name in enumerate(names) if count else ():
            profile = np.count_nonzero(inside, axis=tuple(other for other in range(inside.ndim) if other != axis))
            places = (np.arange(len(profile)) + 0.5) / len(profile)
            found[f"place_{label}_{name}"] = float((profile * places).sum() / count)
    return found


def scanner_tags(file: Path) -> dict[str, str]:
    """What a DICOM file says of its scanner.

    A value that holds a word of a name, ID or serial number of the same file, or that looks like a name, a date or an
    ID, is left out: some sites write such things where they do not belong.

    Args:
        file: One of the files of a scan; untrusted.

    Returns:
        Keys of `SCANNER` to texts of at most 64 plain characters; empty for other formats.
    """
    if not is_dicom(file):
        return {}
    try:
        with damage_as_value_error():
            told = read_attributes(file, [*SCANNER.values(), *_PERSONAL])
            personal = {word for key in _PERSONAL for word in _WORD.findall(text(told, key).casefold())}
            found = {name: _joined(told.get(key)) for name, key in SCANNER.items()}
    except ValueError:  # the image was read all the same
        return {}
    return {name: value for name, value in found.items() if is_scanner_tag(value, personal)}


def _joined(value: Any) -> str:
    several = value if isinstance(value, MutableSequence) else [value]
    return "/".join("" if one is None else str(one).strip(" \0") for one in several)


def is_scanner_tag(value: Any, personal: Collection[str] = ()) -> bool:
    """Whether a value can be one of a scanner, and holds none of these words in lower case."""
    if not isinstance(value, str) or not _SCANNER_TEXT.fullmatch(value) or looks_like(value) is not None:
        return False
    return not any(word in value.casefold() for word in personal)
