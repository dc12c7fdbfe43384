"""The report of a finished run as one self-contained HTML page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from markupsafe import Markup

from segment.errors import UserError
from segment.evaluation.raters import KEY as RATERS
from segment.files import plain, read_mapping, write_text
from segment.metrics.metric import MetricInfo
from segment.metrics.standard import LEAD
from segment.report.agreement import agreement
from segment.report.html import data_url, error_colours, json_block, render
from segment.report.notable import notable_cases, warn_not_shown
from segment.report.plots import MOST_POINTS, curves, distributions
from segment.report.viewer import viewer_code, viewer_volumes
from segment.runs.cost import cost_lines
from segment.runs.curves import LOSS, VALIDATION_LOSS, read_curves
from segment.runs.folder import RunFolder, read_run
from segment.runs.health import divergence
from segment.runs.metrics import metric_infos
from segment.runs.reliability import KEY as RELIABILITY
from segment.runs.scans import mean_over_folds, parted, read_scans, scan_rows, scan_tables
from segment.runs.subgroups import KEY as SUBGROUPS
from segment.runs.summary import (
    POSTPROCESSING,
    empties_line,
    protocol_line,
    read_summary,
    scan_scores,
    test_summary,
)
from segment.runs.voxels import read_voxels
from segment.text import printable
from segment.visual.pictures import colours, planes, png

_MOST_CELLS, _FEWEST_ROWS = 40_000, 100  # of the table of scans: 3 MB, which a browser opens in a second
_NO_VIEWER = "This page has no viewer: the package ipyniivue, which provides it, is missing or incompatible."
_COLUMNS = {"image": "image", "reference": "reference", "prediction": "prediction", "contours": "both contours"}
_COLUMNS |= {"errors": "errors"}


@dataclass(frozen=True)
class _ShownScans:
    """Scans shown on the page.

    Attributes:
        pictures: Template data of each scan that could be read.
        volumes: Viewer data of each of these scans that is 3D.
        missing: Kind and id of each scan that could not be read.
        notes: What the pictures lack: ``unoriented`` and ``without_image``.
    """

    pictures: list[dict[str, Any]]
    volumes: list[dict[str, Any]]
    missing: list[str]
    notes: dict[str, str]


def write_page(run: Path) -> None:
    """Write ``report.html`` of a finished run.

    The page shows a warning if the training diverged, the notice of the data set, the summary, the distribution over
    scans, the three worst scans and the median one in three planes and in a viewer, the learning curves, every scan,
    the resolved configuration and the provenance. All text from files is escaped, only our own scripts can run, and the
    page makes no connections. Unavailable parts (pictures of scans that were moved, a viewer without its package) are
    replaced by a sentence.

    Args:
        run: A run folder: ``config.yaml``, ``scans.csv``, ``summary.json``, ``provenance.json``, ``predictions/``,
            ``tensorboard/``.

    Raises:
        UserError: One of the first three is missing or damaged.
    """
    write_text(run / "report.html", _render(read_run(run)))


def write_evaluation_page(folder: Path) -> None:
    """Write ``report.html`` of masks that were scored without a training.

    Args:
        folder: ``scans.csv``, ``summary.json`` and ``provenance.json``.

    Raises:
        UserError: One of them is missing or damaged.
    """
    scans, summary = read_scans(folder / "scans.csv"), read_summary(folder / "summary.json")
    run = RunFolder(folder, scans, summary, {}, read_mapping(folder / "provenance.json"))
    write_text(folder / "report.html", _render(run))


def _render(run: RunFolder) -> str:
    # Hashes of every input file would take up most of the page; they are in provenance.json.
    provenance = {key: value for key, value in run.provenance.items() if key not in ("cases", "test_cases")}
    palette = colours(len(run.summary["labels"]) + 1).tolist()
    shown = _draw_scans(run)
    scans, tests = parted(run.scans)
    test = test_summary(run.summary)
    code = viewer_code() if shown.volumes else None
    volumes = shown.volumes if code else []
    metrics = [info for info in metric_infos(run.summary) if info.name in run.scans]
    return render(
        "run.html.j2",
        scripts=["table.js", *(["viewer.js"] if code else [])],
        allowed=[code.script] if code else [],
        title=_title(run),
        warning=_warning(run.path),
        notice=printable(run.provenance.get("notice") or ""),
        summary=run.summary,
        agreement=agreement(run),
        postprocessing=run.summary.get(POSTPROCESSING),
        reliability=run.summary.get(RELIABILITY),
        subgroups=_subgroups(run, metrics),
        raters=run.summary.get(RATERS),
        error_colours=error_colours(),
        unoriented=shown.notes.get("unoriented", ""),
        without_image=shown.notes.get("without_image", ""),
        labels=[
            {"key": key, "name": printable(key), "colour": f"rgb({red}, {green}, {blue})"}
            for key, (red, green, blue) in zip(run.summary["labels"], palette[1:], strict=True)
        ],
        protocol=protocol_line(run.summary),
        cost=cost_lines(run.summary),
        empties=empties_line(run.summary),
        origin=_origin(run),
        metrics=metrics,
        lead=LEAD,
        spreads=_spreads(scans, metrics),
        worst=_worst(scans, metrics),
        points=scan_rows(scans, LEAD.name).notna().to_numpy().sum() <= MOST_POINTS,
        pictures=shown.pictures,
        missing=shown.missing,
        flat=not shown.volumes,
        volumes=volumes,
        without_viewer=_NO_VIEWER if shown.volumes and not code else "",
        label_colours=json_block({"colours": palette}),
        viewer=code,
        curves=_curves(run, metrics),
        scans=_scan_table(scans, metrics, list(run.summary["labels"]), [scan["case"] for scan in volumes]),
        test=test and _test_scans(test, tests, metrics),
        config=yaml.safe_dump(plain(run.config), sort_keys=False, allow_unicode=True) if run.config else "",
        provenance=json.dumps(plain(provenance), indent=2, ensure_ascii=False) if provenance else "",
        spent=json.dumps(plain(run.summary.get("cost")), indent=2) if run.summary.get("cost") else "",
    )


def _title(run: RunFolder) -> str:
    """The name of a run; of masks without one, their folder."""
    masks = run.summary["protocol"].get("predictions")
    if not run.config and isinstance(masks, str):
        return f"Evaluation of {printable(Path(masks).name)}"
    return printable(run.config.get("name") or run.path.resolve().name)


def _warning(run: Path) -> str:
    """The warning at the top of the page if the training diverged; otherwise empty."""
    found = divergence(run)
    if found is None:
        return ""
    which = "This training" if found.fold is None else f"The training of {printable(found.fold.name)}"
    where = "" if found.step is None else f" from step {found.step}"
    return f"{which} diverged: {found.cause}{where}. Its scores say nothing about the method."


def _draw_scans(run: RunFolder) -> _ShownScans:
    """Draw the worst scans and the median one, one at a time: a scan can take up most of the memory."""
    shown = _ShownScans([], [], [], {})
    for notable in notable_cases(run, worst=3):
        try:
            scan = read_voxels(run, notable.case)
            masks = scan.reference, scan.prediction
            drawn = planes(scan.image, *masks, scan.n_classes, scan.grid.spacing, letters=scan.oriented)
        except (UserError, ValueError) as error:
            warn_not_shown(notable, error)
            shown.missing.append(f"{notable.kind} scan {printable(notable.case)}")
            continue
        if not scan.image.any():
            del drawn["image"]
            shown.notes["without_image"] = "The images are not known: no predictions.json beside the masks names them."
        if not scan.oriented:
            shown.notes["unoriented"] = "The files do not say which side is left, so the slices may be turned."
        pictures = [
            {
                "name": _COLUMNS[name],
                "source": data_url("image/png", png(picture)),
                "width": picture.shape[1],
                "height": picture.shape[0],
            }
            for name, picture in drawn.items()
        ]
        name = {"kind": notable.kind, "case": printable(notable.case), "score": notable.score}
        shown.pictures.append({**name, "planes": pictures})
        volumes = viewer_volumes(scan)
        if volumes:
            button = (len(shown.volumes), f"{notable.kind}: {printable(notable.case)}")
            entry = {"case": notable.case, "button": button, "whole": volumes["whole"], "data": json_block(volumes)}
            shown.volumes.append(entry)
    return shown


def _origin(run: RunFolder) -> str:
    """One line with recorded start time, code version, seed and hardware of a run."""
    found = run.provenance
    code, machine = _mapping(found.get("code")), _mapping(found.get("hardware"))
    commit = str(code.get("commit") or "")[:10]
    parts = [
        found.get("started"),
        f"commit {commit}" + (" with uncommitted changes" if code.get("uncommitted_changes") else "") if commit else "",
        f"seed {found['seed']}" if "seed" in found else "",
        machine.get("processor"),
        f"{machine['cores']} cores" if "cores" in machine else "",
        *(machine["accelerators"] if isinstance(machine.get("accelerators"), list) else []),
    ]
    return printable(" · ".join(str(part) for part in parts if part))


def _mapping(value: Any) -> dict[str, Any]:
    """A mapping from a file; empty if the value is not a mapping."""
    return value if isinstance(value, dict) else {}


def _spreads(scans: pd.DataFrame, metrics: Sequence[MetricInfo]) -> list[Markup]:
    """Distribution plots of the metrics; metrics without any score are left out."""
    tables = [scan_rows(scans, metric.name) for metric in metrics]
    return [
        distributions(table, metric, f"spread{place}")
        for place, (metric, table) in enumerate(zip(metrics, tables, strict=True))
        if table.notna().any(axis=None)
    ]


def _worst(scans: pd.DataFrame, metrics: Sequence[MetricInfo]) -> list[dict[str, Any]]:
    """The three worst scans by every metric."""
    rows = []
    for metric in metrics:
        ordered = scan_scores(scans, metric)[:3]
        shown = [{"case": printable(case), "score": float(score)} for case, score in ordered.items()]
        rows.append({"metric": metric.heading, "scans": shown})
    return rows


def _curves(run: RunFolder, metrics: Sequence[MetricInfo]) -> list[Markup]:
    """Plots of the logged loss and validation scores over training."""
    lines = ("foreground", *run.summary["labels"])
    tags = {metric: {f"val/{name}_{metric.name}": name for name in lines} for metric in metrics}
    found = read_curves(
        run.path / "tensorboard", [LOSS, VALIDATION_LOSS, *(tag for names in tags.values() for tag in names)]
    )
    drawn = []
    losses = {name: found[tag] for tag, name in ((LOSS, "training"), (VALIDATION_LOSS, "validation")) if tag in found}
    if losses:
        drawn.append(curves(losses, "loss", "loss", smooth=True))
    scores = {
        metric: {name: found[tag] for tag, name in names.items() if tag in found} for metric, names in tags.items()
    }
    points = {metric: max(map(len, lines.values()), default=0) for metric, lines in scores.items()}
    for place, metric in enumerate(metrics):
        # A metric that only the final scoring computes has a last point and no curve.
        if 0 < points[metric] == max(points.values()):
            drawn.append(curves(scores[metric], f"validation {metric.heading}", f"validation{place}"))
    return drawn


def _subgroups(run: RunFolder, metrics: Sequence[MetricInfo]) -> dict[str, Any] | None:
    """What the page says of subgroups; None if there are none."""
    found = run.summary.get(SUBGROUPS)
    if not found:
        return None
    headings = {info.name: info.heading for info in metrics}
    rows = [{**row, "heading": headings[row["metric"]]} for row in found["differences"] if row["metric"] in headings]
    return {**found, "differences": rows}


def _test_scans(summary: dict[str, Any], tests: pd.DataFrame, metrics: Sequence[MetricInfo]) -> dict[str, Any]:
    """What the page says of the test scans, from their summary and rows."""
    averaged = mean_over_folds(tests, {info.name: info.perfect for info in metric_infos(summary)})
    return {
        "summary": summary,
        "protocol": protocol_line(summary),
        "empties": empties_line(summary),
        "scans": _scan_table(averaged, metrics, list(summary["labels"]), []),
    }


def _scan_table(
    scans: pd.DataFrame, metrics: Sequence[MetricInfo], names: list[str], embedded: list[str]
) -> dict[str, Any]:
    """``rows``, one per scan, and the number of scans, ``of``; `embedded` lists the scans in the viewer.

    The worst scan is first and those without any score are last. Of many scans and labels the worst alone are shown.
    """
    tables = {key: wide.reindex(columns=names) for key, wide in _tables(scans, metrics).items()}
    status = tables.pop("status")
    means = {name: table.mean(axis=1) for name, table in tables.items()}
    ordered = means[LEAD.name].reset_index(drop=True)
    ordered = ordered.sort_values(ascending=LEAD.higher_is_better, kind="stable", na_position="last")
    places = {case: place for place, case in enumerate(embedded)}
    scores, states, own = (
        tables[LEAD.name].to_numpy(),
        status.to_numpy(),
        np.stack([mean.to_numpy() for mean in means.values()], axis=1),
    )
    rows = []
    for row in ordered.index[: max(_FEWEST_ROWS, _MOST_CELLS // (1 + len(metrics) + len(names)))]:
        cells = [
            {"score": plain(float(score)), "status": str(state).replace("_", " ")}
            for score, state in zip(scores[row], states[row], strict=True)
        ]
        case = status.index[row][2]
        volumes = places.get(case)
        rows.append({"case": printable(case), "means": plain(own[row].tolist()), "cells": cells, "volumes": volumes})
    return {"rows": rows, "of": len(ordered)}


def _tables(scans: pd.DataFrame, metrics: Sequence[MetricInfo]) -> dict[str, pd.DataFrame]:
    """See `segment.runs.scans.scan_tables`: the metrics and the status."""
    return scan_tables(scans, [*(metric.name for metric in metrics), "status"])
