"""Registry of image formats by suffix, including custom formats."""

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
from segment.text import one_line
from segment.user_modules import allow

VARIABLE = "SEGMENT_FORMATS"  # modules, separated by commas; inherited by child processes

_SUFFIX = re.compile(r"(\.[a-z0-9_+-]+)+")
_MEMBERS = (
    *("suffixes", "mask_suffix", "dimensions", "label_types", "revision"),
    *("read_header", "read_voxels", "write_label", "members", "recognise", "doubts"),
)

_formats: dict[str, ImageFormat] = {}  # by suffix
_versions: dict[str, str] = {}  # by suffix


def register(image_format: ImageFormat) -> None:
    """Register a format, which then reads and writes files with its suffixes.

    Args:
        image_format: An instance of its class.

    Raises:
        ValueError: If a suffix is not lower case with a dot, or is already registered.
        TypeError: If a member of `ImageFormat` is missing.
    """
    kind = type(image_format)
    missing = [name for name in _MEMBERS if not hasattr(image_format, name)]
    if missing:
        raise TypeError(f"{kind.__name__} has no {missing[0]}; derive it from ImageFormat and implement its interface")
    if isinstance(image_format.suffixes, str):
        raise TypeError(f"{kind.__name__}.suffixes is a string; give a tuple: ({image_format.suffixes!r},)")
    for end in image_format.suffixes:
        if not _SUFFIX.fullmatch(end):
            raise ValueError(f"{end!r} is not a suffix: give lower case with the dot, such as '.nii.gz'")
        if end in _formats:
            raise ValueError(f"{end} is already read by {type(_formats[end]).__name__}")
    version = image_format.revision if _is_built_in(kind) else _version(kind)
    for end in image_format.suffixes:
        _formats[end], _versions[end] = image_format, version


def import_formats(modules: str | Sequence[str]) -> None:
    """Import custom modules that register formats, in this process and its child processes.

    Args:
        modules: Names as ``import`` takes them, such as ``["my_formats"]``.

    Raises:
        UserError: If one cannot be imported.
    """
    names = [modules] if isinstance(modules, str) else list(modules)
    for name in names:
        try:
            allow(name)
            importlib.import_module(name)
        except Exception as error:
            reason = one_line(error)
            raise UserError(
                f"formats: {name} cannot be imported ({reason}). Is it in this folder or on PYTHONPATH?"
            ) from error
    if names:
        before = [name for name in os.environ.get(VARIABLE, "").split(",") if name]
        os.environ[VARIABLE] = ",".join(dict.fromkeys([*before, *names]))


def suffixes() -> tuple[str, ...]:
    """Suffixes of all formats, in order of registration."""
    return tuple(_formats)


def listed() -> str:
    """The suffixes for a message: ``.nii.gz, .nii, ...``."""
    return ", ".join(_formats)


def format_of(path: Path | str) -> ImageFormat | None:
    """The format of a file by its name, else by its first bytes; None if unknown.

    Args:
        path: A file; need not exist.
    """
    named = _formats.get(suffix(path))
    return named or next((kind for kind in dict.fromkeys(_formats.values()) if kind.recognise(Path(path))), None)


def members(path: Path | str) -> tuple[Path, ...]:
    """The files that a scan consists of.

    Args:
        path: The file that stands for the scan.

    Returns:
        The file itself; with its voxels in another one, both.

    Raises:
        Exception: If the file cannot be read.
    """
    kind = format_of(path)
    return (Path(path),) if kind is None else kind.members(Path(path))


def version_of(path: Path | str) -> str:
    """Version of the reader of a file; cached results on a file are valid as long as it does not change.

    Args:
        path: A file; need not exist.

    Returns:
        A hash of a custom format's source file; a built-in one's `ImageFormat.revision`, which may be empty.
    """
    return _versions.get(suffix(path), "")


def is_custom(path: Path | str) -> bool:
    """Whether the format of a file is not built in.

    Args:
        path: A file; need not exist.
    """
    image_format = format_of(path)
    return image_format is not None and not _is_built_in(type(image_format))


def mask_suffix(path: Path | str) -> str:
    """Suffix of the mask of a scan: that of the scan, if its format can store masks.

    Args:
        path: A file of the scan; need not exist.

    Returns:
        As the name of the scan spells it; for example ``.png`` for the photograph ``eye.jpg``.
    """
    image_format = format_of(path)
    return (image_format.mask_suffix if image_format is not None else "") or Path(path).name[len(stem(path)) :]


def suffix(path: Path | str) -> str:
    """The format suffix of a file name.

    Args:
        path: A file; need not exist.

    Returns:
        The longest of `suffixes` that the name ends with, else its last suffix, in lower case.
    """
    name = Path(path).name.lower()
    return max((end for end in _formats if name.endswith(end)), key=len, default=Path(name).suffix)


def stem(path: Path | str) -> str:
    """The file name without its format suffix.

    Args:
        path: A file; need not exist.

    Returns:
        ``scan`` for ``folder/scan.nii.gz``.
    """
    name = Path(path).name
    return name[: len(name) - len(suffix(name))]


def is_image_file(path: Path | str) -> bool:
    """Whether the name is that of an image file; hidden files (such as macOS's ``._scan.nii.gz``) are excluded.

    Args:
        path: A file; need not exist.

    Returns:
        True if the name ends with one of `suffixes` and does not begin with a dot.
    """
    return suffix(path) in _formats and not Path(path).name.startswith(".")


def _is_built_in(kind: type) -> bool:
    return kind.__module__.startswith("segment.")


def _version(kind: type) -> str:
    try:
        return file_sha256(Path(inspect.getfile(kind)))
    except (TypeError, OSError):  # defined at an interactive prompt
        return f"{kind.__module__}.{kind.__qualname__}"
