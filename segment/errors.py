"""Mistakes a user can mend: one paragraph that names the file or key, what is wrong, how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in a file, a key or a value that the user gave; the command ends with exit code 2.

    Args:
        message: One paragraph: the file or key, what is wrong with it, and what to do.
    """


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Name the option nearest to a misspelt word.

    Args:
        word: What the user wrote.
        options: The names that exist.

    Returns:
        ``" Did you mean 'x'?"`` with a leading space, or an empty string when nothing is near.
    """
    near = difflib.get_close_matches(word, list(options), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""
