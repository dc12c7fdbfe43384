"""Arrays of whole scans that are held on disk."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def held(shape: Sequence[int], dtype: type[np.floating] = np.float16, folder: Path | None = None) -> np.ndarray:
    """An array of zeros in a file without a name, which is gone with the array or the process, however that ends.

    Args:
        shape: Of the array.
        dtype: Of its values.
        folder: On whose disk it is; None: that of temporary files.

    Raises:
        OSError: When the disk is full.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):  # a disk that turns out to be full later would kill the process
            try:
                os.posix_fallocate(file.fileno(), 0, math.prod(shape) * np.dtype(dtype).itemsize)
            except OSError as error:
                error.filename = str(folder or tempfile.gettempdir())
                raise
        return np.memmap(file, dtype, "w+", shape=tuple(shape))
