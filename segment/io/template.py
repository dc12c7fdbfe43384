"""The MNI152 template of the brain, which nilearn carries."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np

from segment.errors import UserError

_FILE = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"


def brain_map(part: Literal["t1", "gm", "wm"], needed_by: str) -> tuple[np.ndarray, np.ndarray]:
    """Read a map of the template (Fonov et al. 2009) without importing nilearn, which would take seconds.

    Args:
        part: The T1 image without skull, or the probability of grey or white matter.
        needed_by: What needs it, for the error.

    Returns:
        The map, uint8 0..255, axes x, y, z of 1 mm, zero outside of the brain; the affine ``(4, 4)`` to MNI mm.

    Raises:
        UserError: If nilearn is not installed.
    """
    spec = importlib.util.find_spec("nilearn")
    folder = Path(spec.origin).parent / "datasets" / "data" if spec and spec.origin else Path("nilearn")
    path = folder / _FILE.format(part)
    if not path.is_file():
        raise UserError(f"{needed_by} needs {path.name} from the package nilearn, which is missing. Install it.")
    image: Any = nib.load(path)
    return np.asarray(image.dataobj), np.asarray(image.affine)
