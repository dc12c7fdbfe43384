"""Analyze 7.5 and NIfTI in two files, ``.hdr`` and ``.img``, through nibabel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from segment.io.formats.base import Doubt, Header, ImageFormat
from segment.io.formats.nifti import header_of, voxels_of
from segment.io.streams import beside

_LONGEST = 540  # bytes of a header, which is NIfTI-2's


class Analyze(ImageFormat):
    """Pairs of ``.hdr`` and ``.img``; the header is the scan's file. Masks of such scans are written as ``.nii.gz``.

    Analyze has no agreed orientation; as in nibabel, x runs to the left. SPM's ``.mat`` files are not read.
    """

    suffixes = (".hdr",)
    mask_suffix = ".nii.gz"
    label_types = ()

    def read_header(self, path: Path) -> Header:
        """Read shape, type and position."""
        with path.open("rb") as stream:
            source = _source(stream.read(_LONGEST))
        header = header_of(path, source)
        nifti = isinstance(source, nib.nifti1.Nifti1PairHeader)
        oriented = nifti and max(int(source[code]) for code in ("sform_code", "qform_code")) > 0
        return replace(header, oriented=oriented, stored_bytes=self.members(path)[1].stat().st_size)

    def read_voxels(self, path: Path, header: Header, dtype: type[np.floating] | None) -> np.ndarray:
        """Read the voxels, scaled."""
        return voxels_of(self.members(path)[1], header, dtype)

    def members(self, path: Path) -> tuple[Path, ...]:
        """The ``.hdr`` and the ``.img``."""
        return path, beside(path, _name(path))

    def doubts(self, path: Path, header: Header) -> Iterator[Doubt]:
        """An unknown orientation."""
        if not header.oriented:
            what = "Analyze files do not say where left and right are, and programs assume differently."
            yield Doubt("header", what, "Convert the scan to .nii.gz, and compare it with its source.")


def _name(path: Path) -> str:
    """Name of the ``.img``, spelled as the header's."""
    return path.name[:-3] + ("IMG" if path.name.endswith("HDR") else "img")


def _source(head: bytes) -> Any:
    for kind in (nib.nifti1.Nifti1PairHeader, nib.nifti2.Nifti2PairHeader, nib.spm2analyze.Spm2AnalyzeHeader):
        if kind.may_contain_header(head):
            return kind(head[: kind.sizeof_hdr])
    raise ValueError("it does not begin as an Analyze or NIfTI header")
