"""Image formats: one class and one `register` line each; what a file is goes by the suffix of its name.

A format of your own needs no change here. Write one file, such as ``raw3.py`` beside where you start the command::

    import json
    import math
    import numpy as np
    from segment.io.formats import Header, ImageFormat, register
    from segment.io.geometry import Grid

    class Raw3(ImageFormat):            # a line of JSON, then the voxels
        suffixes = (".raw3",)

        def read_header(self, path):    # where the voxels lie and how many there are; reads none
            with path.open("rb") as stream:
                told = json.loads(stream.readline(10_000))
                start = stream.tell()
            grid = Grid(tuple(told["shape"]), np.array(told["affine"], float))   # (z, y, x), to RAS+ millimetres
            return Header(grid, channels=1, dtype=np.dtype(told["dtype"]), source=start)

        def read_voxels(self, path, header, dtype):
            shape = (header.channels, *header.grid.shape)
            return np.fromfile(path, header.dtype, math.prod(shape), offset=header.source).reshape(shape)

        def write_label(self, path, array, like):
            told = {"shape": array.shape, "affine": like.grid.affine.tolist(), "dtype": array.dtype.str}
            path.write_bytes(json.dumps(told).encode() + b"\\n" + array.tobytes())

    register(Raw3())

and name it to any verb: ``segment check data=auto data.root=FOLDER formats=[raw3]``, ``segment train ...
formats=[raw3]``, ``segment predict ... formats=[raw3]``. ``export SEGMENT_FORMATS=raw3`` says the same once for all
commands; that is also how the processes that a command starts learn of it, whichever way they are started. In Python,
import the file, or call ``import_formats(["raw3"])`` where processes are started.

The rest of the program then treats the files as any other: it finds and checks them, refuses a header that promises
more than the file holds before a voxel is read (a format that compresses says how well, `Header.unpacking`), refuses
impossible geometry, and writes masks aside first. What it remembers of the scans is made anew when ``raw3.py`` changes.
"""

from __future__ import annotations

import os

from segment.io.formats.base import DEFLATE_LIMIT, LZW_LIMIT, Doubt, Header, ImageFormat, require_possible_size
from segment.io.formats.metaimage import MetaImage
from segment.io.formats.nifti import Nifti
from segment.io.formats.nrrd import Nrrd
from segment.io.formats.png import Png
from segment.io.formats.registry import (
    VARIABLE,
    format_of,
    import_formats,
    is_image_file,
    listed,
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
    "is_image_file",
    "listed",
    "register",
    "require_possible_size",
    "stem",
    "suffix",
    "suffixes",
    "version_of",
]

register(Nifti())
register(MetaImage())
register(Nrrd())
register(Png())
register(Tiff())

import_formats([name for name in os.environ.get(VARIABLE, "").split(",") if name])
