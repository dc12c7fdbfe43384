"""Arrays of whole scans that are held on disk."""

from __future__ import annotations

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
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, dtype, "w+", shape=tuple(shape))
