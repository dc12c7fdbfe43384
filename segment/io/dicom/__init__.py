"""DICOM: series found in folders and read as volumes, segmentations and structure sets read and written.

The extra ``dicom`` installs what this needs. Nothing here knows of other formats; `segment.io.formats.dicom` makes a
series a scan like any other.
"""
