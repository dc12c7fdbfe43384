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
        """Refuse voxels in another file; find the compression."""
        with path.open("rb") as stream:
            head = stream.read(HEADER_BYTES)
        # Not splitlines: ITK's reader ends a line at these only, and the header at the first line that holds nothing.
        lines = re.split(rb"\r\n|\r|\n", head)
        end = lines.index(b"") if b"" in lines else len(lines)
        fields: dict[bytes, bytes] = {}
        for line in lines[:end]:
            key, _, value = line.partition(b":")
            fields[b"".join(key.lower().split())] = value.strip().lower()
        if b"datafile" in fields:
            raise detached(path, ".nrrd")
        if end == len(lines):
            raise ValueError("its header does not end")
        return DEFLATE_LIMIT if fields.get(b"encoding", b"raw") != b"raw" else 1
