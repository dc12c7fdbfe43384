"""The processes of one training once they are connected: what one tells the others, and what all wait for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch

from segment.errors import UserError

LONGEST = timedelta(days=30)  # of a wait: one process may score for hours while the others have nothing to do

T = TypeVar("T")


class Peers:
    """This process and the others of its training; alone where no process group exists.

    All of them must call the constructor and each method equally often and in the same order.

    Attributes:
        rank: Number of this process over all machines.
        count: Number of processes.
    """

    def __init__(self) -> None:
        together = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.rank = torch.distributed.get_rank() if together else 0
        self.count = torch.distributed.get_world_size() if together else 1
        # The group of the training may have an accelerator's backend, and its waits end after half an hour.
        self._group = torch.distributed.new_group(backend="gloo", timeout=LONGEST) if together else None

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """The items of this process; each item is that of exactly one."""
        return items[self.rank :: self.count]

    def wait(self) -> None:
        """Wait until every process has come here.

        Raises:
            UserError: When another process has ended.
        """
        if self._group is not None:
            with _ended():
                torch.distributed.barrier(group=self._group)

    def told(self, value: T) -> T:
        """The value that the first process has.

        Raises:
            UserError: When another process has ended.
        """
        values: list[Any] = [value]
        if self._group is not None:
            with _ended():
                torch.distributed.broadcast_object_list(values, src=0, group=self._group)
        first: T = values[0]
        return first


@contextmanager
def _ended() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo's, whose text is about sockets
        raise UserError("another process of this training ended; its message says why.") from error
