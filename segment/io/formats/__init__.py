"""Image formats: one class and one `register` call each; a file's suffix determines its format.

A custom format needs no change here. Write one file, such as ``raw3.py``, in the folder where you run the command::

    import json
    import math
    import numpy as np
    from segment.io.formats import Header, ImageFormat, register
    from segment.io.geometry import Grid

    class Raw3(ImageFormat):            # a line of JSON, then the voxels
        suffixes = (".raw3",)

        def read_header(self, path):    # position and number of the voxels; reads none
            with path.open("rb") as stream:
                content = json.loads(stream.readline(10_000))
                start = stream.tell()
            grid = Grid(tuple(content["shape"]), np.array(content["affine"], float))   # (z, y, x), to RAS+ millimetres
            return Header(grid, channels=1, dtype=np.dtype(content["dtype"]), source=start)

        def read_voxels(self, path, header, dtype):
            shape = (header.channels, *header.grid.shape)
            return np.fromfile(path, header.dtype, math.prod(shape), offset=header.source).reshape(shape)

        def write_label(self, path, array, like):
            content = {"shape": array.shape, "affine": like.grid.affine.tolist(), "dtype": array.dtype.str}
            path.write_bytes(json.dumps(content).encode() + b"\\n" + array.tobytes())

    register(Raw3())

and pass it to any command: ``segment check data=auto data.root=FOLDER formats=[raw3]``, ``segment train ...
formats=[raw3]``, ``segment predict ... formats=[raw3]``. ``export SEGMENT_FORMATS=raw3`` sets it once for all commands;
child processes also read this variable, whichever way they are started. In Python, import the file, or call
``import_formats(["raw3"])`` if you start other processes.

The rest of the program then treats these files like any others: it finds and checks them, refuses a header that
declares more voxels than the file can contain (for a compressed format, see `Header.unpacking`), refuses impossible
geometry, and writes masks atomically. Cached results on the scans are recomputed when ``raw3.py`` changes.
"""

from __future__ import annotations

import os

from segment.io.formats.analyze import Analyze
from segment.io.formats.base import DEFLATE_LIMIT, LZW_LIMIT, Doubt, Header, ImageFormat, require_possible_size
from segment.io.formats.dicom import Dicom
from segment.io.formats.gif import Gif
from segment.io.formats.hdf5 import Hdf5
from segment.io.formats.metaimage import DetachedMetaImage, MetaImage
from segment.io.formats.mgh import Mgh
from segment.io.formats.nifti import Nifti
from segment.io.formats.nrrd import DetachedNrrd, Nrrd, SegNrrd
from segment.io.formats.numpy_array import NumpyArray
from segment.io.formats.photo import Bmp, Jpeg
from segment.io.formats.png import Png
from segment.io.formats.pnm import Pnm
from segment.io.formats.registry import (
    VARIABLE,
    format_of,
    import_formats,
    is_custom,
    is_image_file,
    listed,
    mask_suffix,
    members,
    register,
    stem,
    suffix,
    suffixes,
    version_of,
)
from segment.io.formats.tiff import Tiff

__all__ = [
    "DEFLATE_LIMIT",
    "LZW_LIMIT",
    "Doubt",
    "Header",
    "ImageFormat",
    "format_of",
    "import_formats",
    "is_custom",
    "is_image_file",
    "listed",
    "mask_suffix",
    "members",
    "register",
    "require_possible_size",
    "stem",
    "suffix",
    "suffixes",
    "version_of",
]

for built_in in (
    *(Nifti, Analyze, Mgh, MetaImage, DetachedMetaImage, Nrrd, DetachedNrrd, SegNrrd),
    *(Png, Jpeg, Bmp, Gif, Pnm, Tiff, NumpyArray, Hdf5, Dicom),
):
    register(built_in())

import_formats([name for name in os.environ.get(VARIABLE, "").split(",") if name])
