"""Reads what ``torch.save`` wrote as plain data, with a bound on the memory: the files are untrusted."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch


def load_plain(path: Path) -> Any:
    """Read a file of ``torch.save`` on the CPU, mapped into memory where its format allows it; no code in it runs.

    Args:
        path: The file.

    Raises:
        ValueError: If its entries are compressed, so that a small file could fill the memory.
        Exception: What torch raises on a damaged file, or on one that is not plain data.
    """
    with path.open("rb") as file:
        # Files from before torch 1.6, as many published ones are, are not archives and cannot be mapped.
        mapped = file.read(4) == b"PK\x03\x04"
    if mapped:
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("its entries are compressed, unlike those of torch.save")
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def require_stored(tensors: Iterable[torch.Tensor], path: Path) -> None:
    """Refuse tensors that are larger than their file: a view may expand one stored value to any shape.

    Args:
        tensors: Tensors that `load_plain` read.
        path: The file.

    Raises:
        ValueError: If one is.
    """
    size = path.stat().st_size
    if any(value.nbytes > size for value in tensors):
        raise ValueError("a tensor is larger than the file; save it in full: tensor.contiguous()")
