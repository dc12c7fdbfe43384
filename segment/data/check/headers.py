"""What a file's header says that its voxels cannot: two positions that disagree, scaling, units, a missing place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from segment.data.problems import ERROR, WARNING, Problem, Report
from segment.io.geometry import Grid, furthest_apart
from segment.io.images import Header

_UNITS = {1: "metres", 3: "micrometres"}
_PLAUSIBLE_MM = (1e-4, 100.0)  # voxel sides; a light microscope resolves 2e-4 mm


def judge_header(path: Path, header: Header, report: Report) -> None:
    """Report what is doubtful about a header that can be read.

    Args:
        path: The file.
        header: Its header.
        report: Where problems go.
    """
    _judge_grid(path, header.grid, report)
    if isinstance(header.source, nib.Nifti1Pair):
        _judge_positions(path, header.source, header.grid, report)
        _judge_scaling(path, header.source, report)
        units = int(header.source.header["xyzt_units"]) & 7
        if units in _UNITS:
            what = f"The header gives sizes in {_UNITS[units]}, but they are read as millimetres, as other programs do."
            report(Problem("header", str(path), what, "Write the sizes in millimetres.", WARNING))


def scaling(header: Header) -> tuple[float, float]:
    """The slope and intercept that a file's header applies to its stored values.

    Args:
        header: Its header.

    Returns:
        ``(slope, intercept)``; ``(1, 0)`` where nothing is scaled.
    """
    proxy: Any = getattr(header.source, "dataobj", None)
    return (float(proxy.slope), float(proxy.inter)) if proxy is not None else (1.0, 0.0)


def obliqueness(grid: Grid) -> float:
    """Greatest angle between a voxel axis and the nearest axis of the body.

    Args:
        grid: A voxel grid.

    Returns:
        Degrees, 0 to 54.8; 0 for a flat image.
    """
    if grid.ndim == 2:
        return 0.0
    return float(np.degrees(np.arccos(np.clip(np.abs(grid.direction).max(axis=0), 0, 1))).max())


def _judge_grid(path: Path, grid: Grid, report: Report) -> None:
    low, high = _PLAUSIBLE_MM
    if not all(low <= size <= high for size in grid.spacing):
        sizes = " x ".join(f"{size:.4g}" for size in grid.spacing)
        what = f"The voxel sizes {sizes} mm are hardly those of a scan."
        report(Problem("header", str(path), what, "Correct the spacing if it is wrong.", WARNING))
    axes = grid.direction[:, : grid.ndim]
    lean = float(np.abs(axes.T @ axes - np.eye(grid.ndim)).max())
    if lean > 1e-3:
        what = f"The voxel axes are not at right angles ({np.degrees(np.arcsin(min(lean, 1))):.2g} degrees off)."
        report(Problem("header", str(path), what, "Resample the scan onto axes at right angles.", WARNING))


def _judge_positions(path: Path, image: nib.Nifti1Pair, grid: Grid, report: Report) -> None:
    """Compare sform with qform where both are coded; a program may go by either.

    An error only where they do not agree on which way an axis of the body runs: a shift changes no voxel's neighbours.
    """
    header = image.header
    codes = int(header["sform_code"]), int(header["qform_code"])
    if codes == (0, 0):
        what = "The header has neither sform nor qform, so left and right are a guess."
        report(Problem("header", str(path), what, "Write the scan's position into the header.", WARNING))
    if min(codes) < 1:
        return
    try:
        other = Grid(grid.shape, np.asarray(header.get_qform(), dtype=np.float64))
        apart = furthest_apart(grid, other)
        turned = nib.aff2axcodes(other.affine) != nib.aff2axcodes(grid.affine)
    except (nib.spatialimages.HeaderDataError, ValueError, np.linalg.LinAlgError):
        apart, turned = float("nan"), True
    if not apart <= 0.1 * min(grid.spacing):
        what = (
            f"The sform and the qform of the header lie up to {apart:.4g} mm apart; here the sform is taken."
            if np.isfinite(apart)
            else "The qform of the header is no position; here the sform is taken."
        )
        severity = ERROR if turned else WARNING
        report(Problem("forms", str(path), what, "Find out which is right and write it as both.", severity))


def _judge_scaling(path: Path, image: nib.Nifti1Pair, report: Report) -> None:
    """Read slope and intercept as they stand in the file: nibabel clears what it does not apply."""
    with nib.openers.Opener(str(path)) as stream:
        raw = type(image.header).from_fileobj(stream, check=False)
    slope, inter = float(raw["scl_slope"]), float(raw["scl_inter"])
    if not np.isfinite(slope) or (slope == 0 and inter != 0):
        what = f"The header scales by slope {slope:g} and intercept {inter:g}, which programs read differently."
        report(Problem("scaling", str(path), what, "Write slope 1 and intercept 0, or the true ones.", WARNING))
