"""Locks on files that processes of one or several machines share; none outlives the process that holds it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from segment.errors import UserError
from segment.files import PARTIAL, where_allowed
from segment.text import printable


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; the operating system releases it however the process ends.

    What a killed process left half-written in it is removed.

    Linux forwards the lock to the server on NFS, which releases it when this machine is gone.

    Args:
        folder: Created with its parents if missing, which are removed again if they are empty at the end.

    Raises:
        UserError: When another process holds it; the message names its host and number.
    """
    created = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    handle = _lock(path, wait=False)
    if handle is None:
        with contextlib.suppress(OSError):
            holder = path.read_text(errors="replace")[:500]
            raise UserError(
                f"{folder}: another run is using this folder ({printable(holder) or 'it has just started'}). Wait "
                "until it ends, stop it, or give another output= or name=."
            )
        raise UserError(f"{folder}: another run has just used this folder. Start again.")
    try:
        for left in folder.rglob(f"{PARTIAL}*"):
            left.unlink() if left.is_file() else shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        _release(path, handle)
        with contextlib.suppress(OSError):  # not empty
            for place in created:
                place.rmdir()


@contextlib.contextmanager
def holding(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold a lock for the block.

    Args:
        path: The lock's file, created with its folder and removed at the end.
        wait: Whether to wait until another process releases it.

    Yields:
        Whether it is held; False only without waiting. On a file system without locks, or where this process may not
        write, it always is.
    """
    handle = None
    with where_allowed():
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _lock(path, wait)
    try:
        yield handle is not None or not os.access(path.parent, os.W_OK)
    finally:
        if handle is not None:
            _release(path, handle)


def _lock(path: Path, wait: bool) -> int | None:
    """Lock a file, created if missing, and return its open descriptor; None if another process holds it."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(handle)
            return None
        except OSError:
            return handle  # a file system without locks
        except BaseException:  # interrupted while it waited
            os.close(handle)
            raise
        # The holder before may have removed the file that was opened here.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                os.ftruncate(handle, 0)
                with contextlib.suppress(OSError):  # a full disk, of which the next file to be written tells
                    os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
                return handle
        os.close(handle)


def _release(path: Path, handle: int) -> None:
    path.unlink(missing_ok=True)  # still locked, so that nobody else can have taken it
    with contextlib.suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_UN)  # a forked process may hold a copy of the descriptor
    os.close(handle)
