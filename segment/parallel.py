"""Work on many scans, shared out over all cores."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

from segment.errors import UserError

MANY = 16  # items that pay for the start of processes

T = TypeVar("T")
R = TypeVar("R")

_work: tuple[Callable[[Any], Any], Sequence[Any]] | None = None


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def on_all_cores(function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Apply a function to items on all cores.

    Many items are shared out over processes where these can be forked safely, since reading a small scan is mostly the
    interpreter's work, of which threads do one at a time; few over threads.

    Args:
        function: What is done with each; what it changes in memory may be lost.
        items: What it is applied to.

    Returns:
        The results in the order of the items, as they become ready.

    Raises:
        UserError: When a process was killed.
        Exception: The first that the function raises; what had not begun is then left.
    """
    many = len(items) >= MANY and cores() > 1 and sys.platform == "linux"
    pool: Executor = ThreadPoolExecutor(cores())
    if many:
        context = multiprocessing.get_context("fork")
        pool = ProcessPoolExecutor(cores(), context, initializer=_adopt, initargs=(function, items))
    # Threads of BLAS beside them, for matrices of 4 x 4, would take longer to meet than to work.
    with threadpool_limits(1, user_api="blas"), pool:
        try:
            yield from pool.map(_apply, range(len(items))) if many else pool.map(function, items)
        except BrokenProcessPool:
            raise UserError(
                "A process that read scans was killed, most likely because memory ran out. Free some, or use fewer "
                "cores (taskset -c 0 segment ...)."
            ) from None
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _adopt(function: Callable[[Any], Any], items: Sequence[Any]) -> None:
    """Make a forked process ready."""
    global _work
    _work = function, items
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers it
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__  # not a progress bar whose lock may be held
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _apply(index: int) -> Any:
    assert _work is not None
    function, items = _work
    return function(items[index])


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


class Room:
    """An amount, of voxels or bytes, that threads and forked processes may hold together.

    Args:
        size: The amount; who asks for more gets them when nobody else holds any.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._used = multiprocessing.RawValue("q", 0)
        self._freed = multiprocessing.Condition()

    @contextlib.contextmanager
    def taken(self, amount: int) -> Iterator[None]:
        """Wait until there is room, and hold it for the block.

        Args:
            amount: How much.
        """
        with self._freed:
            self._freed.wait_for(lambda: self._fits(amount))
            self._used.value += amount
        try:
            yield
        finally:
            with self._freed:
                self._used.value -= amount
                self._freed.notify_all()

    def _fits(self, amount: int) -> bool:
        used = self._used.value
        return used == 0 or used + amount <= self._size
