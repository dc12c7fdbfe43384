"""What the calibration of a model found on its validation scans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segment.evaluation.calibration import conformal_record, decision_record, expectation_record
from segment.files import plain, write_text
from segment.inference.conformal import Missed
from segment.inference.limits import ARGMAX
from segment.inference.windows import SlidingWindows
from segment.runs.cells import csv_text
from segment.runs.columns import TEST
from segment.runs.reliability import COLUMNS


@dataclass(frozen=True)
class Calibrated:
    """What was found on validation scans.

    Attributes:
        windows: Those that the model is scored with, with temperature and thresholds.
        fit: Number of ``voxels``, and their negative log-likelihood before and after the temperature.
        missed: What conformal masks of each structure miss.
        argmax: Dice (structure,) of the most probable labels by case.
        expected: Expected Dice of the same masks by case and structure.
    """

    windows: SlidingWindows
    fit: Mapping[str, float]
    missed: Mapping[str, Missed]
    argmax: Mapping[str, np.ndarray]
    expected: Mapping[str, Mapping[str, float]]

    def record(self, scans: pd.DataFrame) -> dict[str, Any]:
        """The entry of ``summary.json``.

        Args:
            scans: The scores of the run.
        """
        own = scans.loc[scans["split"] != TEST]
        rule, names = self.windows.decision, [*self.missed]
        found: dict[str, Any] = plain(
            {
                "scans": len(self.argmax),
                "temperature": self.windows.temperature,
                **self.fit,
                "thresholds": self.windows.thresholds,
                "decision": None if rule == ARGMAX else decision_record(rule, self.argmax, own, names),
                "expected_dice": expectation_record(self.table()),
                "conformal": conformal_record(self.missed),
            }
        )
        return found

    def table(self) -> pd.DataFrame:
        """Real and expected Dice of the most probable labels: one row per (scan, label), with `COLUMNS`."""
        rows = [
            (case, name, dice, self.expected[case][name])
            for case, own in self.argmax.items()
            for name, dice in zip(self.missed, own.tolist(), strict=True)
        ]
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def write_expected(self, path: Path) -> None:
        """Write that table."""
        write_text(path, csv_text(self.table(), "%.6g"))
