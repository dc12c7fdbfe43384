"""The log of what a server has seen: one line of JSON for each scan, without pixels, names or identifiers."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segment.errors import UserError
from segment.serving.features import SCANNER, is_scanner_tag
from segment.serving.jobs import DONE, Job
from segment.text import one_line

LONGEST_LINE = 1 << 20
MAX_LINES = 1_000_000


@dataclass(frozen=True)
class Seen:
    """A scan that was predicted.

    Attributes:
        time: When, UTC, ISO 8601 to the second.
        model: Name of the model.
        features: Name to value; see `segment.serving.features` and `segment.serving.details`.
        scanner: What the file said of the scanner; see `segment.serving.features.scanner_tags`.
        encoder: Features of the network's encoder; empty if they were not asked for.
    """

    time: str
    model: str
    features: dict[str, float]
    scanner: dict[str, str] = field(default_factory=dict)
    encoder: tuple[float, ...] = ()


class Log:
    """Appends a line for each scan.

    Args:
        path: The file; created if missing.

    Raises:
        UserError: When it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = path.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise UserError(f"log={path}: cannot be written ({error.strerror}). Give another file.") from None

    def write(self, job: Job) -> None:
        """Write what is remembered of a job that is over."""
        line: dict[str, Any] = {
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "model": job.model,
            "state": job.state,
        }
        if job.state == DONE:
            features = {name: float(f"{value:.6g}") for name, value in job.answer["features"].items()}
            line |= {"seconds": job.answer["seconds"], "features": features}
            line |= {key: job.answer[key] for key in ("scanner", "encoder") if job.answer[key]}
        else:
            line["status"] = job.status
        self._stream.write(json.dumps(line, allow_nan=False) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def read_log(path: Path, model: str | None = None) -> list[Seen]:
    """The scans that a server has predicted, in the order of the file.

    Args:
        path: A file of `Log`; untrusted. A last line that was cut off is left out.
        model: Only those of the model of this name.

    Raises:
        UserError: When it cannot be read or a line is damaged.
    """
    try:
        return [one for one in _lines(path) if model in (None, one.model)]
    except OSError as error:
        raise UserError(f"log={path}: cannot be read ({error.strerror}). Give that of segment serve.") from None


def _lines(path: Path) -> Iterator[Seen]:
    with path.open("rb") as stream:
        for number in range(1, MAX_LINES + 1):
            line = stream.readline(LONGEST_LINE)
            if not line.endswith(b"\n"):  # the end, or half a line of a server that was killed
                return
            try:
                content = json.loads(line)
                if content["state"] != DONE:
                    continue
                yield _seen(content)
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
                raise UserError(
                    f"log={path}: line {number} is damaged ({one_line(error)[:200]}). Remove it, or give a file that "
                    "segment serve log= has written."
                ) from None


def _seen(content: Any) -> Seen:
    """The scan of a line."""
    features = {str(name): float(value) for name, value in content["features"].items()}
    scanner = {key: value for key, value in content.get("scanner", {}).items() if key in SCANNER}
    if not all(is_scanner_tag(value) for value in scanner.values()):
        raise ValueError("it tells of a scanner what segment serve does not write")
    encoder = tuple(float(value) for value in content.get("encoder", ()))
    return Seen(str(content["time"]), str(content["model"]), features, scanner, encoder)
