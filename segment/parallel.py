"""Parallel processing of many scans on all cores."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

import psutil
from threadpoolctl import threadpool_limits

from segment.errors import UserError
from segment.locks import holding

MANY = 16  # number of items from which starting processes pays off

T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S")

_work: tuple[Callable[[Any], Any], Sequence[Any]] | None = None


def cores() -> int:
    """Number of cores that this process may use, within its affinity and the quota of its container."""
    import joblib  # takes half a second

    count: int = joblib.cpu_count()
    return count


def local_rank() -> int | None:
    """Number of this process among those of this machine that torchrun or srun started together; None if none did."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ["LOCAL_RANK"])
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        return int(os.environ["SLURM_LOCALID"])
    return None


def launch_time() -> float:
    """When this process was started, in seconds since the epoch; of several that are started together, their parent."""
    process = psutil.Process()
    launcher = None if local_rank() is None else process.parent()
    return (launcher or process).create_time()


def on_all_cores(function: Callable[[T], R], items: Sequence[T], processes: bool = True) -> Iterator[R]:
    """Apply a function to items on all cores.

    Many items are distributed over processes if these can be forked safely, since reading a small scan is mostly
    interpreter work, which the GIL serialises between threads. Few items are distributed over threads.

    Args:
        function: The function; its changes to memory may be lost.
        items: The items.
        processes: Whether to fork processes for many items; after a training, whose threads hold locks, they may hang.

    Returns:
        The results in the order of the items, as they become ready.

    Raises:
        UserError: When a process was killed.
        Exception: The first that the function raises; items that have not been started are then cancelled.
    """
    many = processes and len(items) >= MANY and cores() > 1 and sys.platform == "linux"
    pool: Executor = ThreadPoolExecutor(cores())
    if many:
        context = multiprocessing.get_context("fork")
        pool = ProcessPoolExecutor(cores(), context, initializer=_initialize, initargs=(function, items))
    # With matrices of 4 x 4, synchronising further BLAS threads would take longer than the computation.
    with threadpool_limits(1, user_api="blas"), pool:
        try:
            yield from pool.map(_apply, range(len(items))) if many else pool.map(function, items)
        except BrokenProcessPool:
            raise UserError(
                "A process that read scans was killed, most likely because memory ran out. Free some memory, or use "
                "fewer cores (taskset -c 0 segment ...)."
            ) from None
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def with_others(
    work: Callable[[T], R], items: Sequence[T], lock: Callable[[T], Path], processes: bool = True
) -> Iterator[tuple[T, R]]:
    """Apply a function to items on all cores, together with other processes and machines that do the same work.

    No item is worked on twice at a time: one that another process holds is left until the end and then waited for.

    Args:
        work: Applied to an item while its lock is held. It must look first whether the result is there by now.
        items: The items.
        lock: File of an item's lock, in a folder that all processes see.
        processes: See `on_all_cores`.

    Yields:
        Each item and its result, those that others held last.
    """

    def attempt(item: T) -> tuple[R] | None:
        with holding(lock(item), wait=False) as held:
            return (work(item),) if held else None

    def wait(item: T) -> R:
        with holding(lock(item)):
            return work(item)

    left = []
    for item, found in zip(items, on_all_cores(attempt, items, processes), strict=True):
        if found is None:
            left.append(item)
        else:
            yield item, found[0]
    yield from zip(left, on_all_cores(wait, left, processes), strict=True)


def _initialize(function: Callable[[Any], Any], items: Sequence[Any]) -> None:
    """Initialise a forked process."""
    global _work
    _work = function, items
    for number in (signal.SIGINT, signal.SIGUSR1):  # the parent handles them
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not the handler that is inherited from the parent
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


def overlapped(
    read: Callable[[T], R], work: Callable[[T, R], S], write: Callable[[T, S], None], items: Sequence[T]
) -> Iterator[T]:
    """Read, process and write items in order; the next is read and the last is written while one is processed.

    Args:
        read: Reads an item, in a thread of its own.
        work: Processes what was read.
        write: Writes the result, in another thread.
        items: The items.

    Yields:
        Each item once it is written.

    Raises:
        Exception: The first that a function raises, once the items before it are written.
    """
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        following = reader.submit(read, items[0]) if items else None
        written: tuple[T, Future[None]] | None = None
        try:
            for index, item in enumerate(items):
                assert following is not None
                value = following.result()
                following = reader.submit(read, items[index + 1]) if index + 1 < len(items) else None
                result = work(item, value)
                del value  # a whole scan
                if written is not None:
                    written[1].result()
                    yield written[0]
                written = item, writer.submit(write, item, result)
        finally:
            if following is not None:
                following.cancel()
            if written is not None:
                written[1].result()
        if written is not None:
            yield written[0]


def read_ahead(read: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Read items in order; the next one is read in a thread while the caller uses one."""
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(read, items[0]) if items else None
        for index in range(len(items)):
            assert following is not None
            value = following.result()
            following = reader.submit(read, items[index + 1]) if index + 1 < len(items) else None
            yield value
            del value  # a whole scan


class Room:
    """A limit on the total amount, of voxels or bytes, that threads and forked processes may hold at once.

    Args:
        size: The limit; a request beyond it is granted when nothing else is held.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._used = multiprocessing.RawValue("q", 0)
        self._freed = multiprocessing.Condition()

    @contextlib.contextmanager
    def taken(self, amount: int) -> Iterator[None]:
        """Wait until the amount fits into the limit, and hold it for the block.

        Args:
            amount: The amount.
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
