"""The results of a study's finished folds, compared with the published figures."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from segment.config.study import STEPS
from segment.errors import UserError, did_you_mean
from segment.files import write_text
from segment.runs.folder import RunFolder
from segment.runs.settings import differences
from segment.runs.summary import protocol_line
from segment.studies.figures import Measured, as_csv
from segment.studies.folds import finished_folds
from segment.studies.ledger import Line, compare
from segment.studies.results import Result, enter, results, write_page
from segment.studies.study import Study, folds_of
from segment.studies.table import HEADS, cells, footnotes, markdown, protocol, records
from segment.studies.verdict import read_rules
from segment.text import print_json, printable, table

# Keys of the machine, not of the protocol.
MACHINE = ("trainer.accelerator", "trainer.precision", "trainer.benchmark")


def reductions(study: Study, name: str, runs: dict[int, RunFolder]) -> str:
    """How the protocol of a run's finished folds deviates from the study's; empty if it does not.

    Raises:
        UserError: When the folds were run with different protocols.
    """
    found: dict[int, dict[str, str]] = {}
    published = study.experiments.as_published()
    follows = published.keys_that_follow_steps(name)
    for fold, folder in runs.items():
        one = published.experiment(name, fold)
        changed = differences(folder.config, one.settings(folder.config.get("planned")))
        # Omit values that merely follow from the number of steps.
        steps = next((value for key, value, _ in changed if key == STEPS), None)
        found[fold] = {
            key: f"{key} {value} instead of {default}"
            for key, value, default in sorted(changed, key=lambda change: change[0] != STEPS)
            if key not in MACHINE and not (key in follows and value == steps)
        }
    first = min(found)
    for fold, changes in found.items():
        different = sorted(text for _, text in changes.items() ^ found[first].items())
        if different:
            raise UserError(
                f"{runs[fold].path}: its configuration differs from that of fold {first} "
                f"({printable(different[0])}). One table cannot contain both: move one of them away."
            )
    texts = [printable(text)[:120] for key, text in found[first].items() if key != "seed"]
    texts += [
        f"fold {fold} ended after {folder.provenance['steps']} steps"
        for fold, folder in runs.items()
        if stopped_early(folder)
    ]
    return "; ".join([*texts[:3], *([f"{len(texts) - 3} more"] if len(texts) > 3 else [])])


def stopped_early(folder: RunFolder) -> bool:
    """Whether a fold's training ran out of time before its last step."""
    trainer = folder.config.get("trainer")
    done, planned = folder.provenance.get("steps"), trainer.get("max_steps") if isinstance(trainer, dict) else None
    return isinstance(done, int) and isinstance(planned, int) and done < planned


def conclude(study: Study, present: Sequence[str], form: str, entered: Path | None) -> None:
    """Assemble the study from its finished folds; print and write its table, and enter the results if requested."""
    lines: list[Line] = []
    rules = read_rules(study.folder)
    made_with: dict[str, str] = {}
    for name in study.runs:
        found = assemble(study, name)
        if entered and found and name in study.requested:
            enter(entered / study.name, found)
        rows = [row for result in found for row in result.rows]
        note_unknown_labels(study, name, rows)
        computed = found[-1].summary.get("protocol") if found else None
        here = name in present or name not in study.requested
        lines += compare(name, study.published, rows, here, rules, computed)
        made_with |= {name: protocol_line(found[-1].summary)} if found else {}
    if entered:
        write_page(entered)
    content = list(records(lines))
    write_text(study.output / "table.csv", as_csv(list(content[0]), (row.values() for row in content)))
    write_text(study.output / "table.md", markdown(lines, made_with))
    show([line for line in lines if line.run in study.requested], made_with, form)
    if form == "text":
        print(f"Table      {study.output / 'table.md'}, {study.output / 'table.csv'}")
    if entered:
        print(f"Entered    {entered / study.name / 'measured.csv'}, {entered / 'README.md'}", file=sys.stderr)


def note_unknown_labels(study: Study, name: str, rows: Sequence[Measured]) -> None:
    """Print a note for each published label that a finished run does not have."""
    known = list(dict.fromkeys(row.label for row in rows))
    published = dict.fromkeys(row.label for row in study.published if row.run == name and row.label)
    for label in published if rows else ():
        if label.casefold() not in map(str.casefold, known):
            hint = did_you_mean(label, known)
            print(
                f"Note: published.csv: {name} has no label {printable(label)}.{hint} Its labels: {', '.join(known)}.",
                file=sys.stderr,
            )


def assemble(study: Study, name: str) -> list[Result]:
    """The results of a run's finished folds; empty if there is none."""
    runs = finished_folds(study.output / name)
    if not runs:
        return []
    count = folds_of(study.experiments.experiment(name, "all"))
    missing = [str(fold) for fold in range(count) if fold not in runs]
    if missing:
        plural = "s" * (len(missing) > 1)
        print(f"Note: {name} lacks fold{plural} {', '.join(missing)} of {count}.", file=sys.stderr)
    return results(name, runs, count, reductions(study, name, runs))


def show(lines: Sequence[Line], made_with: Mapping[str, str], form: str) -> None:
    """Print the lines of a table, followed by the protocols."""
    if form == "json":
        print_json(list(records(lines)))
        return
    rows = [cells(line, with_protocol=False)[:-1] for line in lines]  # the date is in the files
    print(f"\n{table(HEADS[:-1], rows, left=HEADS)}\n")
    figures = [line.published for line in lines if line.published]
    for text in dict.fromkeys(f"{figure.run}: {protocol(figure)} ({figure.source})" for figure in figures):
        print(f"published  {printable(text)}")
    for run, text in made_with.items():
        print(f"measured   {run}: {text}")
    for title, text in footnotes(lines):
        print(f"{title.lower():10} {printable(text)}")
