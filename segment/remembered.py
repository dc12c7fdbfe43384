"""What is known of files' bytes, so that a later start reads none of them as long as nothing changes the files."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

SETTLED = 2.0
"""Seconds since a file's last change; within less, another change could leave the same time, as file systems round."""


def state_of(files: Iterable[Path], since: float | None = None) -> str | None:
    """Size, times of the last change of bytes and of anything else, and inode of files.

    Every write changes the second of the times, and no program can set it back.

    Args:
        files: The files.
        since: When their bytes were last read, in seconds since the epoch; None: now.

    Returns:
        A text that differs once a file was changed or replaced; None if one changed so shortly before that a further
        change would not be told.

    Raises:
        OSError: If one does not exist.
    """
    now = time.time() if since is None else since
    parts = []
    for file in files:
        status = file.stat()
        if now - max(status.st_mtime, status.st_ctime) < SETTLED:
            return None
        parts.append(f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}")
    return ", ".join(parts)
