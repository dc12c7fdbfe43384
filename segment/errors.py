"""Mistakes that a user can fix: one paragraph that names the file or key, what is wrong, and how to fix it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in a file, key or value from the user; the command exits with code 2.

    Args:
        message: One paragraph: the file or key, what is wrong with it, and what to do.
    """


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
