"""Hashes of scans, whatever the number of their files."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from segment.files import file_sha256
from segment.io.formats import members


def scan_sha256(path: Path) -> str:
    """SHA-256 of a scan's bytes.

    Args:
        path: The file that stands for the scan.

    Returns:
        That of the file; of a scan of several files, that of their hashes.

    Raises:
        OSError: If a file cannot be read.
    """
    files: tuple[Path, ...] = (path,)
    with contextlib.suppress(Exception):  # of a damaged file, which is reported when it is read
        files = members(path)
    if files == (path,):
        return file_sha256(path)
    return hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest()


def hash_scans(paths: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of many scans, see `scan_sha256`, read in parallel; keys are the paths as given."""
    unique = list(dict.fromkeys(paths))
    with ThreadPoolExecutor() as pool:
        return {str(path): digest for path, digest in zip(unique, pool.map(scan_sha256, unique), strict=True)}
