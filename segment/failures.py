"""Failures of the system rather than of the program: a full disk, missing rights, too little memory, a killed process.

They are recognised by error number, or by what libraries that hide it say, and are explained in one paragraph.
"""

from __future__ import annotations

import errno
import os
import re

from segment.text import one_line

_SPACE = "Free some space, or give a folder on another disk (output=, cache=)."
_RIGHTS = "Give a folder that you may write to (output=, cache=), or change its permissions."
_DEVICE = "Check the disk or the network drive."
_FIXES = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: "Raise the limit (ulimit -f unlimited).",
    errno.EROFS: _RIGHTS,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.ENAMETOOLONG: "Give a shorter path (output=, name=, cache=).",
    errno.ENOTDIR: "A part of the path is a file, not a folder. Give another path.",
    errno.EISDIR: "It is a folder, not a file. Give another path.",
    errno.EEXIST: "A file is in the way. Remove it, or give another path.",
    errno.ELOOP: "Its links form a circle. Give another path.",
    errno.ENOENT: "It is missing, or was removed meanwhile. Restore it, or give another path.",
    errno.ENXIO: _DEVICE,
    errno.ENODEV: _DEVICE,
    errno.EIO: _DEVICE,
    errno.ESTALE: _DEVICE,
    errno.ETIMEDOUT: _DEVICE,
    errno.EMFILE: "Raise the limit of open files (ulimit -n 4096), or use fewer workers (sampler.workers=0).",
    errno.ENFILE: "The whole system has too many open files. Close other programs.",
    errno.ENOMEM: "Free some memory, or use a smaller plan.patch_size or plan.batch_size.",
    errno.EAGAIN: "Raise the limit of processes (ulimit -u), or use fewer workers (sampler.workers=0).",
}
_MEMORY = "Free some memory, or use a smaller plan.patch_size or plan.batch_size, or fewer workers (sampler.workers=0)."
# What libraries say that raise their own errors: torch's writer of checkpoints, its shared memory, safetensors, blosc2.
_SAID = (
    (r"[^\n]*(?:No space left on device|was not written whole)[^\n]*", _SPACE),
    (r"[^\n]*(?:unable to (?:mmap|allocate shared memory)|insufficient shared memory|bus error)[^\n]*",
     "Enlarge /dev/shm (docker run --shm-size=8g), or use no workers (sampler.workers=0)."),
    (r"[^\n]*(?:PytorchStreamWriter failed|unexpected pos)[^\n]*", _SPACE),
    (r"[^\n]*DataLoader worker[^\n]* (?:is killed by signal|exited unexpectedly)[^\n]*", _MEMORY),
    (r"[^\n]*(?:can't allocate memory|not enough memory|out of memory)[^\n]*", _MEMORY),
)  # fmt: skip


def explain_failure(error: BaseException) -> str | None:
    """Explain a failure of the system in one paragraph.

    Args:
        error: Any exception; what it was raised from is looked at too, but not what was merely being handled, so that a
            mistake of the program there is not taken for a failure.

    Returns:
        The file, what is wrong and what to do; None if it is a mistake of the program.
    """
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        if message := _explained(cause):
            return message
        seen.append(cause)
        cause = cause.__cause__
    return None


def _explained(error: BaseException) -> str | None:
    if isinstance(error, MemoryError):
        return f"memory is full ({one_line(error)[:200] or 'out of memory'}). {_MEMORY}"
    if isinstance(error, OSError) and error.errno in _FIXES:
        file = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        return f"{file}{error.strerror}. {_FIXES[error.errno]} Then start the same command again; it goes on."
    if isinstance(error, OSError | RuntimeError):
        for pattern, fix in _SAID:
            if found := re.search(pattern, str(error), re.IGNORECASE):
                return f"{' '.join(found[0].split())[:300].rstrip('.')}. {fix} Then start the same command again."
    return None
