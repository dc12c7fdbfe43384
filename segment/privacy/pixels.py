"""Text in the pixels of files: where it is, and copies in which it is blanked."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from segment.errors import UserError
from segment.io.dicom.files import damage_as_value_error, is_dicom, read_attributes, read_dataset, text
from segment.io.dicom.pixels import PLAIN, decode
from segment.io.dicom.slices import slices_of
from segment.io.formats import is_image_file, suffix
from segment.io.images import read_header, read_voxels
from segment.memory import require_memory
from segment.privacy.burned_in import find_text, why_not

if TYPE_CHECKING:
    from pydicom import Dataset

Boxes = tuple[tuple[int, int, int, int], ...]
"""First and last row and column of words, the last ones excluded."""

BLANKED = (".png",)
_SLICED = ("CT", "MR", "PT", "NM")  # whose slices hold text in captures of screens alone
_SECONDARY = "1.2.840.10008.5.1.4.1.1.7"
_LITTLE = "1.2.840.10008.1.2.1"
_CLEANED = ("113101", "DCM", "Clean Pixel Data Option")


def text_boxes(path: Path) -> Boxes:
    """Find text in the pixels of an image.

    Of a volume and of a film, the first, middle and last planes are looked at; of DICOM, not the slices of CT, MR, PET
    and scintigraphy, unless the file says that it has text.

    Args:
        path: An image file; untrusted.

    Returns:
        The boxes of words in any of these planes; none where Tesseract is not installed or the file cannot be read.
    """
    if why_not():
        return ()
    return _boxes(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _boxes(path: Path, changed: int) -> Boxes:
    try:
        with damage_as_value_error():
            return tuple(word.box for plane in _planes(path) for word in find_text(plane))
    except (UserError, ValueError):  # a damaged file, which is reported otherwise
        return ()


def _planes(path: Path) -> Iterator[np.ndarray]:
    """The planes that are looked at, ``(y, x)`` or with colours last."""
    if is_dicom(path):
        dataset = read_attributes(path, None)
        kind, claimed = text(dataset, "SOPClassUID"), text(dataset, "BurnedInAnnotation").upper() == "YES"
        captured = kind == _SECONDARY or kind.startswith(f"{_SECONDARY}.")
        if "Rows" in dataset and (claimed or captured or text(dataset, "Modality") not in _SLICED):
            frames = _decoded(path, read_dataset(path))
            yield from (
                frames[index].squeeze(-1) if frames.shape[-1] == 1 else frames[index] for index in _some(frames)
            )
    elif is_image_file(path):
        voxels = read_voxels(path, read_header(path), None)
        if voxels.ndim == 3:
            yield np.moveaxis(voxels, 0, -1) if len(voxels) == 3 else voxels[0]
        else:
            yield from (voxels[0, index] for index in _some(voxels[0]))


def _some(planes: np.ndarray) -> list[int]:
    return sorted({0, len(planes) // 2, len(planes) - 1})


def _decoded(path: Path, dataset: Dataset) -> np.ndarray:
    """Pixels as stored, (frame, y, x, sample)."""
    first = slices_of(path, dataset)[0]
    size = first.frames * first.size[0] * first.size[1] * first.samples * first.dtype.itemsize
    require_memory(2 * size, f"{path}: its pixels", "Leave the file out.")
    return decode(dataset, first)


def blank(path: Path, copy: Path, boxes: Boxes) -> None:
    """Fill boxes of a copy, in all planes, with the least value.

    Args:
        path: The file, for errors.
        copy: The copy to change, of the same format.
        boxes: From `text_boxes`.

    Raises:
        UserError: If that cannot be done in its format.
    """
    if is_dicom(copy):
        _blank_dicom(path, copy, boxes)
    elif suffix(path) in BLANKED:
        _blank_png(copy, boxes)
    else:
        raise UserError(
            f"{path}: has text in its pixels, which is blanked in PNG and DICOM alone. Save it as PNG first."
        )


def _fill(pixels: np.ndarray, boxes: Boxes, value: object) -> None:
    """Fill boxes of (frame, y, x, ...)."""
    for top, bottom, left, right in boxes:
        pixels[:, top:bottom, left:right] = value


def _blank_dicom(path: Path, copy: Path, boxes: Boxes) -> None:
    from pydicom import Dataset
    from pydicom.uid import UID

    dataset = read_dataset(copy)
    colours = text(dataset, "PhotometricInterpretation")
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    if colours not in ("MONOCHROME1", "MONOCHROME2", "RGB") or (syntax in PLAIN and syntax.endswith(".2.2")):
        raise UserError(f"{path}: has text in its pixels, which are {colours}. Decompress it as RGB first (dcmdjpeg).")
    pixels = np.array(_decoded(copy, dataset))
    _fill(pixels, boxes, pixels.max() if colours == "MONOCHROME1" else pixels.min())
    content = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    dataset.PixelData = content + bytes(len(content) % 2)
    dataset["PixelData"].is_undefined_length = False
    dataset["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"
    if pixels.shape[-1] > 1:
        dataset.PlanarConfiguration = 0
    if syntax not in PLAIN:
        dataset.file_meta.TransferSyntaxUID = UID(_LITTLE)
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = _CLEANED
    dataset.DeidentificationMethodCodeSequence.append(item)
    dataset.BurnedInAnnotation = "NO"
    dataset.save_as(copy, enforce_file_format=True)


def _blank_png(copy: Path, boxes: Boxes) -> None:
    from PIL import Image

    with Image.open(copy) as image:
        pixels = np.array(image)
        palette = image.getpalette() if image.mode == "P" else None
        kept = {key: image.info[key] for key in ("transparency", "icc_profile", "gamma") if key in image.info}
    darkest = int(np.argmin(np.reshape(palette, (-1, 3)).sum(axis=1))) if palette else pixels.min()
    _fill(pixels[None], boxes, darkest)
    blanked = Image.fromarray(pixels)
    if palette:
        blanked = blanked.convert("P") if blanked.mode != "P" else blanked
        blanked.putpalette(palette)
    blanked.save(copy, **kept)


def equal_outside(path: Path, copy: Path, boxes: Boxes) -> bool:
    """Whether the pixels of a file and of its copy are equal but for the boxes.

    Args:
        path: The file.
        copy: The copy.
        boxes: Of text.
    """
    if is_dicom(path):
        before, after = (_decoded(item, read_dataset(item)) for item in (path, copy))
    else:
        before, after = (np.moveaxis(read_voxels(item, read_header(item), None), 0, -1)[None] for item in (path, copy))
    if before.shape != after.shape or before.dtype != after.dtype:
        return False
    kept = np.ones(before.shape, bool)
    _fill(kept, boxes, False)
    return bool(np.array_equal(before[kept], after[kept]))
