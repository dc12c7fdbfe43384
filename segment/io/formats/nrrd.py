"""NRRD, through SimpleITK."""

from __future__ import annotations

import re
from pathlib import Path

from segment.io.formats.base import DEFLATE_LIMIT
from segment.io.formats.itk import HEADER_BYTES, ItkFormat, detached


class Nrrd(ItkFormat):
    """NRRD, header and voxels in one file."""

    suffixes = (".nrrd",)
    reader = "NrrdImageIO"

    def unpacking(self, path: Path) -> int:
        """Refuse voxels in another file; detect compression."""
        with path.open("rb") as stream:
            head = stream.read(HEADER_BYTES)
        # The header ends at the first empty line. Not splitlines, which recognises more line breaks than ITK.
        end = re.search(rb"\n\r?\n", head)
        fields: dict[bytes, bytes] = {}
        for line in re.split(rb"[\r\n]", head[: end.start()] if end else head):
            key, _, value = line.partition(b":")
            fields[b"".join(key.lower().split())] = value.strip().lower()
        if b"datafile" in fields:
            raise detached(path, ".nrrd")
        if end is None:
            raise ValueError("its header is incomplete")
        return DEFLATE_LIMIT if fields.get(b"encoding", b"raw") != b"raw" else 1
