"""A made-up format: a line of JSON, then the voxels in memory order, one channel after another."""

import json
import math
from pathlib import Path

import numpy as np

from segment.io.formats import Header, ImageFormat, register
from segment.io.geometry import Grid


class Raw3(ImageFormat):
    suffixes = (".raw3",)
    dimensions = (3,)

    def read_header(self, path: Path) -> Header:
        with path.open("rb") as stream:
            header = json.loads(stream.readline(10_000))
            start = stream.tell()
        grid = Grid(tuple(header["shape"]), np.array(header["affine"], float))
        return Header(grid, header.get("channels", 1), np.dtype(header["dtype"]), source=start)

    def read_voxels(self, path, header, dtype):
        shape = (header.channels, *header.grid.shape)
        return np.fromfile(path, header.dtype, math.prod(shape), offset=header.source).reshape(shape)

    def write_label(self, path, array, like):
        header = {"shape": array.shape, "affine": like.grid.affine.tolist(), "dtype": array.dtype.str}
        path.write_bytes(json.dumps(header).encode() + b"\n" + array.tobytes())


register(Raw3())
