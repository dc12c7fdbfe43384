"""The report of a finished run as one HTML page that needs no network and no other file."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
import yaml

from segment.provenance import write_text
from segment.report.files import plain, printable
from segment.report.folder import RunFolder, notable_scans, read_run
from segment.report.pictures import colours, png
from segment.report.scans import scan_rows
from segment.report.summary import cost_lines, empties_line, protocol_line


def write_page(run: Path) -> None:
    """Write ``report.html`` of a finished run.

    The page shows a notice of the data set, the summary, the worst and the median scan, every scan, the resolved
    configuration and the provenance. All text from files is escaped, and the page forbids scripts and connections.

    Args:
        run: A run folder: ``config.yaml``, ``scans.csv``, ``summary.json``, ``provenance.json``, ``predictions/``.

    Raises:
        UserError: One of the first three is missing or damaged.
    """
    write_text(run / "report.html", _render(read_run(run)))


def _render(run: RunFolder) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Hashes of every input file would be most of the page; they stand in provenance.json.
    provenance = {key: value for key, value in run.provenance.items() if key != "cases"}
    palette = colours(len(run.summary["labels"]) + 1)[1:].tolist()
    return environment.get_template("page.html.j2").render(
        title=printable(run.path.resolve().name),
        notice=printable(run.provenance.get("notice") or ""),
        summary=run.summary,
        swatches=[f"rgb({red}, {green}, {blue})" for red, green, blue in palette],
        protocol=protocol_line(run.summary),
        cost=cost_lines(run.summary),
        empties=empties_line(run.summary),
        pictures=[_picture(scan.kind, scan.case, scan.dice, scan.picture) for scan in notable_scans(run)],
        scans=_scan_table(run.scans, list(run.summary["labels"])),
        config=yaml.safe_dump(plain(run.config), sort_keys=False, allow_unicode=True),
        provenance=json.dumps(plain(provenance), indent=2, ensure_ascii=False) if provenance else "",
    )


def _picture(kind: str, case: str, dice: float, picture: np.ndarray) -> dict[str, Any]:
    data = base64.b64encode(png(picture)).decode("ascii")
    height, width = picture.shape[:2]
    return {"kind": kind, "case": printable(case), "dice": dice, "data": data, "width": width, "height": height}


def _scan_table(scans: pd.DataFrame, names: list[str]) -> list[dict[str, Any]]:
    """One entry a scan, worst first, those without any score last."""
    dice = scan_rows(scans, "dice").reindex(columns=names)
    status = scan_rows(scans, "status").reindex(columns=names)
    means = dice.mean(axis=1).sort_values(kind="stable", na_position="last")
    rows = []
    for key, mean in means.items():
        cells = [
            {"dice": plain(float(dice.loc[key, name])), "status": str(status.loc[key, name]).replace("_", " ")}
            for name in names
        ]
        rows.append({"case": printable(key[2]), "mean": plain(float(mean)), "cells": cells})
    return rows
