"""Files: atomic writes, hashes, and reading small files with errors that name the file."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import math
import os
import re
import shutil
import socket
import stat
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from segment.errors import UserError
from segment.text import one_line

PARTIAL = ".partial-"  # begins the names of files that are being written
DAY = 86_400  # seconds
DEEPEST = 200  # levels of a YAML file
MAX_BYTES = 1 << 28  # of a file of named values; provenance lists every file of a data set


class PlainLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The safe loader, in C where it is installed, rejecting repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Reject a duplicated key."""
        _require_different(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


def _from_yaml(text: str) -> Any:
    """Plain values; aliases, of which a few lines expand without bound, and deep nesting are rejected unread."""
    depth = 0
    for event in yaml.parse(text, Loader=PlainLoader):
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError("it uses a YAML alias; write the values out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise yaml.YAMLError(f"it is nested more than {DEEPEST} deep")
    return yaml.load(text, Loader=PlainLoader)  # noqa: S506 - a subclass of the safe loader


def _from_json(text: str) -> Any:
    """Plain values; repeated keys, of which the last would count, are rejected."""
    return json.loads(text, object_pairs_hook=_as_dict)


def _as_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _require_different(key for key, _ in pairs)
    return dict(pairs)


def _require_different(keys: Iterable[str]) -> None:
    duplicate = next((key for key, count in Counter(keys).items() if count > 1), None)
    if duplicate is not None:
        raise ValueError(f"the key {duplicate[:100]!r} is duplicated")


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, which replaces ``path`` only if the block ends without an exception.

    Args:
        path: The file to write; missing parent folders are created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays at the end, since image writers choose the format by it.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=_prefix(), suffix=f"-{path.name}")
    os.close(handle)
    temporary = Path(name)
    try:
        with with_reason(temporary, path):
            yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def with_reason(path: Path, named: Path | None = None) -> Iterator[None]:
    """Raise the system's error where a library hides it, such as a full disk, that kept it from writing a file.

    Args:
        path: The file that is written in the block.
        named: What the error names; None: ``path``.

    Raises:
        OSError: When the block raises an error without its number, and a further MiB cannot be written either.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        try:
            with path.open("ab") as file:  # at the end of what there is, or a new file
                file.write(bytes(1 << 20))
        except OSError as reason:
            raise OSError(reason.errno, reason.strerror, str(named or path)) from error
        raise


@contextlib.contextmanager
def where_allowed() -> Iterator[None]:
    """End the block without an exception at the first file that this process may not write."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise


@contextlib.contextmanager
def partial_folder(parent: Path) -> Iterator[Path]:
    """Yield a temporary folder, which is removed at the end unless it was renamed; missing parents are created."""
    parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=parent, prefix=_prefix()))
    try:
        with with_reason(temporary / "probe", parent):
            yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder, but not what others are writing.

    Args:
        folder: Need not exist; its subfolders are not searched.
    """
    for path in folder.glob(f"{PARTIAL}*"):
        with contextlib.suppress(OSError):  # removed meanwhile, or somebody else's
            if _is_left(path):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() and not path.is_symlink() else path.unlink()


def _is_left(path: Path) -> bool:
    """Whether the process of this machine that wrote a file is gone, or another machine's file is a day old."""
    named = re.match(rf"{re.escape(PARTIAL)}([0-9a-f]+)-(\d{{1,10}})-", path.name)
    if named is None or named[1] != _host():
        return time.time() - path.lstat().st_mtime > DAY
    try:
        os.kill(int(named[2]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False


def writable_by_others(folder: Path) -> bool:
    """Whether another user than this one and root can put files into a folder; False if it does not exist."""
    try:
        status = folder.stat()
    except OSError:
        return False
    return bool(status.st_mode & stat.S_IWOTH) or status.st_uid not in (0, os.getuid())


@functools.cache
def _host() -> str:
    return hashlib.blake2b(socket.gethostname().encode(), digest_size=3).hexdigest()


def _prefix() -> str:
    """Beginning of the name of what this process is writing."""
    return f"{PARTIAL}{_host()}-{os.getpid()}-"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically; bytes of file names that are no letters are written as ``\\udcff``."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")


def write_json(path: Path, content: Any) -> None:
    """Write JSON (indented, no NaN) atomically."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def linked_copy(source: Path, target: Path) -> None:
    """Copy a folder in place of another; it takes no room where files can be linked.

    Files of this package are replaced, never changed, so neither folder changes with the other.
    """

    def copy(file: str, own: str) -> None:
        try:
            os.link(file, own)
        except OSError:  # another disk, or one without links
            shutil.copyfile(file, own)

    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, copy_function=copy)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_files(paths: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of many files, read in parallel; keys are the paths as given."""
    unique = list(dict.fromkeys(paths))
    with ThreadPoolExecutor() as pool:
        return {str(path): digest for path, digest in zip(unique, pool.map(file_sha256, unique), strict=True)}


def read_mapping(path: Path, fix: str = "", largest: int = MAX_BYTES) -> dict[str, Any]:
    """Read a JSON or YAML file (chosen by suffix) whose top level is a mapping.

    Args:
        path: A ``.json``, ``.yaml`` or ``.yml`` file. YAML is read by the safe loader, which makes plain values only.
        fix: What the user should do if it cannot be read, as a sentence; by default for a file of a run.
        largest: Number of bytes beyond which it is not read.

    Returns:
        The mapping.

    Raises:
        UserError: When the file is missing, cannot be parsed or does not contain a mapping.
    """
    try:
        if path.exists() and not path.is_file():  # reading a pipe or a device may never end
            raise UserError(f"{path} cannot be read (it is not a file). {fix}".rstrip())
        with path.open("rb") as file:
            data = file.read(largest + 1)
        if len(data) > largest:
            raise ValueError(f"it is larger than {largest:,} bytes")
        text = data.decode("utf-8")
        content = _from_json(text) if path.suffix == ".json" else _from_yaml(text)
    except OSError as error:
        fix = fix or "Is this the folder of a finished run?"
        raise UserError(f"{path} cannot be read ({error.strerror}). {fix}") from None
    except (ValueError, RecursionError, OverflowError, yaml.YAMLError) as error:
        fix = fix or "Run the command that wrote it again."
        raise UserError(f"{path} is damaged ({one_line(error)[:300]}). {fix}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} should contain named values but contains a {type(content).__name__}. {fix}".rstrip())
    return content


def plain(value: Any) -> Any:
    """Convert a value to what JSON can represent: NaN and infinities become None, unknown objects strings.

    Args:
        value: Any nesting of mappings, sequences, numbers (also NumPy's) and other objects.

    Returns:
        The same nesting of dict, list, str, int, float, bool and None.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
