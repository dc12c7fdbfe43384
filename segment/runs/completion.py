"""Whether a run is finished."""

from __future__ import annotations

from pathlib import Path


def is_complete(path: Path) -> bool:
    """Whether a run folder contains a finished run: its report is written last."""
    return (path / "report.html").is_file()
