"""Faces removed from scans, with pictures of what was removed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from segment.errors import UserError
from segment.files import written_whole
from segment.io.geometry import Grid, canonical_grid, to_canonical
from segment.privacy.faces import without_face
from segment.privacy.heads import find_head
from segment.visual.pictures import png
from segment.visual.skin import skin_picture


def check_defacing(scans: bool, output: Path, pictures: Path | None) -> None:
    """Check what is asked for before anything is read.

    Args:
        scans: Whether the format is one of scans.
        output: Folder for the scans.
        pictures: Folder for pictures; None: none are drawn.

    Raises:
        UserError: If masks are asked for, or the pictures, which show faces, would go wherever the scans go.
    """
    if not scans:
        raise UserError("deface=true: is for scans. Give format=nifti, nrrd or mha.")
    if pictures is not None and pictures.absolute().is_relative_to(output.absolute()):
        raise UserError(
            f"face_pictures={pictures}: shows the faces, and would go wherever {output} goes. Give another."
        )


def defaced(file: Path, array: np.ndarray, grid: Grid, picture: Path | None) -> np.ndarray:
    """Remove a face.

    Args:
        file: The scan's file, for errors.
        array: ``(channel, z, y, x)``; the head is found in the first channel.
        grid: Its grid.
        picture: File for a picture of the skin before and after; None: none is drawn.

    Returns:
        The scan without its face; all other voxels are those that were given.

    Raises:
        UserError: If no head is found, or one of another contrast than T1.
    """
    head = find_head(array[0], grid)
    if head is None:
        raise UserError(
            f"{file}: no head is found, so that no face can be removed. Check its orientation, or convert it without "
            "deface=true."
        )
    if not head.t1:
        raise UserError(
            f"{file}: its head has another contrast than T1, in which a face is not found exactly enough to spare the "
            "brain. Leave the scan out."
        )
    changed = without_face(array, grid, head)
    if picture is not None:
        before, after = (to_canonical(item, grid)[0] for item in (array, changed))
        with written_whole(picture) as temporary:
            temporary.write_bytes(png(skin_picture(before, after, canonical_grid(grid).spacing, head.air)))
    return changed
