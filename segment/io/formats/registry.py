"""The formats that are known by now: by suffix, and where one of the user's own comes from."""

from __future__ import annotations

import importlib
import inspect
import os
import re
from collections.abc import Sequence
from pathlib import Path

from segment.errors import UserError
from segment.files import file_sha256
from segment.io.formats.base import ImageFormat

VARIABLE = "SEGMENT_FORMATS"  # modules, separated by commas; processes that are started take it over

_SUFFIX = re.compile(r"(\.[a-z0-9_+-]+)+")
_MEMBERS = ("suffixes", "dimensions", "label_types", "read_header", "read_voxels", "write_label", "doubts")

_known: dict[str, ImageFormat] = {}  # by suffix
_versions: dict[str, str] = {}  # by suffix


def register(image_format: ImageFormat) -> None:
    """Make a format known: files of its suffixes are read and written by it from now on.

    Args:
        image_format: An instance of its class.

    Raises:
        ValueError: When a suffix is no lower-case ending with a dot, or is another format's already.
        TypeError: When it lacks something that an `ImageFormat` has.
    """
    kind = type(image_format)
    missing = [name for name in _MEMBERS if not hasattr(image_format, name)]
    if missing:
        raise TypeError(f"{kind.__name__} has no {missing[0]}; make ImageFormat its base and see what that has")
    if isinstance(image_format.suffixes, str):
        raise TypeError(f"{kind.__name__}.suffixes is a text; give a tuple: ({image_format.suffixes!r},)")
    for end in image_format.suffixes:
        if not _SUFFIX.fullmatch(end):
            raise ValueError(f"{end!r} is no suffix: give lower case with the dot, such as '.nii.gz'")
        if end in _known:
            raise ValueError(f"{end} is read by {type(_known[end]).__name__} already")
    version = _version(kind)
    for end in image_format.suffixes:
        _known[end], _versions[end] = image_format, version


def import_formats(modules: str | Sequence[str]) -> None:
    """Import modules of the user's own that register formats, here and in every process that is started from here.

    Args:
        modules: Names as ``import`` takes them, such as ``["my_formats"]``.

    Raises:
        UserError: When one cannot be imported.
    """
    names = [modules] if isinstance(modules, str) else list(modules)
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"formats: {name} cannot be imported ({reason}). Is it here or on PYTHONPATH?") from error
    if names:
        before = [name for name in os.environ.get(VARIABLE, "").split(",") if name]
        os.environ[VARIABLE] = ",".join(dict.fromkeys([*before, *names]))


def suffixes() -> tuple[str, ...]:
    """Suffixes of all formats, in the order in which these were registered."""
    return tuple(_known)


def listed() -> str:
    """The suffixes for a message: ``.nii.gz, .nii, ...``."""
    return ", ".join(_known)


def format_of(path: Path | str) -> ImageFormat | None:
    """The format that a file's name says; None for one that is not known.

    Args:
        path: A file; need not exist.
    """
    return _known.get(suffix(path))


def version_of(path: Path | str) -> str:
    """What tells one reader of a file from a later one: what is remembered of a file holds as long as it is the same.

    Args:
        path: A file; need not exist.

    Returns:
        A hash of the source file that a format of the user's own is written in; empty for the built-in formats.
    """
    return _versions.get(suffix(path), "")


def suffix(path: Path | str) -> str:
    """The format part of a file name.

    Args:
        path: A file; need not exist.

    Returns:
        The longest of `suffixes` that the name ends in, or the plain last suffix, in lower case.
    """
    name = Path(path).name.lower()
    return max((end for end in _known if name.endswith(end)), key=len, default=Path(name).suffix)


def stem(path: Path | str) -> str:
    """The file name without its format.

    Args:
        path: A file; need not exist.

    Returns:
        ``scan`` for ``folder/scan.nii.gz``.
    """
    name = Path(path).name
    return name[: len(name) - len(suffix(name))]


def is_image_file(path: Path | str) -> bool:
    """Whether the name is that of an image file; hidden files (macOS writes ``._scan.nii.gz``) are not.

    Args:
        path: A file; need not exist.

    Returns:
        True when the name ends in one of `suffixes` and does not begin with a dot.
    """
    return suffix(path) in _known and not Path(path).name.startswith(".")


def _version(kind: type) -> str:
    if kind.__module__.startswith("segment."):
        return ""
    try:
        return file_sha256(Path(inspect.getfile(kind)))
    except (TypeError, OSError):  # typed in at a prompt
        return f"{kind.__module__}.{kind.__qualname__}"
