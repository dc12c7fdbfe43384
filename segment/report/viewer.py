"""Data for the page's viewer: NiiVue's code from its package, and small volumes of the scans."""

from __future__ import annotations

import base64
import gzip
import importlib.metadata
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from segment.arrays import nonzero_box
from segment.runs.voxels import ScanVoxels
from segment.visual.pictures import fullest_slices

_PACKAGE, _BUNDLE = "ipyniivue", "ipyniivue/static/widget.js"
_LARGEST_BUNDLE = 1 << 25  # bytes
# The bundle contains a second copy of NiiVue as text, for pages that it saves; it is longer than the code itself.
_SAVED_COPY = re.compile(r'"[\w%.!~*\'()-]{500000,}"')
# The log message before the bundle creates its viewer, and the class of the viewer.
_CLASS = re.compile(r'"Creating new Niivue instance"\);.{0,200}?new ([\w$]+)\(', re.DOTALL)
_EXPORT = re.compile(r"export\s*\{[^{}]*\};?\s*$")
_READY = "niivue"  # the event that passes the class to the page; viewer.js waits for it

_SIDES = (160, 128, 96, 64, 48)  # longest side of a volume in voxels: the largest within the budget is used
_BUDGET = 1_000_000  # bytes per scan in the page; volumes of 48^3 voxels need less than half
_MARGIN = 0.25  # kept around the box of the structures when a scan is cropped, relative to the box
_LEAST_MARGIN = 8  # voxels


@dataclass(frozen=True)
class ViewerCode:
    """NiiVue for embedding in a page.

    Attributes:
        script: Source of a module that passes its class to the page in an event.
        packed: The same, gzip-compressed, base64.
        source: Name and version of the package.
        licence: Its licence, which must accompany every copy.
    """

    script: str
    packed: str
    source: str
    licence: str


def viewer_code() -> ViewerCode | None:
    """Read NiiVue from the package ipyniivue, which contains it as one JavaScript module; the package is not imported.

    Returns:
        The code; None if the package is not installed or its module is not as expected.
    """
    try:
        package = importlib.metadata.distribution(_PACKAGE)
        file = Path(str(package.locate_file(_BUNDLE)))
        if file.stat().st_size > _LARGEST_BUNDLE:
            return None
        text = file.read_text(encoding="utf-8")
    except (ImportError, OSError, UnicodeDecodeError):
        return None
    viewer_class, end, licence = _CLASS.search(text), _EXPORT.search(text, max(0, len(text) - 2000)), _licence(package)
    if not viewer_class or not end or not licence:
        return None
    event = f'globalThis.dispatchEvent(new CustomEvent("{_READY}",{{detail:{viewer_class[1]}}}));'
    script = _SAVED_COPY.sub('""', text[: end.start()]) + event
    return ViewerCode(script, _packed(script.encode()), f"{_PACKAGE} {package.version}", licence)


def _licence(package: importlib.metadata.Distribution) -> str:
    """The text of a package's licence files."""
    names = package.metadata.get_all("License-File") or []
    return "\n".join(filter(None, (package.read_text(f"licenses/{name}") for name in names)))


def viewer_volumes(scan: ScanVoxels) -> dict[str, Any] | None:
    """Reduce the volumes of one scan to a size suitable for a page.

    If a side is longer than 160 voxels, the scan is cropped to the bounding box of its structures with a margin; if it
    is still longer, every second, third, ... voxel along it is kept. The limit is lowered until the three volumes take
    at most 1 MB together.

    Args:
        scan: Voxels in canonical axes.

    Returns:
        ``image`` (grey values from the 0.5th to the 99.5th percentile as 0 to 255), ``reference`` and ``prediction``
        (class indices), each as NIfTI, gzip, base64, uint8, in the scan's world coordinates; ``centre``, the point in
        RAS+ mm where the structures are largest; ``extent``, the longest side in mm; ``whole``, False if voxels were
        left out. None for a 2D image.
    """
    if scan.reference.ndim != 3:
        return None
    for side in _SIDES:
        image, masks, affine, whole = _reduced(scan, side)
        volumes = {"image": _nifti(_grey(image), affine)}
        volumes |= {
            name: _nifti(mask, affine, "label") for name, mask in zip(("reference", "prediction"), masks, strict=True)
        }
        if sum(map(len, volumes.values())) <= _BUDGET:
            break
    centre = scan.grid.affine @ (*fullest_slices(scan.reference, scan.prediction)[::-1], 1)
    extent = max(np.multiply(image.shape, np.linalg.norm(affine[:3, :3], axis=0)[::-1]))
    place = {"centre": [round(float(value), 3) for value in centre[:3]], "extent": round(float(extent), 3)}
    return {**volumes, **place, "whole": whole}


def _reduced(scan: ScanVoxels, side: int) -> tuple[np.ndarray, list[np.ndarray], np.ndarray, bool]:
    """Image (first channel), masks and affine with no axis longer than `side`, and whether all voxels were kept."""
    shape = scan.reference.shape
    box = [slice(0, length) for length in shape]
    if max(shape) > side:
        box = _structures_box(np.stack([scan.reference, scan.prediction]))
    steps = [-(-(part.stop - part.start) // side) for part in box]
    cut = tuple(slice(part.start, part.stop, step) for part, step in zip(box, steps, strict=True))
    affine = scan.grid.affine.copy()
    affine[:, 3] = scan.grid.affine @ (*(part.start for part in box[::-1]), 1)
    affine[:3, :3] *= steps[::-1]
    image = scan.image[0][cut]
    return image, [mask[cut] for mask in (scan.reference, scan.prediction)], affine, image.shape == shape


def _structures_box(masks: np.ndarray) -> list[slice]:
    """The bounding box of both masks (mask, z, y, x) with a margin; the whole scan if both are empty."""
    box = []
    for (start, stop), length in zip(nonzero_box(masks), masks.shape[1:], strict=True):
        margin = max(_LEAST_MARGIN, round((stop - start - 1) * _MARGIN))
        box.append(slice(max(0, start - margin), min(length, stop + margin)))
    return box


def _grey(image: np.ndarray) -> np.ndarray:
    """Grey values as uint8, from the 0.5th to the 99.5th percentile."""
    low, high = np.percentile(image, (0.5, 99.5))
    if high <= low:
        low, high = image.min(), image.max()
    scaled = (image - np.float32(low)) * np.float32(255 / (high - low) if high > low else 0)
    return np.clip(scaled, 0, 255).round().astype(np.uint8)


def _nifti(array: np.ndarray, affine: np.ndarray, intent: str = "none") -> str:
    """An array (z, y, x) as a NIfTI file, gzip, base64."""
    volume = nib.Nifti1Image(np.ascontiguousarray(array.astype(np.uint8).T), affine)
    volume.header.set_xyzt_units("mm")
    volume.header.set_intent(intent)
    return _packed(volume.to_bytes())


def _packed(content: bytes) -> str:
    """Gzip, base64; no time stamp, so that the output is reproducible."""
    return base64.b64encode(gzip.compress(content, 6, mtime=0)).decode("ascii")
