"""Image formats: their names, and whether a file can hold what its header claims, before anything is allocated."""

from __future__ import annotations

import math
import struct
from pathlib import Path

from segment.errors import UserError

SUFFIXES = (".nii.gz", ".nii", ".mha", ".nrrd", ".png", ".tif", ".tiff")
# Deflate packs at most 1032 bytes into one (zlib's technical notes); TIFF's LZW a little more.
DEFLATE_LIMIT = 1032
LZW_LIMIT = 1400
_TEXT_HEADER_BYTES = 1 << 16


def suffix(path: Path | str) -> str:
    """The format part of a file name.

    Args:
        path: A file; need not exist.

    Returns:
        One of `SUFFIXES` in lower case, or the plain last suffix when the format is not known.
    """
    name = Path(path).name.lower()
    return next((end for end in SUFFIXES if name.endswith(end)), Path(name).suffix)


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
        True when the name ends in one of `SUFFIXES` and does not begin with a dot.
    """
    return suffix(path) in SUFFIXES and not Path(path).name.startswith(".")


def require_possible_size(path: Path, claimed: int, factor: int) -> None:
    """Refuse a header that claims more voxels than its file can hold.

    Args:
        path: The image file.
        claimed: Bytes of voxel data that the header promises.
        factor: Greatest ratio of unpacked to packed bytes: 1 for raw data, `DEFLATE_LIMIT` for gzip.

    Raises:
        UserError: When the file is too short for the claim.
    """
    size = path.stat().st_size
    if claimed > size * factor:
        raise UserError(
            f"{path} is truncated or damaged: its header promises {claimed:,} bytes of voxels and the file of {size:,} "
            "bytes cannot hold them. Copy it again from its source."
        )


def unpacking_factor(path: Path, suffix: str) -> int:
    """How much larger than the file its voxels may be, by format.

    Args:
        path: The image file.
        suffix: Its format, as in `SUFFIXES`.

    Returns:
        1 for uncompressed data, otherwise the format's compression limit.

    Raises:
        UserError: When a MetaImage or NRRD header points to voxels in another file, or a TIFF page is missing.
    """
    if suffix == ".nii":
        return 1
    if suffix in (".mha", ".nrrd"):
        return _text_header_factor(path, suffix)
    if suffix in (".tif", ".tiff"):
        _require_whole_tiff(path)
        return LZW_LIMIT
    return DEFLATE_LIMIT


def _text_header_factor(path: Path, suffix: str) -> int:
    """Read a MetaImage or NRRD text header: refuse detached data (it could name any file), find the compression."""
    with path.open("rb") as stream:
        text = stream.read(_TEXT_HEADER_BYTES).decode("latin-1")
    fields: dict[str, str] = {}
    for line in text.splitlines():
        if suffix == ".nrrd" and not line.strip():
            break
        key, _, value = line.partition(":" if suffix == ".nrrd" else "=")
        key = key.strip().lower().replace(" ", "")
        fields[key] = value.strip().lower()
        if key == "elementdatafile":
            break
    if fields.get("elementdatafile", "local") != "local" or "datafile" in fields:
        raise UserError(
            f"{path} keeps its voxels in another file, which is not read. Save it as one whole {suffix} file."
        )
    packed = fields.get("compresseddata") == "true" or fields.get("encoding", "raw") != "raw"
    return DEFLATE_LIMIT if packed else 1


def _require_whole_tiff(path: Path) -> None:
    """Follow the chain of TIFF pages: libtiff drops the pages of a truncated file without an error."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2], "")
        if not order or len(head) < 8:
            raise UserError(f"{path} is not a TIFF file, or is damaged. Copy it again from its source.")
        big = struct.unpack(order + "H", head[2:4])[0] == 43
        count_code, entry, pointer_code = ("Q", 20, "Q") if big else ("H", 12, "I")
        offset = struct.unpack_from(order + pointer_code, head, 8 if big else 4)[0] if len(head) == 16 else size
        seen: set[int] = set()
        while offset:
            count_bytes, pointer_bytes = struct.calcsize(count_code), struct.calcsize(pointer_code)
            count = math.inf
            if offset + count_bytes <= size and offset not in seen:
                stream.seek(offset)
                count = struct.unpack(order + count_code, stream.read(count_bytes))[0]
            end = offset + count_bytes + entry * count + pointer_bytes
            if end > size:
                raise UserError(f"{path} is truncated or damaged: a page is missing. Copy it again from its source.")
            seen.add(offset)
            stream.seek(int(end) - pointer_bytes)
            offset = struct.unpack(order + pointer_code, stream.read(pointer_bytes))[0]
