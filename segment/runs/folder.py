"""A finished run, read from its files: table of scans, summary, configuration and provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from segment.files import read_mapping
from segment.runs.scans import read_scans
from segment.runs.summary import read_summary
from segment.runs.tables import summary_table


@dataclass(frozen=True)
class RunFolder:
    """The contents of the files of a finished run.

    Attributes:
        path: The run folder.
        scans: Table of scans, from ``scans.csv``, including the test scans; see `segment.runs.scans.parted`.
        summary: Content of ``summary.json``.
        config: Content of ``config.yaml``.
        provenance: Content of ``provenance.json``; empty if it is missing (scores of masks from other programs).
    """

    path: Path
    scans: pd.DataFrame
    summary: Mapping[str, Any]
    config: Mapping[str, Any]
    provenance: Mapping[str, Any]

    @property
    def table(self) -> pd.DataFrame:
        """Scores of the foreground and every label, as returned by `segment.runs.tables.summary_table`."""
        return summary_table(self.summary)

    def __fspath__(self) -> str:
        """The path, so that a run can be passed wherever a path is expected."""
        return str(self.path)


def read_run(path: Path) -> RunFolder:
    """Read the files of a finished run.

    Args:
        path: The run folder.

    Returns:
        The contents of its files.

    Raises:
        UserError: ``scans.csv``, ``summary.json`` or ``config.yaml`` is missing, or one of the files is damaged.
    """
    provenance = path / "provenance.json"
    return RunFolder(
        path=path,
        scans=read_scans(path / "scans.csv"),
        summary=read_summary(path / "summary.json"),
        config=read_mapping(path / "config.yaml"),
        provenance=read_mapping(provenance) if provenance.exists() else {},
    )
