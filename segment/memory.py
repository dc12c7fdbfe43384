"""The memory that this process can still take, and a refusal of work that needs more before any of it is allocated."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from segment.errors import UserError

GB = 1e9
SMALL = 1 << 28
"""Bytes that are granted without a look at the system."""

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


class InsufficientMemory(UserError):
    """The work at hand needs more memory than there is, whatever the file it concerns."""


def available_memory() -> int:
    """Bytes that this process can still take: what the system has, within the limits of its containers and of ulimit.

    A cgroup's file cache counts as free, since the kernel drops it when memory is needed.
    """
    import psutil

    return max(0, min([psutil.virtual_memory().available, *_left_in_cgroups(), *_left_of_address_space()]))


def require_memory(needed: float, what: str, advice: str) -> None:
    """Refuse work for which the memory does not suffice.

    Args:
        needed: Bytes it will take.
        what: What takes them, as the beginning of a sentence: ``scan.nii.gz: its 1,500,000,000 voxels``.
        advice: What to do, in one sentence.

    Raises:
        InsufficientMemory: If fewer bytes are available.
    """
    if needed <= SMALL:
        return
    available = available_memory()
    if needed > available:
        raise InsufficientMemory(
            f"{what} would take {needed / GB:,.1f} GB of memory, but only {available / GB:,.1f} GB are available. "
            f"{advice}"
        )


def _left_in_cgroups() -> Iterator[int]:
    """Bytes below the limits of this process's cgroup and of those around it, of version 1 or 2."""
    try:
        lines = OWN_CGROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = CGROUPS / "memory" if controllers else CGROUPS
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        limit, usage, cached = names if controllers else ("memory.max", "memory.current", "inactive_file")
        for part in (own := PurePosixPath(path.lstrip("/")), *own.parents):
            try:
                highest = int((root / part / limit).read_text())
                used = int((root / part / usage).read_text())
                statistics = dict(entry.split() for entry in (root / part / "memory.stat").read_text().splitlines())
            except (OSError, ValueError):  # not seen from within a container, or without limit ("max")
                continue
            yield highest - used + int(statistics.get(cached, 0))


def _left_of_address_space() -> Iterator[int]:
    """Bytes below ``ulimit -v``, if it is set."""
    import psutil

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        yield limit - psutil.Process().memory_info().vms
