"""Checks of a file's header: an implausible grid, and doubts specific to the file format."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from segment.data.problems import ERROR, WARNING, Problem, Report
from segment.io.formats import Header, format_of
from segment.io.geometry import Grid

_PLAUSIBLE_MM = (1e-4, 100.0)  # voxel sizes; a light microscope resolves 2e-4 mm


def judge_header(path: Path, header: Header, report: Report) -> None:
    """Report what is suspicious about a readable header.

    Args:
        path: The file.
        header: Its header.
        report: Receives the problems.
    """
    _judge_grid(path, header.grid, report)
    image_format = format_of(path)
    assert image_format is not None  # its header was read
    for doubt in image_format.doubts(path, header):
        report(Problem(doubt.kind, str(path), doubt.what, doubt.remedy, ERROR if doubt.error else WARNING))


def obliqueness(grid: Grid) -> float:
    """Largest angle between a voxel axis and the nearest anatomical axis.

    Args:
        grid: A voxel grid.

    Returns:
        Degrees, 0 to 54.8; 0 for a 2D image.
    """
    if grid.ndim == 2:
        return 0.0
    return float(np.degrees(np.arccos(np.clip(np.abs(grid.direction).max(axis=0), 0, 1))).max())


def _judge_grid(path: Path, grid: Grid, report: Report) -> None:
    low, high = _PLAUSIBLE_MM
    if not all(low <= size <= high for size in grid.spacing):
        sizes = " x ".join(f"{size:.4g}" for size in grid.spacing)
        what = f"The voxel sizes {sizes} mm are implausible for a scan."
        report(Problem("header", str(path), what, "Correct the spacing if it is wrong.", WARNING))
    axes = grid.direction[:, : grid.ndim]
    skew = float(np.abs(axes.T @ axes - np.eye(grid.ndim)).max())
    if skew > 1e-3:
        what = f"The voxel axes are not orthogonal ({np.degrees(np.arcsin(min(skew, 1))):.2g} degrees off)."
        report(Problem("header", str(path), what, "Resample the scan onto orthogonal axes.", WARNING))
