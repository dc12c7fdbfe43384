"""Which scan is whose, where several processes predict into one folder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from segment.locks import holding


class Claims:
    """Locks of scans, which end with the process that holds them, however it ends; used within a ``with`` block.

    Args:
        output: Folder of the masks, which all processes see.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self._held: dict[str, Callable[[], None]] = {}

    def take(self, name: str) -> bool:
        """Take a scan, by the name of its mask, unless another process has it; does not wait."""
        stack = contextlib.ExitStack()
        if not stack.enter_context(holding(self.output / f".{name}.lock", wait=False)):
            return False
        self._held[name] = stack.close
        return True

    def release(self, name: str) -> None:
        """Release a scan, if this process has it."""
        if close := self._held.pop(name, None):
            close()

    def __enter__(self) -> Claims:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for name in [*self._held]:
            self.release(name)
