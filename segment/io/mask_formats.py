"""Formats that masks are written in, by the names that commands take; light, since options are checked with it."""

from __future__ import annotations

ENDINGS = {
    "nifti": ".nii.gz",
    "nrrd": ".nrrd",
    "mha": ".mha",
    "png": ".png",
    "seg.nrrd": ".seg.nrrd",
    "dicom_seg": ".dcm",
    "dicom_labelmap": ".dcm",
    "rtstruct": ".dcm",
}
"""Name of a format to the ending of its files."""
OF_SERIES = ("dicom_seg", "dicom_labelmap", "rtstruct")
"""Formats that refer to the DICOM series of their scan."""
