"""What a server has seen, against what a run was scored on: does the model still know what it sees?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segment.data.labels import Labels
from segment.errors import UserError
from segment.io.images import Image
from segment.parallel import on_all_cores
from segment.runs.folder import RunFolder, read_run
from segment.runs.scans import TEST
from segment.runs.voxels import read_voxels
from segment.serving.features import image_features, mask_features
from segment.serving.log import Seen, read_log
from segment.statistics.drift import FEWEST, Chart, Drift, control_chart, drifts, outlyingness

WORST = 10


@dataclass(frozen=True)
class Odd:
    """A scan unlike the reference.

    Attributes:
        number: Its place among the scans that were looked at, from 1.
        time: When it was seen.
        feature: In which it differs most.
        value: Its value.
        distance: In standard deviations of the reference.
    """

    number: int
    time: str
    feature: str
    value: float
    distance: float


@dataclass(frozen=True, eq=False)
class Monitored:
    """The comparison of a log with a reference.

    Attributes:
        tests: In order of p.
        charts: By feature, those of the smallest p first.
        worst: The scans to look at, most unlike first.
        reference: Number of scans of the reference.
        seen: Number of scans of the log.
        level: Probability of an alarm without a shift.
        first: Time of the first scan.
        last: Time of the last.
    """

    tests: Sequence[Drift]
    charts: dict[str, Chart]
    worst: Sequence[Odd]
    reference: int
    seen: int
    level: float
    first: str
    last: str

    @property
    def alarms(self) -> list[Drift]:
        """The tests that raise an alarm."""
        return [test for test in self.tests if test.p_holm < self.level]

    @property
    def conclusion(self) -> str:
        """One sentence."""
        counted = f"{self.seen} scans against {self.reference} of the reference"
        if not self.alarms:
            return f"No shift was found: {counted}, {len(self.tests)} tests at level {self.level:g} together."
        names = ", ".join(test.feature for test in self.alarms[:5])
        more = f" and {len(self.alarms) - 5} more" if len(self.alarms) > 5 else ""
        return f"The scans have shifted in {names}{more}: {counted}, level {self.level:g} for all tests together."


def monitor(
    log: Path,
    reference: Path,
    model: str | None = None,
    last: int | None = None,
    level: float = 0.01,
    seed: int = 12345,
) -> Monitored:
    """Compare what a server has seen with a reference.

    Args:
        log: A file of ``segment serve log=``.
        reference: A run folder, whose scored scans count with their predicted masks, or another log.
        model: Name of the model in the log; None: all.
        last: Only the newest scans, this many; None: all.
        level: Probability of an alarm if nothing has shifted, in (0, 1).
        seed: Of the classifier's halves.

    Raises:
        UserError: When a file cannot be read, or there are too few scans.
    """
    ours = reference_features(reference)
    seen = read_log(log, model)[-(last or 0) :]
    for name, count in ((f"reference={reference}", len(ours)), (f"log={log}", len(seen))):
        if count < FEWEST:
            raise UserError(f"{name}: has {count} scans, but a test needs {FEWEST}. Wait for more, or give another.")
    names = sorted(set().union(*ours) & set().union(*(one.features for one in seen)))
    if not names:
        raise UserError(f"log={log}: has no feature of reference={reference}. Give the log of a model like it.")
    before, after = _table(ours, names), _table([one.features for one in seen], names)
    tests = drifts(names, before, after, seed)
    place = {name: index for index, name in enumerate(names)}
    shown = [test.feature for test in tests if test.feature in place]
    charts = {name: control_chart(before[:, place[name]], after[:, place[name]]) for name in shown}
    worst = _worst(seen, names, before, after)
    return Monitored(tests, charts, worst, len(ours), len(seen), level, seen[0].time, seen[-1].time)


def _table(rows: Sequence[dict[str, float]], names: Sequence[str]) -> np.ndarray:
    return np.array([[row.get(name, np.nan) for name in names] for row in rows], np.float64)


def _worst(seen: Sequence[Seen], names: Sequence[str], before: np.ndarray, after: np.ndarray) -> list[Odd]:
    """The scans most unlike the reference."""
    distances = outlyingness(before, after)
    most = np.abs(distances).argmax(axis=1)
    largest = np.abs(distances).max(axis=1)
    found = []
    for index in np.argsort(-largest, kind="stable")[:WORST]:
        column = int(most[index])
        value, distance = float(after[index, column]), float(distances[index, column])
        found.append(Odd(int(index) + 1, seen[index].time, names[column], value, distance))
    return found


def reference_features(reference: Path) -> list[dict[str, float]]:
    """Features of the scans of a run, with its predicted masks, or of a log.

    Args:
        reference: A run folder or a file of ``segment serve log=``.

    Raises:
        UserError: When it is neither, or a scan cannot be read.
    """
    if reference.is_file():
        return [one.features for one in read_log(reference)]
    run = read_run(reference)
    try:
        labels = Labels(run.provenance["labels"], run.provenance.get("region_order"))
    except (ValueError, TypeError, AttributeError, LookupError):
        raise UserError(f"reference={reference}: its provenance names no labels. Give the folder of a run.") from None
    indices = {name: index for index, name in enumerate(labels) if index}
    own = run.scans[run.scans["split"] != TEST] if "split" in run.scans else run.scans
    cases = list(dict.fromkeys(own["case"]))

    def features(case: str) -> dict[str, float]:
        return _features_of(run, case, indices)

    return list(on_all_cores(features, cases))


def _features_of(run: RunFolder, case: str, labels: dict[str, int]) -> dict[str, float]:
    """Features of one scan of a run."""
    try:
        scan = read_voxels(run, case)
    except (UserError, ValueError) as error:
        raise UserError(f"reference={run.path}: its scan {case} cannot be read: {error}") from error
    image = Image(scan.image, scan.grid)
    return image_features(image) | mask_features(scan.prediction, scan.grid, labels)


def as_plain(found: Monitored) -> dict[str, Any]:
    """The comparison as plain values, for a JSON file."""
    return {
        "alarm": bool(found.alarms),
        "conclusion": found.conclusion,
        "level": found.level,
        "scans": {"reference": found.reference, "seen": found.seen, "first": found.first, "last": found.last},
        "tests": [vars(test) for test in found.tests],
        "since": {
            name: None if chart.first_out is None else chart.first_out + 1 for name, chart in found.charts.items()
        },
        "worst": [vars(odd) for odd in found.worst],
    }
