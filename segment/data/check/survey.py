"""Facts from a single read of a case's files, used by checks, the fingerprint and preprocessing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import nibabel as nib
import numpy as np
from pydantic import Field

from segment.arrays import MAX_VALUES, count_values, nonzero_box, whole_numbers
from segment.data.case import Case, Dataset
from segment.data.check.headers import judge_header, obliqueness
from segment.data.problems import WARNING, Problem, Report, problem_of
from segment.errors import UserError
from segment.io.formats import Header
from segment.io.geometry import canonical_grid, grid_difference, same_voxels, to_canonical
from segment.io.images import FIX_CHANNELS, Image, read_header, read_label_header, read_voxels, reoriented
from segment.memory import InsufficientMemory

_IDENTITY = ((1, 1), (-1, -1))  # of x and y: nibabel's and ITK's, which counts towards the left and back
QUANTILES = 1001  # evenly spaced, from minimum to maximum


@dataclass(frozen=True)
class ForegroundIntensity:
    """Intensities of one channel of one scan within its foreground (every label except the background).

    Attributes:
        mean: Mean.
        sd: Population standard deviation (divided by n).
        quantiles: `QUANTILES` evenly spaced quantiles, ascending.
    """

    mean: float
    sd: float
    quantiles: Annotated[tuple[float, ...], Field(min_length=QUANTILES, max_length=QUANTILES)]


@dataclass(frozen=True)
class Survey:
    """Facts about one case, read once.

    Attributes:
        shape: Voxels along the anatomical axes z, y, x (after `to_canonical`); y, x for a 2D image.
        spacing: Voxel size in mm along these axes.
        box: (start, stop) along each of these axes of the smallest box that contains all voxels that are nonzero in any
            channel; the whole scan if all are 0.
        intensities: One per channel; empty for a scan without foreground or without a label.
        counts: Number of voxels of each value in the label file; empty without a label.
        orientation: Directions of the file's voxel axes x, y, z, such as ``RAS``; empty for a 2D image.
        oblique: Largest angle between a voxel axis and the nearest anatomical axis, in degrees.
        constant: Whether every channel is constant.
        digest: Hash of the voxel values of all channels and their shape; equal for equal scans, however stored.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    box: tuple[tuple[int, int], ...]
    intensities: tuple[ForegroundIntensity, ...]
    counts: Mapping[int, int] = field(default_factory=dict)
    orientation: str = ""
    oblique: float = 0.0
    constant: bool = False
    digest: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `segment.validation.read_as` reads it."""
        # Not asdict, which copies thousands of quantiles one by one.
        return vars(self) | {"intensities": [vars(channel) for channel in self.intensities]}


@dataclass(frozen=True)
class Examination:
    """Result of reading one case.

    Attributes:
        survey: Its facts; None if an image could not be read completely.
        problems: Problems of its files.
    """

    survey: Survey | None
    problems: tuple[Problem, ...]


def examine(
    case: Case,
    dataset: Dataset,
    room: Callable[[int], AbstractContextManager[Any]] = lambda voxels: nullcontext(),
) -> Examination:
    """Read every file of a case once; collect facts and problems.

    Args:
        case: The case, with or without a label.
        dataset: Its data set: labels, ignore value and channels.
        room: Context manager entered with the number of voxels before they are read, to bound memory across threads.

    Returns:
        The facts and the problems.
    """
    problems: list[Problem] = []
    report = problems.append
    readers = {path: read_label_header if path == case.label else read_header for path in case.files}
    headers = {path: header for path, read in readers.items() if (header := _header(path, read, report)) is not None}
    for path, header in headers.items():
        judge_header(path, header, report)
    images = {path: headers[path] for path in case.images if path in headers}
    _judge_channels(case, images, dataset, report)
    first = next(iter(images.values()), None)
    for path, header in headers.items():
        if first and header is not first and not (path == case.label and same_voxels(first.grid, header.grid)):
            _judge_grids(next(iter(images)), first, path, header, report)
    # The largest file of the case, which is in memory twice: as stored and converted.
    voxels = max((int(np.prod(h.grid.shape)) * h.channels for h in headers.values()), default=0)
    with room(voxels):
        survey = _facts(case, images, headers, dataset, report)
    return Examination(survey, tuple(problems))


def _judge_grids(image: Path, first: Header, path: Path, header: Header, report: Report) -> None:
    """Report a file that is on another grid than the first image of its scan."""
    difference = grid_difference(first.grid, header.grid)
    if not difference:
        return
    what = f"Its voxel grid differs from that of {image.name} of the same scan: {difference}."
    fix = "Resample one onto the other's grid."
    if first.grid.shape == header.grid.shape:
        lost = any(np.array_equal(header.grid.affine, np.diag([*signs, 1, 1])) for signs in _IDENTITY)
        why = ", as its header, which is the identity, suggests" if lost else ""
        fix = (
            f"If the voxels of both match one by one{why}, copy the image's header to it (SimpleITK: CopyInformation); "
            "if not, resample one onto the other's grid."
        )
    report(Problem("grid", str(path), what, fix))


def _header(path: Path, read: Callable[[Path], Header], report: Report) -> Header | None:
    try:
        return read(path)
    except (UserError, OSError) as error:
        report(problem_of(UserError(str(error)), "unreadable", path))
        return None


def _numbers(path: Path, header: Header, dtype: type[np.floating] | None, report: Report) -> np.ndarray | None:
    try:
        with np.errstate(all="ignore"):  # overflow is reported below
            return read_voxels(path, header, dtype)
    except InsufficientMemory:  # says nothing about the file
        raise
    except (UserError, OSError) as error:
        report(problem_of(UserError(str(error)), "unreadable", path))
        return None


def _judge_channels(case: Case, images: Mapping[Path, Header], dataset: Dataset, report: Report) -> None:
    """Compare the number of channels with the declared number; the message says if a file is 4D or in colour."""
    found, declared = sum(header.channels for header in images.values()), len(dataset.channels)
    if len(images) < len(case.images) or found == declared:
        return
    path, header = next(((p, h) for p, h in images.items() if h.channels > 1), next(iter(images.items())))
    description = f"The scan has {found} channel(s) in {len(images)} file(s)"
    if header.channels > 1:
        description = f"The file is {'a colour image (RGB)' if header.colour else '4D'} with {header.channels} channels"
    what = f"{description}; the data set declares {declared} ({', '.join(dataset.channels)})."
    report(Problem("channels", str(path), what, "Split or convert the file, or correct the declared channels."))


def _facts(
    case: Case, images: Mapping[Path, Header], headers: Mapping[Path, Header], dataset: Dataset, report: Report
) -> Survey | None:
    """Read the voxels, the label first, since it defines the foreground of the images."""
    mask: np.ndarray | None = None
    counts: dict[int, int] = {}
    if case.label is not None and case.label in headers:
        mask, counts = _mask(case.label, headers[case.label], dataset, report)
        if mask is not None and images:
            mask = reoriented(Image(mask, headers[case.label].grid), next(iter(images.values())).grid).array
    foreground = None if mask is None else _foreground(mask, counts, dataset)
    del mask
    grids = [header.grid for header in images.values()]
    complete = len(images) == len(case.images) and len({grid.shape for grid in grids}) == 1
    if not complete or (foreground is not None and foreground.shape != grids[0].shape):
        foreground = None
    nonzero = np.zeros(grids[0].shape, bool) if complete else None
    digest = hashlib.blake2b(repr([grid.shape for grid in grids]).encode(), digest_size=16)
    intensities: list[ForegroundIntensity] = []
    constants: list[bool] = []
    for path, header in images.items():
        array = _numbers(path, header, np.float32, report)
        if array is None:
            nonzero = None
            continue
        _judge_numbers(path, header, array, report)
        constants += [_is_constant(path, number, channel, report) for number, channel in enumerate(array)]
        digest.update(array.data)
        for channel in array:
            if nonzero is not None:
                np.logical_or(nonzero, channel, out=nonzero)
            if foreground is not None:
                intensities += _intensity(channel[foreground])
    if nonzero is None or not constants:
        return None
    grid = grids[0]
    canonical = canonical_grid(grid)
    return Survey(
        shape=canonical.shape,
        spacing=canonical.spacing,
        box=nonzero_box(to_canonical(nonzero, grid)[None]),
        intensities=tuple(intensities) if len(intensities) == len(constants) else (),
        counts=counts,
        orientation="".join(nib.aff2axcodes(grid.affine)) if grid.ndim == 3 else "",
        oblique=round(obliqueness(grid), 3),
        constant=all(constants),
        digest=digest.hexdigest(),
    )


def _judge_numbers(path: Path, header: Header, array: np.ndarray, report: Report) -> None:
    """Report NaN and infinity; in a file of integers they come from the scaling."""
    bad = array.size - int(np.isfinite(array).sum())
    if not bad:
        return
    slope, inter = header.slope, header.intercept
    if (slope, inter) != (1, 0) and header.dtype.kind in "iu":
        what = f"The header's slope {slope:g} and intercept {inter:g} overflow 32-bit floats in {bad:,} voxel(s)."
        report(Problem("scaling", str(path), what, "Correct scl_slope and scl_inter in the header."))
    else:
        what = f"The file contains {bad:,} voxel(s) that are NaN or infinite."
        report(Problem("not_finite", str(path), what, "Replace them with finite values."))


def _is_constant(path: Path, number: int, channel: np.ndarray, report: Report) -> bool:
    low, high = channel.min(), channel.max()
    if low != high:
        return False
    what = f"Channel {number} of the file has the value {float(low):g} everywhere."
    report(Problem("constant", str(path), what, "Copy the scan again, or remove it."))
    return True


def _mask(path: Path, header: Header, dataset: Dataset, report: Report) -> tuple[np.ndarray | None, dict[int, int]]:
    """Read and check a label file; returns its values and how often each occurs."""
    if header.channels != 1:
        what = f"The file has {header.channels} channels; a mask has one, whose values are the labels."
        report(Problem("not_a_mask", str(path), what, FIX_CHANNELS))
        return None, {}
    array = _numbers(path, header, None, report)
    mask = None if array is None else whole_numbers(array[0])
    slope, inter = header.slope, header.intercept
    scaled = f" (its header scales by slope {slope:g} and intercept {inter:g})" if (slope, inter) != (1, 0) else ""
    if mask is None:
        if array is not None:
            what = f"The values of the mask are not integers{scaled}."
            report(Problem("not_a_mask", str(path), what, "Give the label file, or round its values."))
        return None, {}
    counts = count_values(mask)
    if counts is None:
        what = f"The mask contains more than {MAX_VALUES} different values{scaled}."
        report(Problem("not_a_mask", str(path), what, "Give the label file instead of an image."))
        return None, {}
    known = {*dataset.labels.values(), *([] if dataset.labels.ignore is None else [dataset.labels.ignore])}
    unknown = [value for value in counts if value not in known]
    if unknown:
        listed = ", ".join(f"{value} ({counts[value]:,} voxels)" for value in unknown[:10])
        more = ", ..." if len(unknown) > 10 else ""
        what = (
            f"The mask contains undeclared value(s){scaled}: {listed}{more}; the labels are {dataset.labels.declared}."
        )
        report(Problem("undeclared", str(path), what, "Correct the mask, or declare the value as a label."))
    if not any(value in counts for value in dataset.labels.foreground.values()):
        what = "The mask contains no voxel of any structure."
        report(Problem("empty", str(path), what, "Check whether the scan was left unannotated.", WARNING))
    return mask, counts


def _foreground(mask: np.ndarray, counts: Mapping[int, int], dataset: Dataset) -> np.ndarray:
    """Voxels of any declared label except the background; neither ignored nor undeclared ones."""
    structures = [value for value in dataset.labels.foreground.values() if value in counts]
    others = [value for value in counts if value not in structures]
    if len(others) == 1:
        return mask != others[0]
    return np.isin(mask, structures)


def _intensity(values: np.ndarray) -> list[ForegroundIntensity]:
    """Intensities of one channel's foreground; empty if it has no finite value."""
    values = values[np.isfinite(values)]
    if not values.size:
        return []
    values.sort()
    # Same as numpy.quantile's linear method, but with a single in-place sort, which is faster.
    places = np.linspace(0, values.size - 1, QUANTILES)
    below = np.floor(places).astype(np.int64)
    above = np.minimum(below + 1, values.size - 1)
    low, high = values[below].astype(np.float64), values[above].astype(np.float64)
    quantiles = low + (high - low) * (places - below)
    mean, sd = values.mean(dtype=np.float64), values.std(dtype=np.float64)
    return [ForegroundIntensity(float(mean), float(sd), tuple(quantiles.tolist()))]
