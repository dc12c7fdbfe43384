"""Mistakes that a user can fix: one paragraph that names the file or key, what is wrong, and how to fix it."""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in a file, key or value from the user; the command exits with code 2.

    Args:
        message: One paragraph: the file or key, what is wrong with it, and what to do.
    """


class Stopped(BaseException):
    """The command was interrupted (Ctrl-C) or terminated (SIGTERM). Not an `Exception`, so that nothing swallows it.

    Args:
        number: Number of the signal.
        resumes: Whether the same command goes on where this one was.
    """

    def __init__(self, number: int, resumes: bool = True) -> None:
        super().__init__(number)
        self.number = number
        self.resumes = resumes

    @property
    def code(self) -> int:
        """Exit code of the command: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + self.number

    def __str__(self) -> str:
        how = "interrupted" if self.number == signal.SIGINT else f"stopped by {signal.Signals(self.number).name}"
        return f"{how}. The same command resumes from here." if self.resumes else f"{how}."


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Suggest the option closest to a misspelt word.

    Args:
        word: What the user wrote.
        options: The names that exist.

    Returns:
        ``" Did you mean 'x'?"`` with a leading space, or an empty string when nothing is similar.
    """
    matches = difflib.get_close_matches(word, list(options), n=1, cutoff=0.6)
    return f" Did you mean {matches[0]!r}?" if matches else ""
