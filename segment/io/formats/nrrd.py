"""NRRD and 3D Slicer's segmentations, through SimpleITK."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from segment.errors import UserError
from segment.io.formats.base import Header
from segment.io.formats.itk import HEADER_BYTES, ItkFormat, Stored, detached, incomplete
from segment.io.formats.text_header import require_sound_nrrd
from segment.io.streams import beside
from segment.text import printable

_MOST_SEGMENTS = 4096
_LONGEST_NAME = 100


class Nrrd(ItkFormat):
    """NRRD, header and voxels in one file."""

    suffixes = (".nrrd",)
    reader = "NrrdImageIO"

    def stored(self, path: Path) -> Stored:
        """Refuse voxels in another file."""
        fields, head, end = _fields(path)
        if b"datafile" in fields:
            raise detached(path, ".nrrd")
        if end is None:
            raise incomplete(path)
        require_sound_nrrd(path, head)
        return _stored(path, end, fields)


class DetachedNrrd(Nrrd):
    """An NRRD header with its voxels in one file beside it, or after it; masks are written as ``.nrrd``."""

    suffixes = (".nhdr",)
    mask_suffix = ".nrrd"
    label_types = ()

    def stored(self, path: Path) -> Stored:
        """Refuse voxels elsewhere than in one file beside the header."""
        fields, head, _ = _fields(path)
        names = fields.get(b"datafile", [])
        if not names:
            return super().stored(path)
        if len(names) > 1 or names[0].upper().startswith(b"LIST"):
            raise UserError(f"{path} stores its voxels in several files. Save it as a single .nrrd file.")
        file = beside(path, os.fsdecode(names[0]))
        require_sound_nrrd(path, head)
        return _stored(file, 0, fields)


@dataclass(frozen=True)
class _Segment:
    name: str
    layer: int
    stored: int  # value in the layer
    label: int  # value in the mask


class SegNrrd(Nrrd):
    """A segmentation of 3D Slicer; masks are written as plain ``.nrrd``.

    Segments in several layers become one mask: with their own label values if each has another, else numbered from 1 in
    their order. Segments that overlap are refused.
    """

    suffixes = (".seg.nrrd",)
    mask_suffix = ".nrrd"
    label_types = ()

    def read_header(self, path: Path) -> Header:
        """Read shape, type, position and segments."""
        header = super().read_header(path)
        segments = _segments(path, header.source, header.channels)
        names = {segment.label: segment.name for segment in segments}
        if header.channels == 1:
            return replace(header, label_names=names)
        mask = replace(header, channels=1, components=header.channels, label_names=names)
        return replace(header, as_mask=replace(mask, source=(header.source, segments)))

    def read_voxels(self, path: Path, header: Header, dtype: type[np.floating] | None) -> np.ndarray:
        """Read the layers; of a mask, one with the labels of all segments."""
        if not isinstance(header.source, tuple):
            return super().read_voxels(path, header, dtype)
        reader, segments = header.source
        layers = super().read_voxels(path, replace(header, source=reader), dtype)
        mask = np.zeros((1, *header.grid.shape), np.uint16)
        for segment in segments:
            inside = layers[segment.layer] == segment.stored
            if mask[0][inside].any():
                other = next(one.name for one in segments if one.label == mask[0][inside].max())
                raise UserError(
                    f"{path}: the segments {other!r} and {segment.name!r} overlap, but a voxel has one label. "
                    "Remove the overlap, or export each segment as its own mask."
                )
            mask[0][inside] = segment.label
        return mask


def _segments(path: Path, reader: Any, layers: int) -> tuple[_Segment, ...]:
    """The segments that the header describes, in their order; before version 4.11, Slicer wrote a layer for each."""
    found: list[tuple[str, int, int]] = []
    while reader.HasMetaDataKey(f"Segment{len(found)}_ID") and len(found) < _MOST_SEGMENTS:
        prefix, number = f"Segment{len(found)}_", len(found) if layers > 1 else 0
        name, layer, stored = (
            reader.GetMetaData(prefix + key) if reader.HasMetaDataKey(prefix + key) else default
            for key, default in (("Name", prefix[:-1]), ("Layer", number), ("LabelValue", 1))
        )
        found.append((" ".join(printable(name).split())[:_LONGEST_NAME], int(layer), int(stored)))
    if not all(0 <= layer < layers and 0 < stored < 1 << 16 for _, layer, stored in found) or (
        layers > 1 and not found
    ):
        raise UserError(f"{path} has segments without a layer or a label value. Save it again in 3D Slicer.")
    own = layers == 1 or len({stored for *_, stored in found}) == len(found)
    return tuple(
        _Segment(name, layer, stored, stored if own else number)
        for number, (name, layer, stored) in enumerate(found, start=1)
    )


def _fields(path: Path) -> tuple[dict[bytes, list[bytes]], bytes, int | None]:
    """The values of each field of a header, the header, and where it ends, if it does.

    It ends at the first empty line. Not splitlines, which recognises more line breaks than ITK.
    """
    with path.open("rb") as stream:
        head = stream.read(HEADER_BYTES)
    end = re.search(rb"\n\r?\n", head)
    head = head[: end.start()] if end else head
    fields: dict[bytes, list[bytes]] = {}
    for line in re.split(rb"[\r\n]", head):
        key, _, value = line.partition(b":")
        fields.setdefault(b"".join(key.lower().split()), []).append(value.strip())
    return fields, head, end.end() if end else None


def _stored(file: Path, start: int, fields: dict[bytes, list[bytes]]) -> Stored:
    encodings = {value.lower() for value in fields.get(b"encoding", [])}
    skipped = {b"lineskip", b"byteskip"} & set(fields)
    return Stored(file, start, raw=encodings <= {b"raw"}, deflated=encodings <= {b"gzip", b"gz"} and not skipped)
