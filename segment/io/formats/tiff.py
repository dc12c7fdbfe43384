"""TIFF, through tifffile."""

from __future__ import annotations

import logging
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segment.errors import UserError
from segment.io.formats.base import DEFLATE_LIMIT, JPEG_LIMIT, LZW_LIMIT, Header, ImageFormat
from segment.io.formats.palette import apply_palette, with_palette
from segment.io.formats.tiff_metadata import require_own_planes, voxel_size
from segment.io.geometry import Grid

_JPEG = 7
_FAX = (2, 3, 4)
# Maximum compression ratios by TIFF's numbers; a fax code stands for at most a line, which the width limits further.
_LIMITS = {1: 1, **dict.fromkeys(_FAX, 1 << 14), 5: LZW_LIMIT, _JPEG: JPEG_LIMIT, 8: DEFLATE_LIMIT,
           32773: 64, 32946: DEFLATE_LIMIT}  # fmt: skip
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _MASK, _YCBCR = 0, 1, 2, 3, 4, 6
_READ = ("shaped", "ome", "imagej")  # whose metadata are read; the first is tifffile
_UNREAD = ("lsm", "stk", "fluoview", "scanimage", "micromanager", "metaseries", "nih")
_ALPHA = (1, 2)  # premultiplied or not


@dataclass(frozen=True)
class _Layout:
    """How the stored numbers become voxels.

    Attributes:
        axes: Position of the channel (or None), depth (or None), y and x axis in the stored array; all others have
            length 1.
        kept: Numbers of the samples that are channels.
        orientation: TIFF's number of the corner where the first row and column lie.
        table: Palette, if any.
    """

    axes: tuple[int | None, int | None, int, int]
    kept: tuple[int, ...]
    orientation: int
    table: np.ndarray | None


class Tiff(ImageFormat):
    """2D images and stacks with their channels, plain and BigTIFF, from ImageJ, OME and tifffile.

    Pages are slices unless ImageJ's or OME's metadata say that they are channels. Samples are channels, except alpha
    where the file declares it. Only ImageJ's and OME's metadata give a voxel size; else a voxel counts as 1 mm, since
    a resolution tag alone is for printing.
    """

    suffixes = (".tif", ".tiff")
    label_types = (np.uint8, np.uint16)
    revision = "2"

    def read_header(self, path: Path) -> Header:
        """Read the axes, type and voxel size."""
        _require_all_pages(path)
        with _open(path) as file:
            require_own_planes(path, file)
            series = _only_series(path, file)
            page = series.keyframe
            _require_supported(path, page)
            _require_complete(path, series)
            layout = _layout(path, series)
            channels, shape = _shape(series, layout)
            known = voxel_size(file)
        x, y, z = known or (1.0, 1.0, 1.0)
        if layout.orientation > 4:
            x, y = y, x
        header = Header(
            grid=Grid(shape, np.diag([x, y, z if len(shape) == 3 else 1.0, 1.0]), assumed=known is None),
            channels=channels,
            dtype=np.dtype(series.dtype),
            components=series.size // math.prod(shape),
            unpacking=_unpacking(page),
            colour=page.photometric in (_RGB, _YCBCR),
            oriented=False,
            unfit=_unfit(page),
            source=layout,
        )
        if _chunk_bytes(page) > path.stat().st_size * header.unpacking:
            raise UserError(f"{path} declares tiles larger than the file can contain. Copy it again from its source.")
        return header if layout.table is None else with_palette(header, layout.table)

    def read_voxels(self, path: Path, header: Header, dtype: type[np.floating] | None) -> np.ndarray:
        """Read the voxels."""
        layout: _Layout = header.source
        with _open(path) as file:
            array = _only_series(path, file).asarray(squeeze=False, maxworkers=1)
        wanted = [axis for axis in layout.axes if axis is not None]
        rest = [axis for axis in range(array.ndim) if axis not in wanted]
        array = array.transpose(*rest, *wanted).reshape([array.shape[axis] for axis in wanted])
        if layout.axes[0] is None:
            array = array[np.newaxis]
        if len(layout.kept) < len(array):
            array = array[list(layout.kept)]
        array = _upright(array, layout.orientation)
        return array if layout.table is None else apply_palette(array[0], layout.table, header)

    def write_label(self, path: Path, array: np.ndarray, like: Header) -> None:
        """Write a mask, one page per slice; the voxel size, if it is known, as ImageJ's metadata."""
        import tifffile

        options: dict[str, Any] = {"metadata": None}
        if not like.grid.assumed:
            *deep, y, x = like.grid.spacing
            metadata = {"axes": "ZYX"[-array.ndim :], "unit": "mm"} | ({"spacing": deep[0]} if deep else {})
            options = {"imagej": True, "resolution": (1 / x, 1 / y), "metadata": metadata}
        tifffile.imwrite(path, array, photometric="minisblack", compression="zlib", **options)


def _open(path: Path) -> Any:
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it warns of is refused here
    others: dict[str, Any] = {f"is_{name}": False for name in sorted(tifffile.TIFF.FILE_FLAGS - {*_READ})}
    return tifffile.TiffFile(path, _multifile=False, **others)


def _only_series(path: Path, file: Any) -> Any:
    """The images of a file as one array."""
    found = [series for series in file.series if not series.keyframe.is_reduced]
    if file.is_ome and any(series.kind not in _READ for series in found):
        raise UserError(f"{path} has OME metadata of planes that are in other files or missing. Save it as one file.")
    if len(found) != 1:
        raise UserError(f"{path} contains {len(found)} images of different sizes or types. Save each as its own file.")
    page = found[0].keyframe
    other = next((name for name in _UNREAD if getattr(page, f"is_{name}")), None)
    if other and found[0].kind not in _READ and len(found[0].pages) > 1:
        raise UserError(
            f"{path} is a {other} file, whose axes are not read. Save it as OME-TIFF, for example with Fiji."
        )
    return found[0]


def _require_supported(path: Path, page: Any) -> None:
    if page.compression not in _LIMITS:
        raise UserError(
            f"{path} is compressed by {_name(page.compression)}, which is not read. Save it with Deflate or LZW."
        )
    colours = (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _MASK)
    if page.photometric not in colours and not (page.photometric == _YCBCR and page.compression == _JPEG):
        raise UserError(
            f"{path} has the colours {_name(page.photometric)}, which are not read. Save it as grey or RGB."
        )
    if page.dtype is None:
        raise UserError(f"{path} stores numbers of {page.bitspersample} bits, which are not read. Convert them.")


def _require_complete(path: Path, series: Any) -> None:
    """Refuse missing parts, which tifffile would fill with zeros."""
    size = path.stat().st_size
    expected = math.prod(series.keyframe.chunked)
    for page in series.pages:
        parts = [] if page is None else list(zip(page.dataoffsets, page.databytecounts, strict=False))
        if len(parts) < expected or any(count < 1 or offset + count > size for offset, count in parts):
            raise UserError(f"{path} is truncated or damaged: a part of its voxels is missing. Copy it again.")


def _layout(path: Path, series: Any) -> _Layout:
    """Tell slices, channels, rows and columns from the axes' letters: I and Q are pages without a meaning."""
    page, axes = series.keyframe, list(enumerate(series.get_axes(squeeze=False)))
    shape = series.get_shape(squeeze=False)
    y, x = (max(place for place, axis in axes if axis == name) for name in "YX")
    longer = [(place, axis) for place, axis in axes if shape[place] > 1 and place not in (y, x)]
    channels, depth = ([place for place, axis in longer if axis in names] for names in ("CS", "ZIQ"))
    times = [shape[place] for place, axis in longer if axis == "T"]
    if times:
        raise UserError(
            f"{path} has {times[0]} time points. If they are slices, say so in ImageJ (Image > Properties); "
            "else save each as its own file."
        )
    if len(channels) > 1 or len(depth) > 1 or len(channels) + len(depth) < len(longer):
        letters = "".join(axis for _, axis in axes)
        raise UserError(
            f"{path} has the axes {letters} of {shape}: neither a scan nor one with channels. Save its parts."
        )
    samples = channels and series.get_axes(squeeze=False)[channels[0]] == "S"
    extra = page.extrasamples if samples else ()
    plain = (shape[channels[0]] if channels else 1) - len(extra)
    kept = [*range(plain), *(plain + place for place, meaning in enumerate(extra) if meaning not in _ALPHA)]
    corner = int(page.tags.valueof("Orientation", 1))
    return _Layout(
        (channels[0] if channels else None, depth[0] if depth else None, y, x),
        tuple(kept),
        corner if corner in range(1, 9) else 1,
        _table(page),
    )


def _shape(series: Any, layout: _Layout) -> tuple[int, tuple[int, ...]]:
    """Number of channels, and voxels along (z, y, x) or (y, x) when upright."""
    shape = series.get_shape(squeeze=False)
    spatial = [shape[axis] for axis in layout.axes[1:] if axis is not None]
    if layout.orientation > 4:
        spatial[-2:] = spatial[:-3:-1]
    return len(layout.kept), tuple(spatial)


def _upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turn rows and columns as they are to be seen; TIFF 6.0, page 36."""
    if orientation in (3, 4, 6, 7):  # the first row is at the bottom or on the right
        array = array[..., ::-1, :]
    if orientation in (2, 3, 7, 8):  # the first column is on the right or at the bottom
        array = array[..., ::-1]
    return array.swapaxes(-1, -2) if orientation > 4 else array


def _table(page: Any) -> np.ndarray | None:
    """The palette as uint8 (index, red-green-blue); TIFF's has 16 bits, though some programs write 8."""
    if page.photometric != _PALETTE:
        return None
    colours = np.asarray(page.colormap).T
    return (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)


def _unfit(page: Any) -> str:
    if page.compression == _JPEG:
        return "is compressed by JPEG, which changes its values. Save the mask anew, without loss"
    if page.photometric == _WHITE_IS_ZERO and page.bitspersample == 1 and not page.is_shaped:
        return "stores white as 0, which some programs read as 1 and others as 0. Save it with 8 bits per pixel"
    return ""


def _unpacking(page: Any) -> int:
    limit = _LIMITS[page.compression]
    if page.compression in _FAX:
        limit = min(limit, page.imagewidth)
    bits = page.bitspersample if isinstance(page.bitspersample, int) else 1
    return limit * max(1, 8 * page.dtype.itemsize // bits)


def _chunk_bytes(page: Any) -> int:
    return math.prod(page.chunks) * page.dtype.itemsize


def _name(code: Any) -> str:
    return getattr(code, "name", str(code))


def _require_all_pages(path: Path) -> None:
    """Follow the chain of pages: libtiff drops the pages of a truncated file without an error."""
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
