"""A folder of studies: results of finished runs are entered there, and one page shows all studies."""

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
from segment.studies.figures import ALL, Measured, read_measured, read_published, write_rows
from segment.studies.ledger import compare
from segment.studies.table import escaped, markdown
from segment.studies.verdict import VERDICTS, read_rules
from segment.text import printable

PAGE = """# Studies

Published figures and our measurements. `segment reproduce page=experiments` generates this page from the studies'
`published.csv`, `measured.csv` and `verdict.yaml`; manual edits will be lost.

Each figure is judged by the difference between measured and published value, with its 90 % interval over folds or seeds
(two one-sided tests at 5 %), against a margin that was set beforehand: .005 of Dice or IoU unless the study's
`verdict.yaml` says otherwise. Of the published recipe a figure is **reproduced** if the interval lies within the
margin, **not reproduced (below** or **above)** if it lies on one side of zero but not within, else **inconclusive**;
fewer than five folds or three seeds are always inconclusive. The interval counts both trainings and, unless both were
tested on the same scans (`same_scans` in `verdict.yaml`), both samples of scans. A run that differs from the published
recipe **matches** or **does not match**, and a line under the table says what differs. **Not comparable**: overlap,
mirrored views, test set, grid or pretraining differ, so that no run of ours could reproduce the figure. Seeds are
averaged. There is no verdict if the run was not scored with this metric. *Reduced*: the run's protocol deviates from
the study's, for example in fewer steps or folds. The interval beside a measured value is a bootstrap over its scans; it
decides nothing. Split, overlap and test-time augmentation are given with the published value, and under the table for
the measured one. `measured.csv` names the provenance file of a measured row.

"""


@dataclass(frozen=True)
class Result:
    """The results of one fold of a run, or of several folds together.

    Attributes:
        rows: Rows for ``measured.csv``, with ``provenance`` still empty.
        scans: Table of scans.
        summary: Content of ``summary.json``.
        provenance: Content of ``provenance.json``, without local paths.
    """

    rows: list[Measured]
    scans: pd.DataFrame
    summary: Mapping[str, Any]
    provenance: Mapping[str, Any]


def results(run: str, folds: Mapping[int, RunFolder], count: int, reduced: str) -> list[Result]:
    """The results of a run's finished folds: of each fold, then of all their scans together.

    Args:
        run: Name of the run.
        folds: Run folder of each finished fold, by number.
        count: Number of folds of the run.
        reduced: How the run's protocol deviates from the study's; empty if it does not.
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
    """Enter results in ``measured.csv`` of a study, and write their provenance, summary and scans beside it.

    A new row replaces one of the same run, fold, seed, steps and hardware, and one of several of its folds.

    Args:
        study: The study's folder.
        found: The output of `results`.
    """
    rows = read_measured(study)
    before = {row.provenance for row in rows}
    for result in found:
        first = result.rows[0]
        rows = [row for row in rows if not any(new.replaces(row) for new in result.rows)]
        taken = {row.provenance for row in rows}
        base = f"measured/{first.run}-fold{first.fold}-seed{first.seed}"
        target = next(
            name
            for name in (base, *(f"{base}-{n}" for n in range(2, 10_000)))
            if f"{name}/provenance.json" not in taken
        )
        write_json(study / target / "provenance.json", plain(result.provenance))
        write_summary(study / target / "summary.json", result.summary)
        write_scans(study / target / "scans.csv", result.scans)
        rows += [replace(row, provenance=f"{target}/provenance.json") for row in result.rows]
    write_rows(study / "measured.csv", Measured, rows)
    for replaced in before - {row.provenance for row in rows}:
        if folder := _entered_folder(study, replaced):
            shutil.rmtree(folder, ignore_errors=True)


def _entered_folder(study: Path, provenance: str) -> Path | None:
    """The folder of a provenance file; None unless `enter` created it."""
    folder = (study / provenance).parent
    return folder if provenance and folder.resolve().parent == (study / "measured").resolve() else None


def write_page(folder: Path) -> None:
    """Write the ``README.md`` of a folder of studies; see `page`."""
    write_text(folder / "README.md", page(folder))


def page(folder: Path) -> str:
    """The page of a folder of studies in Markdown: published and measured figures of every run.

    A data set counts as available if a run of any study was measured on it.

    Args:
        folder: Contains one folder per study: ``RUN.yaml``, ``published.csv``, ``measured.csv``, ``README.md``.

    Raises:
        UserError: When a table is damaged; the message names the row and column.
    """
    names = sorted(study for study in folder.iterdir() if study.is_dir() and re.fullmatch(r"\w[\w.-]*", study.name))
    tables = {study: (read_published(study), read_measured(study), runs_of(study)) for study in names}
    here = {runs.get(row.run) for _, measured, runs in tables.values() for row in measured} - {None}
    sections, counted = [], Counter[str]()
    for study, (published, measured, runs) in tables.items():
        every = sorted(runs.keys() | {row.run for row in published if row.run} | {row.run for row in measured})
        rules, protocols = read_rules(folder / study.name), _summaries(folder / study.name, measured)
        lines = [
            line
            for run in every
            for line in compare(
                run, published, measured, runs.get(run) in here, rules, protocols.get(run, {}).get("protocol")
            )
        ]
        if not lines:
            continue
        counted.update(line.verdict for line in lines if line.published)
        title = f"[{study.name}]({study.name}/README.md)" if (study / "README.md").is_file() else study.name
        made_with = {run: protocol_line(summary) for run, summary in protocols.items()}
        notices = "".join(f"\nNote: {escaped(notice)}\n" for notice in _notices(folder / study.name, measured))
        sections.append(f"## {title}\n\n{markdown(lines, made_with)}{notices}")
    total = sum(counted.values())
    verdicts = ", ".join(f"{counted[word]} {word or 'without a verdict'}" for word in (*VERDICTS, "") if counted[word])
    return f"{PAGE}{total} published figures{': ' if total else ''}{verdicts}.\n\n" + "\n".join(sections)


def _summaries(study: Path, measured: Sequence[Measured]) -> dict[str, Mapping[str, Any]]:
    """The summary of each run's row with the most scans, the latest of them."""
    rows: dict[str, Measured] = {}
    for row in measured:
        if row.run not in rows or (row.scans, row.date) > (rows[row.run].scans, rows[row.run].date):
            rows[row.run] = row
    files = {
        run: entered / "summary.json"
        for run, row in rows.items()
        if (entered := _entered_folder(study, row.provenance))
    }
    return {run: read_summary(file) for run, file in sorted(files.items()) if file.is_file()}


def _notices(study: Path, measured: Sequence[Measured]) -> list[str]:
    """The distinct notices of the data sets of the measured rows, from their provenance."""
    files = dict.fromkeys(study / row.provenance for row in measured if _entered_folder(study, row.provenance))
    notices = [read_mapping(file).get("notice") for file in files if file.is_file()]
    return list(dict.fromkeys(notice for notice in notices if isinstance(notice, str) and notice))


def runs_of(study: Path) -> dict[str, str | None]:
    """The data set in the defaults of each run of a study, by run; None if it names none."""
    return {
        run: next((data for file in files if (data := _data(read_mapping(file)))), None)
        for run, files in experiments.runs(study).items()
    }


def _data(config: Mapping[str, Any]) -> str | None:
    defaults = config.get("defaults")
    named = [entry for entry in defaults if isinstance(entry, dict)] if isinstance(defaults, list) else []
    return next((str(entry["override /data"]) for entry in named if "override /data" in entry), None)


def _redacted(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """A provenance without local paths, and with one hash per scan in place of its files."""
    record = dict(provenance)
    dataset, weights = record.get("dataset"), record.get("weights")
    for key in ("cases", "test_cases"):
        if isinstance(cases := record.pop(key, None), dict) and (cases or key == "cases"):
            record[f"{key}_sha256"] = {str(case): _digest(files) for case, files in cases.items()}
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
    """Wall time of a fold in hours; at least steps times pace, since a resumed run records its last part only."""
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
    """The distinct texts of the folds."""
    return " / ".join(dict.fromkeys(texts))


def _short(value: Any) -> str:
    return printable("" if value is None else value)[:200]


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**15 else 0


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
