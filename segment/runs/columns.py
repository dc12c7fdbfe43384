"""Names of the columns of ``scans.csv``; importing them takes no table library."""

from __future__ import annotations

from segment.metrics.standard import STANDARD

KEYS = ("case", "split", "fold", "label", "name")
OVERLAPS = tuple(metric.name for metric in STANDARD)
COUNTS = ("reference_voxels", "predicted_voxels")
TEST = "test"
"""The split of scans that the data set's authors set aside."""
COLUMNS = (*KEYS, *OVERLAPS, *COUNTS, "status")
"""Columns that every ``scans.csv`` has, in this order; `GROUP`, if any scan has one, `VOLUMES` and further metrics
follow.

case: id of the scan. split: e.g. ``val``. fold: number, or empty. label: class index, from 1. name: name of the label.
`OVERLAPS`: in [0, 1], empty exactly when status is ``both_empty``. reference_voxels, predicted_voxels: voxel counts.
status: ``ok``, ``both_empty``, ``missed`` or ``invented``. Further columns: finite numbers or empty.
"""

VOLUMES = ("reference_ml", "predicted_ml")
"""Optional columns of 3D scans: volume of the structure in ml in the reference and in the prediction."""

GROUP = "group"
"""Optional text column: patient, film or specimen of the scan, or empty; scans of one group are not independent."""

POSTPROCESSED = "postprocessed_voxels"
"""Optional column: voxels of the structure that post-processing removed or added; without it, none was applied."""

OPTIONAL = (GROUP, *VOLUMES, POSTPROCESSED)
