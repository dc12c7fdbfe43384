"""HDF5, through h5py (the extra ``hdf5``)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from segment.errors import UserError
from segment.io.formats.base import DEFLATE_LIMIT, Header, ImageFormat
from segment.io.formats.numpy_array import array_header
from segment.io.geometry import Grid

IMAGES = ("image", "raw", "data", "img")
MASKS = ("label", "labels", "mask", "seg", "segmentation")
_SIZE = "element_size_um"  # of Fiji's and ilastik's exports, z, y, x
_MOST = 1000  # objects in a file
_CHUNK = 1 << 26


class Hdf5(ImageFormat):
    """A data set of an HDF5 file: (y, x), (z, y, x) or (channel, z, y, x).

    As an image, the data set called ``image``, ``raw``, ``data`` or ``img`` (or ``volumes/raw``); as a mask, ``label``,
    ``labels``, ``mask``, ``seg`` or ``segmentation``; else the only one. Links to other files are not followed, and
    voxels in other files are refused. An attribute ``element_size_um`` gives the voxel size; else a voxel counts as
    1 mm.
    """

    suffixes = (".h5", ".hdf5")

    def read_header(self, path: Path) -> Header:
        """Read shape, type and voxel size."""
        with _open(path) as file:
            found = _data_sets(path, file)
            image, mask = (_chosen(found, names) for names in (IMAGES, MASKS))
            if image is None:
                listed = ", ".join(sorted(found)[:10]) or "none"
                raise UserError(f"{path} has {len(found)} data sets ({listed}). Call the image 'image'.")
            header = _header(path, image, found[image])
            if mask is None:
                return replace(
                    header, unfit="has several data sets, none of them called 'label'. Rename that of the mask"
                )
            return replace(header, as_mask=_header(path, mask, found[mask]))

    def read_voxels(self, path: Path, header: Header, dtype: type[np.floating] | None) -> np.ndarray:
        """Read the voxels."""
        with _open(path) as file:
            return np.asarray(file[header.source][()]).reshape(header.channels, *header.grid.shape)

    def write_label(self, path: Path, array: np.ndarray, like: Header) -> None:
        """Write a mask as the data set ``label``."""
        with _open(path, "w", libver=("v110", "v110")) as file:  # whose headers have checksums
            data = file.create_dataset("label", data=array, compression="gzip", fletcher32=True)
            if not like.grid.assumed:
                data.attrs[_SIZE] = [1000 * size for size in like.grid.spacing]


def _open(path: Path, mode: str = "r", **options: Any) -> Any:
    try:
        import h5py
    except ImportError:
        raise UserError(f"{path} needs h5py. Install it: pip install 'segment[hdf5]'.") from None
    return h5py.File(path, mode, **options)


def _data_sets(path: Path, file: Any) -> dict[str, Any]:
    """The data sets by name, through hard links alone: others can lead to any file of this machine."""
    import h5py

    found: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        if len(found) > _MOST:
            raise UserError(f"{path} has more than {_MOST} data sets. Save each scan as its own file.")
        if isinstance(item, h5py.Dataset):
            found[name] = item

    file.visititems(visit)
    return found


def _chosen(found: dict[str, Any], names: Sequence[str]) -> str | None:
    matches = [place for name in names for place in sorted(found) if place.rsplit("/", 1)[-1].lower() == name]
    return matches[0] if matches else next(iter(found)) if len(found) == 1 else None


def _header(path: Path, name: str, data: Any) -> Header:
    if data.is_virtual or data.external:
        raise UserError(f"{path} keeps {name} in other files. Save it as a single file.")
    if data.chunks and math.prod(data.chunks) * data.dtype.itemsize > max(_CHUNK, data.nbytes):
        raise UserError(f"{path} stores {name} in chunks larger than itself. Save it again.")
    header = array_header(path, data.shape, data.dtype, DEFLATE_LIMIT)
    size = np.asarray(data.attrs.get(_SIZE, []), dtype=np.float64).ravel() / 1000
    if size.shape == (header.grid.ndim,) and (size > 0).all():
        affine = np.eye(4)
        affine[range(len(size)), range(len(size))] = size[::-1]
        return replace(header, grid=Grid(header.grid.shape, affine), source=name)
    return replace(header, source=name)
