"""Scans on disk: cases, layouts, image files and their geometry, splits, download, the demo set."""

from segment.data.case import Case, Dataset
from segment.data.layouts import open_dataset

__all__ = ["Case", "Dataset", "open_dataset"]
