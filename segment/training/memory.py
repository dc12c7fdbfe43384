"""Keep memory that a network on the CPU would otherwise free and allocate again in every step or window."""

from __future__ import annotations

import ctypes
import sys

# From glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Let this process keep the memory it frees, instead of returning it to the system and faulting it in again.

    The activations of a step or a window are large, so glibc maps each from the system and unmaps it when it is freed,
    and every new page is faulted in. This costs memory: the peak stays allocated until the end.

    Returns:
        Whether it could be set; only with glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
