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
        # The header ends at the first line that holds nothing. Not splitlines, which sees more of them than ITK does.
        end = re.search(rb"\n\r?\n", head)
        fields: dict[bytes, bytes] = {}
        for line in re.split(rb"[\r\n]", head[: end.start()] if end else head):
            key, _, value = line.partition(b":")
            fields[b"".join(key.lower().split())] = value.strip().lower()
        if b"datafile" in fields:
            raise detached(path, ".nrrd")
        if end is None:
            raise ValueError("its header does not end")
        return DEFLATE_LIMIT if fields.get(b"encoding", b"raw") != b"raw" else 1
