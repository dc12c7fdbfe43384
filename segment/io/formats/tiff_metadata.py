"""What TIFF files of microscopes say of their axes and voxel sizes."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from defusedxml import ElementTree

from segment.errors import UserError

# Not the inch, nor a resolution without metadata of a microscope: these are for printing.
_MILLIMETRES = {
    **dict.fromkeys(("m", "meter", "metre"), 1e3),
    **dict.fromkeys(("cm", "centimeter"), 10.0),
    **dict.fromkeys(("mm", "millimeter"), 1.0),
    **dict.fromkeys(("\u00b5m", "\u03bcm", "um", "micron", "microns", "micrometer", "\\u00b5m"), 1e-3),
    **dict.fromkeys(("nm", "nanometer"), 1e-6),
}
_COUNT = re.compile(r'\b(?:Size[A-Z]|First[A-Z]|IFD|NumPlanes|PlaneCount|SamplesPerPixel)\s*=\s*["\'](\d*)["\']')


def voxel_size(file: Any) -> tuple[float, float, float] | None:
    """Voxel size that the metadata of ImageJ or OME gives.

    Args:
        file: A ``tifffile.TiffFile``.

    Returns:
        (x, y, z) in mm; z is 1 where an OME file of a single plane gives none. None if it is unknown, as in all other
        files.
    """
    if file.is_ome:
        return _of_ome(file.ome_metadata)
    return _of_imagej(file) if file.is_imagej else None


def require_own_planes(path: Path, file: Any) -> None:
    """Refuse OME metadata that counts more planes than the file can hold, before memory is allocated for them.

    Args:
        path: The file, for the error.
        file: A ``tifffile.TiffFile``.

    Raises:
        UserError: If it does, or divides an axis further.
    """
    text = file.ome_metadata if file.is_ome else ""
    if "ModuloAlong" in text:
        raise UserError(f"{path} has OME metadata that divide an axis (Modulo). Save one file per part.")
    size = path.stat().st_size
    sizes = [math.prod(int(n or 0) for n in re.findall(r'\bSize[CTZ]\s*=\s*["\'](\d{1,9})["\']', part))
             for part in text.split("<Image")[1:]]  # fmt: skip
    if any(len(count) > 9 or int(count or 0) > size for count in _COUNT.findall(text)) or max(sizes, default=0) > size:
        raise UserError(f"{path} has OME metadata with more planes than the file can contain. Save it again.")


def _of_ome(text: str) -> tuple[float, float, float] | None:
    parts = ElementTree.fromstring(text, forbid_dtd=True).iter()
    pixels = next((part for part in parts if part.tag.endswith("}Pixels")), None)
    if pixels is None:
        return None
    sizes = [_length(pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "XYZ"]
    if sizes[2] is None and pixels.get("SizeZ") == "1":
        sizes[2] = 1.0
    x, y, z = sizes
    return None if x is None or y is None or z is None else (x, y, z)


def _of_imagej(file: Any) -> tuple[float, float, float] | None:
    metadata, tags = file.imagej_metadata or {}, file.pages.first.tags
    unit = str(metadata.get("unit", ""))
    inverse = [tags.valueof(f"{axis}Resolution", (0, 1)) for axis in "XY"]
    sizes = [_length(below / above if above else None, unit) for above, below in inverse]
    x, y, z = *sizes, _length(metadata.get("spacing", 1.0), unit)
    return None if x is None or y is None or z is None else (x, y, z)


def _length(number: Any, unit: str) -> float | None:
    """Millimetres; None if the number is missing or not positive, or the unit is not a length."""
    try:
        millimetres = float(number) * _MILLIMETRES[unit.strip().lower()]
    except (TypeError, ValueError, KeyError):
        return None
    return millimetres if 0 < millimetres < math.inf else None
