"""The card of a model: what it is, how good it is and for whom it is not, from the files of its run.

Source of the sections: Mitchell et al. 2019, "Model Cards for Model Reporting", https://arxiv.org/abs/1810.03993.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from segment.metrics.metric import MetricInfo
from segment.runs.cost import cost_lines
from segment.runs.folder import RunFolder
from segment.runs.metrics import metric_infos
from segment.runs.scans import TEST
from segment.runs.subgroups import KEY as SUBGROUPS
from segment.text import printable

NOT_STATED = "Not stated."
POOR = 0.7  # of Dice, below which a scan is counted as a failure


def model_card(run: RunFolder, compared: str = "", use: str = "") -> str:
    """The card as Markdown.

    Args:
        run: A finished run.
        compared: Comparison with the model that it replaces, one sentence; empty without one.
        use: Intended use, in the words of whoever promotes it.

    Returns:
        The text. Names of scans are not in it.
    """
    data, provenance = run.provenance.get("dataset", {}), run.provenance
    sections = {
        "Intended use": [use or f"{NOT_STATED} Research; it is no medical device."],
        "Data": list(_data(data, provenance)),
        "Plan and network": list(_plan(run.config)),
        "Scores": list(_scores(run, compared)),
        "Known failures": list(_failures(run)),
        "Cost": [*cost_lines(run.summary), f"Processor: {_hardware(provenance)}."],
        "Licences": [
            f"Data: {data.get('licence') or NOT_STATED}",
            "Program: Apache-2.0. Weights: not stated; the licence of the data may restrict it.",
        ],
        "Provenance": list(_provenance(provenance)),
    }
    name = printable(run.path.absolute().name)
    lines = [f"# Model card: {name}", ""]
    for title, content in sections.items():
        lines += [f"## {title}", "", *content, ""]
    return "\n".join(lines).rstrip() + "\n"


def _data(data: Mapping[str, Any], provenance: Mapping[str, Any]) -> Iterator[str]:
    split = provenance.get("split", {})
    counts = ", ".join(f"{len(cases)} {name}" for name, cases in split.items() if isinstance(cases, list))
    yield f"Data set {printable(data.get('name', '?'))}: {counts or 'scans not listed'}."
    labels = provenance.get("labels", {})
    yield f"Labels: {', '.join(printable(name) for name in labels)}."


def _plan(config: Mapping[str, Any]) -> Iterator[str]:
    network, plan = config.get("network", {}), config.get("planned", {})
    if isinstance(network, Mapping) and "_target_" in network:
        yield f"Network: `{printable(network['_target_'])}`."
        yield ""
    rows = [(key, plan[key]) for key in ("spacing", "patch_size", "batch_size", "normalization") if key in plan]
    yield from _table(("plan", "value"), [(key, printable(value)) for key, value in rows])


def _scores(run: RunFolder, compared: str) -> Iterator[str]:
    summary = run.summary
    protocol = summary.get("protocol", {})
    told = ", ".join(f"{key.replace('_', ' ')} {printable(value)}" for key, value in protocol.items())
    yield f"{summary.get('scans', '?')} scans ({told}); means with 95 % intervals over scans."
    yield ""
    yield from _scored(summary, metric_infos(summary))
    if (test := summary.get(TEST)) is not None:
        yield ""
        yield f"{test.get('scans', '?')} test scans:"
        yield ""
        yield from _scored(test, metric_infos(test))
    if compared:
        yield ""
        yield f"In place of the model before: {compared}"


def _scored(summary: Mapping[str, Any], infos: Sequence[MetricInfo]) -> Iterator[str]:
    rows = {"foreground": summary.get("foreground", {}), **summary.get("labels", {})}
    cells = [(printable(name), *(_cell(found.get(info.name)) for info in infos)) for name, found in rows.items()]
    yield from _table(("structure", *(info.title for info in infos)), cells)


def _cell(found: Any) -> str:
    if not isinstance(found, Mapping) or found.get("mean") is None:
        return "-"
    ends = found.get("ci95")
    return f"{found['mean']:.4f}" + (f" ({ends[0]:.4f} - {ends[1]:.4f}), n {found['n']}" if ends else "")


def _failures(run: RunFolder) -> Iterator[str]:
    """Structures that are missed, invented or poor, and the subgroups that differ."""
    rows = []
    for name, own in run.scans.groupby("name", sort=False):
        scored = own["dice"].dropna()
        status = own["status"].value_counts()
        poor = int((scored < POOR).sum())
        worst = f"{scored.min():.3f}" if len(scored) else "-"
        counts = (int(status.get("missed", 0)), int(status.get("invented", 0)), poor)
        rows.append((printable(name), str(len(own)), *map(str, counts), worst))
    yield from _table(("structure", "scans", "missed", "invented", f"Dice below {POOR}", "worst Dice"), rows)
    groups = run.summary.get(SUBGROUPS)
    if not isinstance(groups, Mapping):
        yield ""
        yield "Scores by group (site, scanner, sex) were not asked for: `segment evaluate by=COLUMN table=FILE`."
        return
    yield ""
    yield f"By {printable(groups.get('column', 'group'))}:"
    yield ""
    rows = [
        (printable(name), _cell(found.get("foreground", {}).get("dice")))
        for name, found in groups.get("groups", {}).items()
    ]
    yield from _table(("group", "Dice"), rows)


def _hardware(provenance: Mapping[str, Any]) -> str:
    hardware = provenance.get("hardware", {})
    parts = [hardware.get("processor"), *(hardware.get("accelerators") or [])]
    return ", ".join(printable(part) for part in parts if part) or "not recorded"


def _provenance(provenance: Mapping[str, Any]) -> Iterator[str]:
    versions, code = provenance.get("versions", {}), provenance.get("code", {}) or {}
    named = [f"{name} {versions[name]}" for name in ("segment", "torch", "monai") if name in versions]
    yield f"Trained {printable(provenance.get('started', '?'))}, seed {printable(provenance.get('seed', '?'))}, " + (
        f"commit {printable(code.get('commit', '?'))}, {', '.join(map(printable, named))}."
    )
    yield "Settings, versions and hashes: `config.yaml`, `provenance.json` and `summary.json` beside this file."


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table in Markdown."""
    for row in (heads, ["---"] * len(heads), *rows):
        yield "| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |"
