"""Writes NRRD and MetaImage files with SimpleITK."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from segment.errors import UserError
from segment.io.streams import verify_deflated

if TYPE_CHECKING:
    import SimpleITK as sitk

_HEADER_BYTES = 1 << 20
_LAST_OF_HEADER = (b"ElementDataFile = LOCAL\n", b"\n\n")  # of MetaImage and NRRD, as ITK writes them


def write_itk(image: sitk.Image, path: Path) -> None:
    """Write an image, compressed.

    Args:
        image: The image.
        path: ``.mha`` or ``.nrrd``.

    Raises:
        OSError: If it was not written whole, of which ITK says nothing when the disk is full.
    """
    import SimpleITK as sitk

    sitk.WriteImage(image, str(path), True)
    with path.open("rb") as stream:
        head = stream.read(_HEADER_BYTES)
    starts = [head.index(last) + len(last) for last in _LAST_OF_HEADER if last in head]
    try:
        verify_deflated(path, starts[0] if starts else len(head))
    except UserError:
        raise OSError(f"{path} was not written whole") from None
