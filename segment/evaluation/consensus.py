"""One mask from those of several raters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from segment.errors import UserError
from segment.evaluation.match import pair_folders
from segment.io.formats import mask_suffix
from segment.io.geometry import grid_difference
from segment.io.images import read_label, write_label
from segment.parallel import on_all_cores


def majority(masks: Sequence[np.ndarray]) -> np.ndarray:
    """The value that more than half of the raters give to a voxel, else 0.

    Args:
        masks: Values ``(*spatial)`` of one shape, of at least two raters.
    """
    found = np.zeros_like(masks[0])
    for value in np.unique(np.concatenate([np.unique(mask) for mask in masks])):
        if value:
            votes = np.sum([mask == value for mask in masks], axis=0, dtype=np.uint8)
            found[votes > len(masks) / 2] = value
    return found


def staple(masks: Sequence[np.ndarray]) -> np.ndarray:
    """The most likely values when every rater has a confusion of their own, 0 where two are as likely.

    Source: Warfield, Zou and Wells 2004, doi:10.1109/TMI.2004.828354, for several labels by Rohlfing, Russakoff and
    Maurer 2004, doi:10.1109/TMI.2004.830803, as in SimpleITK.

    Args:
        masks: As for `majority`.
    """
    import SimpleITK as sitk

    images = [sitk.GetImageFromArray(np.ascontiguousarray(mask, np.uint16)) for mask in masks]
    found: np.ndarray = sitk.GetArrayFromImage(sitk.MultiLabelSTAPLE(images, 0))
    return found.astype(masks[0].dtype)


METHODS: Mapping[str, Callable[[Sequence[np.ndarray]], np.ndarray]] = {"staple": staple, "majority": majority}


def write_consensus(raters: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    """Write the consensus masks of all scans by every method, unless they are there.

    Args:
        raters: Name of every rater to the folder of their masks, of the same scans.
        folder: Folder for one folder of masks by method.

    Returns:
        Method to its folder.

    Raises:
        UserError: A rater lacks a scan, or masks of a scan are on different grids.
    """
    first, *others = raters.values()
    files = {case: [one, two] for case, one, two in pair_folders(first, others[0])}
    for other in others[1:]:
        for case, _, file in pair_folders(first, other):
            files[case].append(file)

    def write(case: str) -> None:
        sources = files[case]
        targets = {name: folder / name / f"{case}{mask_suffix(sources[0])}" for name in METHODS}
        newest = max(file.stat().st_mtime_ns for file in sources)
        if all(target.is_file() and target.stat().st_mtime_ns >= newest for target in targets.values()):
            return
        first = read_label(sources[0])
        masks = [first, *(read_label(file, first.grid) for file in sources[1:])]
        for file, mask in zip(sources[1:], masks[1:], strict=True):
            if difference := grid_difference(masks[0].grid, mask.grid):
                raise UserError(f"{file} is not on the grid of {sources[0]}: {difference}. Resample it to that grid.")
        for name, method in METHODS.items():
            write_label(targets[name], method([mask.array for mask in masks]), like=sources[0])

    for _ in on_all_cores(write, list(files)):
        pass
    return {name: folder / name for name in METHODS}
