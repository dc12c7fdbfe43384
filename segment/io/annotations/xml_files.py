"""Untrusted XML: no entities, no other files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segment.errors import UserError
from segment.io.annotations.shapes import numbers, read_bytes


def read_xml(file: Path) -> Any:
    """Read an XML file.

    Args:
        file: The file.

    Returns:
        Its root element.

    Raises:
        UserError: If it is damaged or defines entities, which could expand without bound or name another file.
    """
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    try:
        return fromstring(read_bytes(file), forbid_dtd=True)
    except DefusedXmlException as error:
        raise UserError(f"{file} defines entities, which annotations need not ({type(error).__name__}).") from error
    except (ParseError, ValueError, LookupError, RecursionError) as error:
        raise UserError(f"{file} is not valid XML ({error}). Fix it or export it again.") from error


def text_of(element: Any, path: str) -> str:
    """The text of a child; empty if there is none."""
    return str(element.findtext(path) or "").strip()


def size_of(width: str, height: str, file: Path) -> tuple[int, int] | None:
    """Width and height that a file states; None if it states none or 0, as LabelImg does for an unread image."""
    if not width or not height:
        return None
    found = tuple(int(number) for number in numbers((width, height), file))
    return (found[0], found[1]) if min(found) > 0 else None
