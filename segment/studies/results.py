"""A folder of studies: what finished runs came to is entered there, and one page shows all studies side by side."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from segment.config import experiments
from segment.files import plain, read_mapping, write_json, write_text
from segment.runs.folder import RunFolder
from segment.runs.metrics import recorded_infos
from segment.runs.scans import joined, write_scans
from segment.runs.summary import merged_protocol, protocol_line, read_summary, summarise, write_summary
from segment.studies.ledger import ALL, VERDICTS, Line, Measured, compare, read_measured, read_published, write_rows
from segment.studies.table import markdown
from segment.text import printable

PAGE = """# Studies

Published figures, and what was measured here. Written by `segment reproduce page=experiments` from the studies'
`published.csv` and `measured.csv` alone; what is changed here by hand is lost.

A figure is **reproduced** when the published value lies inside the 95 % interval of what was measured (bootstrap over
scans), **below** or **above** when the measured interval lies below or above it; it has no verdict where a run was not
scored so, or on too few scans for an interval. *Reduced*: fewer steps or folds, or otherwise another protocol than the
study's; the line under the table says which. Splits, overlap and test-time augmentation stand with the published value,
and under the table for what was measured. Where a measured row has a provenance, `measured.csv` names its file.

"""


@dataclass(frozen=True)
class Result:
    """What one fold of a run, or several of them together, came to.

    Attributes:
        rows: Figures, as they are entered in ``measured.csv``; ``provenance`` still empty.
        scans: Table of scans.
        summary: Content of ``summary.json``.
        provenance: Content of ``provenance.json``, without paths of this machine.
    """

    rows: list[Measured]
    scans: pd.DataFrame
    summary: Mapping[str, Any]
    provenance: Mapping[str, Any]


def results(run: str, folds: Mapping[int, RunFolder], count: int, reduced: str) -> list[Result]:
    """What the finished folds of a run came to: each by itself, then their scans together.

    Args:
        run: Name of the run.
        folds: Run folder of each finished fold, by its number.
        count: How many folds there are.
        reduced: In what the run was another protocol than the study's; empty for nothing.
    """
    alone = {
        str(fold): _result(run, str(fold), [folder], folder.scans, folder.summary, reduced)
        for fold, folder in sorted(folds.items())
    }
    if len(folds) == 1 < count or not folds:
        return list(alone.values())
    runs = [folder for _, folder in sorted(folds.items())]
    together = ALL if len(folds) == count else "+".join(alone)
    scans = joined(folder.scans for folder in runs)
    summary = summarise(
        scans,
        merged_protocol(folder.summary for folder in runs) | {"fold": together, "folds": len(runs)},
        metrics=recorded_infos(folder.summary for folder in runs),
    )
    whole = _result(run, together, runs, scans, summary, reduced)
    return [whole] if count == 1 else [*alone.values(), whole]


def _result(
    run: str, fold: str, folders: Sequence[RunFolder], scans: pd.DataFrame, summary: Mapping[str, Any], reduced: str
) -> Result:
    records = [_redacted(folder.provenance) for folder in folders]
    hours = [_hours(folder) for folder in folders]
    known = [part for part in hours if part is not None]
    common: dict[str, Any] = {
        "run": run,
        "fold": fold,
        "seed": _whole(records[0].get("seed")),
        "steps": max(_whole(record.get("steps")) for record in records),
        "hours": round(sum(known), 4) if len(known) == len(hours) else None,
        "hardware": _each(_hardware(record) for record in records),
        "versions": _each(_versions(record) for record in records),
        "commit": _each(_commit(record) for record in records),
        "date": max(_short(record.get("started"))[:10] for record in records),
        "reduced": reduced,
        "provenance": "",
    }
    rows = []
    for label, scores in (("foreground", summary["foreground"]), *summary["labels"].items()):
        for metric, figures in scores.items():
            low, high = figures["ci95"] or (None, None)
            values: dict[str, Any] = {"value": figures["mean"], "sd": figures["sd"], "ci95_low": low, "ci95_high": high}
            named: dict[str, Any] = {"metric": _short(metric), "label": _short(label), "scans": int(figures["n"] or 0)}
            rows.append(Measured(**common, **named, **values))
    record = records[0] if len(records) == 1 else {"runs": records}
    return Result(rows, scans, summary, record)


def enter(study: Path, found: Sequence[Result]) -> None:
    """Enter figures in ``measured.csv`` of a study, their provenance, summary and scans beside it.

    A row of the same run, fold, seed, steps and hardware is replaced, and one of several folds by that of more.

    Args:
        study: The study's folder.
        found: What `results` gave.
    """
    rows = read_measured(study)
    before = {row.provenance for row in rows}
    for result in found:
        first = result.rows[0]
        rows = [row for row in rows if not any(new.replaces(row) for new in result.rows)]
        taken = {row.provenance for row in rows}
        base = f"measured/{first.run}-fold{first.fold}-seed{first.seed}"
        place = next(
            name
            for name in (base, *(f"{base}-{n}" for n in range(2, 10_000)))
            if f"{name}/provenance.json" not in taken
        )
        write_json(study / place / "provenance.json", plain(result.provenance))
        write_summary(study / place / "summary.json", result.summary)
        write_scans(study / place / "scans.csv", result.scans)
        rows += [replace(row, provenance=f"{place}/provenance.json") for row in result.rows]
    write_rows(study / "measured.csv", Measured, rows)
    for left in before - {row.provenance for row in rows}:
        if folder := _entered(study, left):
            shutil.rmtree(folder, ignore_errors=True)


def _entered(study: Path, provenance: str) -> Path | None:
    """The folder that holds a provenance; None where it is none that `enter` made."""
    folder = (study / provenance).parent
    return folder if provenance and folder.resolve().parent == (study / "measured").resolve() else None


def write_page(folder: Path) -> None:
    """Write ``README.md`` of a folder of studies; see `page`."""
    write_text(folder / "README.md", page(folder))


def page(folder: Path) -> str:
    """The page of a folder of studies in Markdown: every run, published beside measured.

    A data set counts as being here when a run of any study was measured on it.

    Args:
        folder: Holds one folder a study: ``RUN.yaml``, ``published.csv``, ``measured.csv``, ``README.md``.

    Raises:
        UserError: A table is damaged, naming the line and the column.
    """
    names = sorted(study for study in folder.iterdir() if study.is_dir() and re.fullmatch(r"\w[\w.-]*", study.name))
    tables = {study: (read_published(study), read_measured(study), runs_of(study)) for study in names}
    here = {runs.get(row.run) for _, measured, runs in tables.values() for row in measured} - {None}
    sections, counted = [], Counter[str]()
    for study, (published, measured, runs) in tables.items():
        every = sorted(runs.keys() | {row.run for row in published if row.run} | {row.run for row in measured})
        lines = [line for run in every for line in compare(run, published, measured, runs.get(run) in here)]
        if not lines:
            continue
        counted.update(line.verdict for line in lines if line.published)
        title = f"[{study.name}]({study.name}/README.md)" if (study / "README.md").is_file() else study.name
        sections.append(f"## {title}\n\n{markdown(lines, _protocols(study, lines))}")
    total = sum(counted.values())
    verdicts = ", ".join(f"{counted[word]} {word or 'without a verdict'}" for word in (*VERDICTS, "") if counted[word])
    return f"{PAGE}{total} published figures{': ' if total else ''}{verdicts}.\n\n" + "\n".join(sections)


def _protocols(study: Path, lines: Sequence[Line]) -> dict[str, str]:
    """What each run was measured with, as the summary says that was entered with the figures of its most scans."""
    rows: dict[str, Measured] = {}
    for line in lines:
        if line.measured and (line.run not in rows or line.measured.scans > rows[line.run].scans):
            rows[line.run] = line.measured
    files = {run: folder / "summary.json" for run, row in rows.items() if (folder := _entered(study, row.provenance))}
    return {run: protocol_line(read_summary(file)) for run, file in files.items() if file.is_file()}


def runs_of(study: Path) -> dict[str, str | None]:
    """Runs of a study by name: which data set each names in its defaults; None where it names none."""
    return {
        run: next((data for file in files if (data := _data(read_mapping(file)))), None)
        for run, files in experiments.runs(study).items()
    }


def _data(config: Mapping[str, Any]) -> str | None:
    defaults = config.get("defaults")
    named = [entry for entry in defaults if isinstance(entry, dict)] if isinstance(defaults, list) else []
    return next((str(entry["override /data"]) for entry in named if "override /data" in entry), None)


def _redacted(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """A provenance without paths of the machine, and of each scan one hash in the place of its files."""
    record = dict(provenance)
    cases, dataset, weights = record.pop("cases", None), record.get("dataset"), record.get("weights")
    if isinstance(cases, dict):
        record["cases_sha256"] = {str(case): _digest(files) for case, files in cases.items()}
    if isinstance(dataset, dict):
        record["dataset"] = {key: value for key, value in dataset.items() if key != "root"}
    if isinstance(weights, dict):
        record["weights"] = {Path(str(file)).name: digest for file, digest in weights.items()}
    for key in ("command", "overrides"):
        if isinstance(words := record.get(key), list):
            record[key] = [re.sub(r"=(['\"]?)[~/].*", r"=FOLDER", str(word)) for word in words]
    return record


def _digest(files: Any) -> str:
    hashes = files.get("sha256") if isinstance(files, dict) else None
    text = json.dumps(sorted(map(str, hashes.values()) if isinstance(hashes, dict) else []))
    return hashlib.sha256(text.encode()).hexdigest()


def _hours(folder: RunFolder) -> float | None:
    """Wall time of a fold; a run that was taken up again tells its last part only, its pace the whole training."""
    cost = folder.summary.get("cost")
    pace = _number(cost.get("seconds_per_step")) if isinstance(cost, dict) else None
    wall = _number(folder.provenance.get("wall_seconds"))
    return None if wall is None else max(wall, (pace or 0.0) * _whole(folder.provenance.get("steps"))) / 3600


def _hardware(record: Mapping[str, Any]) -> str:
    found = record.get("hardware")
    if not isinstance(found, dict):
        return ""
    accelerators = found.get("accelerators")
    named = ", ".join(map(_short, accelerators)) if isinstance(accelerators, list) else ""
    return (
        f"{_short(found.get('cores'))} cores of {_short(found.get('processor'))} ({_short(found.get('capability'))}), "
        f"{_short(found.get('memory_gb'))} GB, {named or 'no accelerator'}"
    )


def _versions(record: Mapping[str, Any]) -> str:
    found = record.get("versions")
    return ", ".join(f"{_short(k)} {_short(v)}" for k, v in found.items()) if isinstance(found, dict) else ""


def _commit(record: Mapping[str, Any]) -> str:
    code = record.get("code")
    if not isinstance(code, dict) or not code.get("commit"):
        return ""
    return _short(code["commit"]) + (" with uncommitted changes" if code.get("uncommitted_changes") else "")


def _each(texts: Iterator[str]) -> str:
    """What the folds say, once where they agree."""
    return " / ".join(dict.fromkeys(texts))


def _short(value: Any) -> str:
    return printable("" if value is None else value)[:200]


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**15 else 0


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
