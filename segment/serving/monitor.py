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
from segment.serving.features import image_features, mask_features, scanner_tags
from segment.serving.log import Seen, read_log
from segment.statistics.drift import EXPECTED, FEWEST, Chart, Drift, Sample, control_chart, drifts, outlyingness

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
        untested: A sentence for each part of the log that the reference has nothing for.
    """

    tests: Sequence[Drift]
    charts: dict[str, Chart]
    worst: Sequence[Odd]
    reference: int
    seen: int
    level: float
    first: str
    last: str
    untested: Sequence[str] = ()

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
    ours, seen = reference_scans(reference), read_log(log, model)[-(last or 0) :]
    for name, count in ((f"reference={reference}", len(ours)), (f"log={log}", len(seen))):
        if count < FEWEST:
            raise UserError(f"{name}: has {count} scans, but a test needs {FEWEST}. Wait for more, or give another.")
    names = common_features(ours, seen)
    if not names:
        raise UserError(f"log={log}: has no feature of reference={reference}. Give the log of a model like it.")
    before, after = as_sample(ours, names), as_sample(seen, names)
    tests = drifts(names, before, after, seed)
    place = {name: index for index, name in enumerate(names)}
    shown = [EXPECTED] * (EXPECTED in place) + [one.feature for one in tests if one.feature in place]
    charts = {
        name: control_chart(before.features[:, place[name]], after.features[:, place[name]])
        for name in dict.fromkeys(shown)
    }
    worst = _worst(seen, names, before.features, after.features)
    notes = _untested(before, after, names, seen)
    return Monitored(tests, charts, worst, len(ours), len(seen), level, seen[0].time, seen[-1].time, notes)


def common_features(ours: Sequence[Seen], seen: Sequence[Seen]) -> list[str]:
    """Names of the features that some scans of both sides have."""
    return sorted(set().union(*(one.features for one in ours)) & set().union(*(one.features for one in seen)))


def as_sample(scans: Sequence[Seen], names: Sequence[str]) -> Sample:
    """The scans as tests take them; a scanner's tag that a scan lacks is a category of its own, if others have it."""
    table = np.array([[one.features.get(name, np.nan) for name in names] for one in scans], np.float64)
    told = {key for one in scans for key in one.scanner}
    tags = {f"scanner_{key}": [one.scanner.get(key, "none") for one in scans] for key in told}
    encoded = [one.encoder for one in scans if one.encoder]
    alike = len(encoded) >= FEWEST and len({len(one) for one in encoded}) == 1
    return Sample(table, tags, np.array(encoded, np.float64) if alike else None)


def _untested(before: Sample, after: Sample, names: Sequence[str], seen: Sequence[Seen]) -> list[str]:
    """What the log tells and the reference does not, in a sentence."""
    missing = []
    if before.encoder is None and after.encoder is not None:
        missing.append("the encoder's features")
    if EXPECTED not in names and any(EXPECTED in one.features for one in seen):
        missing.append("the expected Dice")
    if not missing:
        return []
    return [
        f"Not tested, since the reference does not have them: {' and '.join(missing)}. Send its scans to segment serve "
        "log=FILE log_more=[encoder,quality], and give reference=FILE."
    ]


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


def reference_scans(reference: Path) -> list[Seen]:
    """The scans of a run, with its predicted masks, or of a log.

    Args:
        reference: A run folder or a file of ``segment serve log=``.

    Raises:
        UserError: When it is neither, or a scan cannot be read.
    """
    if reference.is_file():
        return read_log(reference)
    run = read_run(reference)
    try:
        labels = Labels(run.provenance["labels"], run.provenance.get("region_order"))
    except (ValueError, TypeError, AttributeError, LookupError):
        raise UserError(f"reference={reference}: its provenance names no labels. Give the folder of a run.") from None
    indices = {name: index for index, name in enumerate(labels) if index}
    own = run.scans[run.scans["split"] != TEST] if "split" in run.scans else run.scans
    cases = list(dict.fromkeys(own["case"]))

    def seen(case: str) -> Seen:
        return _seen(run, case, indices)

    return list(on_all_cores(seen, cases))


def _seen(run: RunFolder, case: str, labels: dict[str, int]) -> Seen:
    """One scan of a run."""
    try:
        scan = read_voxels(run, case)
    except (UserError, ValueError) as error:
        raise UserError(f"reference={run.path}: its scan {case} cannot be read: {error}") from error
    features = image_features(Image(scan.image, scan.grid)) | mask_features(scan.prediction, scan.grid, labels)
    images = run.provenance["cases"][case].get("images") or [""]
    return Seen("", "", features, scanner_tags(Path(images[0])) if Path(images[0]).is_file() else {})


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
        "untested": list(found.untested),
    }
