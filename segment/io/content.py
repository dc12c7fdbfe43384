"""Hashes of scans, whatever the number of their files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from segment.errors import UserError
from segment.files import file_sha256, read_mapping, where_allowed, write_text
from segment.io.formats import members
from segment.locks import holding
from segment.remembered import state_of


def scan_sha256(path: Path) -> str:
    """SHA-256 of a scan's bytes.

    Args:
        path: The file that stands for the scan.

    Returns:
        That of the file; of a scan of several files, that of their hashes.

    Raises:
        OSError: If a file cannot be read.
    """
    files = _files(path)
    if files == (path,):
        return file_sha256(path)
    return hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest()


def hash_scans(paths: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of many scans, see `scan_sha256`, read in parallel; keys are the paths as given."""
    unique = list(dict.fromkeys(paths))
    with ThreadPoolExecutor() as pool:
        return {str(path): digest for path, digest in zip(unique, pool.map(scan_sha256, unique), strict=True)}


def remembered_hashes(paths: Sequence[Path], memory: Path | None) -> dict[str, str]:
    """SHA-256 of scans, see `scan_sha256`; a file is read only if it was changed since it was last hashed.

    Of several processes that need the same hashes, one computes them while the others wait.

    Args:
        paths: The scans; those that cannot be read are left out.
        memory: A JSON file that keeps what was computed, with the state of the files; None: every file is read.

    Returns:
        Path as given to hash.
    """
    if memory is None:
        return {path: digest for path, (_, digest) in _hashed(paths).items()}
    found, left = _recalled(paths, memory)
    if left:
        with holding(memory.with_suffix(".lock")):
            more, left = _recalled(left, memory)
            new = _hashed(left)
            kept = {str(Path(path).absolute()): entry for path, entry in new.items() if entry[0] is not None}
            if kept:
                with where_allowed():
                    write_text(memory, json.dumps(_read(memory) | kept, separators=(",", ":")))
        found |= more | {path: digest for path, (_, digest) in new.items()}
    return found


def _files(path: Path) -> tuple[Path, ...]:
    """The files of a scan."""
    with contextlib.suppress(Exception):  # of a damaged file, which is reported when it is read
        return members(path)
    return (path,)


def _hashed(paths: Sequence[Path]) -> dict[str, tuple[str | None, str]]:
    """State before it was read, and hash, of every scan that can be read."""

    def one(path: Path) -> tuple[str | None, str] | None:
        with contextlib.suppress(OSError, UserError):
            state = state_of(_files(path), began)
            digest = scan_sha256(path)
            return (state if state == state_of(_files(path), began) else None), digest
        return None

    began = time.time()
    with ThreadPoolExecutor() as pool:
        done = zip(paths, pool.map(one, paths), strict=True)
        return {str(path): entry for path, entry in done if entry is not None}


def _recalled(paths: Sequence[Path], memory: Path) -> tuple[dict[str, str], list[Path]]:
    """Hashes of the files that were not changed since they were kept, by path; and the other paths."""
    kept, found, left = _read(memory), dict[str, str](), list[Path]()
    for path in paths:
        entry = kept.get(str(path.absolute()))
        state = None
        with contextlib.suppress(OSError):
            state = state_of(_files(path)) if entry else None
        if isinstance(entry, list) and len(entry) == 2 and state is not None and entry[0] == state:
            found[str(path)] = str(entry[1])
        else:
            left.append(path)
    return found, left


def _read(memory: Path) -> dict[str, Any]:
    try:
        return read_mapping(memory)
    except UserError:  # missing, or damaged
        return {}
