"""``segment reproduce``: runs a published study, fold by fold, and sets our numbers beside the published ones."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, Node

from segment.config.build import walk
from segment.config.choices import studies
from segment.errors import UserError, did_you_mean
from segment.files import read_mapping, write_text
from segment.runs.folder import RunFolder, read_run
from segment.runs.health import divergence
from segment.runs.summary import protocol_line
from segment.studies.budget import forecast, known_pace, measure, steps_within
from segment.studies.ledger import Line, Measured, as_csv, compare
from segment.studies.results import Result, enter, results, write_page
from segment.studies.study import Study, citation, count_folds, find, training
from segment.studies.table import HEADS, cells, markdown, protocol, records
from segment.text import output, print_table, printable, table
from segment.training.callbacks.stopwatch import Stopwatch
from segment.workflow import train
from segment.workflow.check import root_of
from segment.workflow.cross_validate import sum_up
from segment.workflow.folder import differences, settle

STEPS = "trainer.max_steps"
# Of the machine, not of the protocol.
MACHINE = ("trainer.accelerator", "trainer.precision", "trainer.benchmark")


def run(config: DictConfig) -> None:
    """Say what the study needs, train what is not finished, print and write the table."""
    if config.format not in ("text", "json"):
        raise UserError(f"format={config.format}: must be text or json.")
    if config.page is not None:
        folder = studies_folder("page", config.page)
        write_page(folder)
        print(f"Page     {folder / 'README.md'}")
        return
    if config.study is None:
        listed = studies()
        if config.format == "json":
            output().out(json.dumps(listed, indent=2))
        else:
            print_table(output(), "studies", listed)
        return
    entered = studies_folder("write", "experiments" if config.write is True else config.write) if config.write else None
    study = find(config)
    # Programs read standard output; what training prints is for people.
    aside = contextlib.redirect_stdout(sys.stderr) if config.format == "json" else contextlib.nullcontext()
    with aside:
        present = announce(study, config)
        shares = sum(map(len, present.values()))
        for name, folds in present.items():
            reproduce(study, name, folds, config, shares)
    conclude(study, list(present), config.format, entered)


def studies_folder(key: str, value: Any) -> Path:
    """A folder of studies that the user named."""
    folder = Path(str(value))
    if not folder.is_dir():
        raise UserError(f"{key}={value}: {folder} is no folder. Name a folder of studies, or make it: mkdir {folder}")
    return folder


def announce(study: Study, config: DictConfig) -> dict[str, list[int]]:
    """Say what is to be reproduced, what it needs and takes, and what it will be set beside.

    Returns:
        The folds that were asked for of every run whose data set is here.

    Raises:
        UserError: When none is, or a fold that is there diverged.
    """
    print(f"{study.name}: {citation(study)}\n")
    for name in study.runs:
        sound_folds(study.output / name)  # so that one that diverged is told before the others are trained
    present, missing = {}, {}
    for name in study.asked:
        folder = study.output / name
        with training(study, name, 0) as one:
            root, needs, folds = root_of(one), need(one), asked_folds(config, one)
            steps = begun_steps(folder) or config.steps or one.trainer.max_steps
            left = [fold for fold in folds if not finished(folder / f"fold{fold}")]
            beside = [row for row in study.published if row.run == name and row.label and not row.fold]
            listed = ", ".join(f"{row.metric} {row.label} {row.value}" for row in beside) or "nothing published"
            cost = f"{len(folds)} fold{'s' * (len(folds) > 1)} x {one.trainer.max_steps:,} steps"
            told = "" if config.budget else forecast(known_pace(folder), len(left), steps)
            print(f"{name}: {cost}, to be set beside {printable(listed)}. {needs}{told}")
            # Data sets that are made on first use need not be there.
            if one.data._target_ == "segment.data.open_dataset" and not root.exists():
                missing[name] = f"{needs} It is not at {root}. {way(one)}"
            else:
                present[name] = folds
    if not present:
        raise UserError(f"study={study.name}: {' '.join(dict.fromkeys(missing.values()))}")
    for name, text in missing.items():
        print(f"Note: {name} is left out. {text}", file=sys.stderr)
    print(flush=True)
    return present


def need(one: DictConfig) -> str:
    """Which data set a run needs, and its licence."""
    data = one.data
    licence = (data.get("source") or {}).get("licence") or data.get("licence") or "see data/README.md"
    return f"It needs the data set {data.get('name') or root_of(one).name} (licence: {licence})."


def way(one: DictConfig) -> str:
    """How to get a data set."""
    how = "data/README.md says how to get it"
    if (one.data.get("source") or {}).get("url"):
        how = f"Download it with `segment fetch data={one.data.name}`"
    return f"{how}; where it lies, data.root=FOLDER says."


def asked_folds(config: DictConfig, one: DictConfig) -> list[int]:
    """Numbers of the folds that were asked for of a run with this configuration."""
    if isinstance(config.fold, int) and not isinstance(config.fold, bool):
        return [config.fold]
    if config.fold != "all":
        raise UserError(f"fold={config.fold}: must be the number of a fold, or all.")
    return list(range(count_folds(one)))


def reproduce(study: Study, name: str, folds: Sequence[int], config: DictConfig, shares: int) -> None:
    """Train the folds of one run that are not finished, then sum up when all are there.

    Args:
        study: The study.
        name: The run.
        folds: Numbers of the folds that were asked for.
        config: Of this verb.
        shares: Among how many folds of all runs a budget is shared out.
    """
    started, folder = time.time(), study.output / name
    steps = fixed_steps(study, name, folds, config, shares)
    begun = False
    for number, fold in enumerate(folds):
        with training(study, name, fold, steps) as one:
            if train.finished(Path(one.output), one):
                print(f"{name}, fold {fold} is finished: see {Path(one.output) / 'report.html'}", flush=True)
                continue
            print(f"{name}, fold {fold}", flush=True)
            tell = teller(name, len(folds) - number, one.trainer.max_steps)
            train.run(one, [] if begun else [Stopwatch(min(20, one.trainer.max_steps), tell)])
            begun = True
        if not finished(folder / f"fold{fold}"):
            raise KeyboardInterrupt  # which Lightning keeps to itself
    with training(study, name, "all", steps) as one:
        runs = finished_folds(folder)
        if len(runs) == count_folds(one) > 1 and all((run.path / "model").is_dir() for run in runs.values()):
            settle(one)
            sum_up(one, Path(one.output), list(runs.values()), started)


def teller(name: str, folds: int, steps: int) -> Callable[[float], None]:
    """Says how long the training takes, once the seconds of a step are known."""
    return lambda pace: print(f"{name}:{forecast(pace, folds, steps)}", file=sys.stderr, flush=True)


def finished(folder: Path) -> bool:
    """Whether a fold's run folder is complete; it may have been made on another machine."""
    return (folder / "report.html").is_file()


def sound_folds(folder: Path) -> dict[int, Path]:
    """The folders of the finished folds of a run by number.

    Raises:
        UserError: When the training of one of them diverged: its scores are no result.
    """
    found = {int(path.name[4:]): path for path in folder.glob("fold*") if path.name[4:].isdigit() and finished(path)}
    for path in found.values():
        state = divergence(path)
        if state is not None:
            where = "" if state.step is None else f" from step {state.step}"
            raise UserError(
                f"{path}: this fold diverged ({state.cause}{where}), so its scores are no result. Delete the folder to "
                "train the fold anew; where it diverges again, lower optimizer.lr for all folds, with another output=."
            )
    return {fold: found[fold] for fold in sorted(found)}


def finished_folds(folder: Path) -> dict[int, RunFolder]:
    """The finished folds of a run by number; see `sound_folds`."""
    return {fold: read_run(path) for fold, path in sound_folds(folder).items()}


def fixed_steps(study: Study, name: str, folds: Sequence[int], config: DictConfig, shares: int) -> int | None:
    """How many steps each fold trains: those of the folds that are there, else as ``steps`` or ``budget`` say.

    Returns:
        None where the study itself says it.

    Raises:
        UserError: When ``steps`` is more than the study's or another number than that of the folds that are there, or
            the budget does not suffice.
    """
    wanted, hours, there = config.steps, config.budget, begun_steps(study.output / name)
    if wanted is not None and hours is not None:
        raise UserError("budget and steps: each decides how long a fold is trained. Give one of them.")
    if hours is not None and not (isinstance(hours, int | float) and hours > 0):
        raise UserError(f"budget={hours}: must be a number of hours.")
    with training(study, name, folds[0]) as one:
        full = int(one.trainer.max_steps)
        if wanted is not None and not (isinstance(wanted, int) and 0 < wanted <= full):
            raise UserError(f"steps={wanted}: must be a number from 1 to the {full} steps of {study.name}'s {name}.")
        if there is not None:
            if wanted not in (None, there):
                what = f"{study.output / name} has folds of {there} steps"
                raise UserError(f"steps={wanted}: {what}. Give another output=, or no steps=.")
            if there != full:
                print(f"{name}: goes on with {there:,} of {full:,} steps, as the folds that are there.", flush=True)
            steps = there
        elif hours is None:
            steps = wanted or full
        else:
            settle(one)
            pace = measure(one)
            steps = steps_within(hours * 3600 / shares, one, pace, f"budget={hours}")
            print(
                f"{name}: budget={hours} hours: {steps:,} of {full:,} steps in each fold, at {pace.step:.3g} s a step "
                f"and {pace.scan:.3g} s a validated scan here; on another machine, steps={steps} is the same.",
                flush=True,
            )
        return None if steps == full else steps


def begun_steps(folder: Path) -> int | None:
    """How many steps the folds that are there were begun with; None where there is none."""
    for path in sorted(folder.glob("fold[0-9]*/config.yaml")):
        trainer = read_mapping(path).get("trainer")
        steps = trainer.get("max_steps") if isinstance(trainer, dict) else None
        if isinstance(steps, int) and steps > 0:
            return steps
    return None


def reductions(study: Study, name: str, runs: dict[int, RunFolder]) -> str:
    """In what the finished folds of a run are another protocol than the study's; empty for nothing.

    Raises:
        UserError: When they are not of one protocol among themselves.
    """
    found: dict[int, dict[str, str]] = {}
    for fold, folder in runs.items():
        with training(replace(study, overrides=[]), name, fold) as one:
            settle(one)
            changed = differences(folder.config, one)
            # What only follows from the number of steps need not be told beside it.
            steps = next((there for key, there, _ in changed if key == STEPS), None)
            follows = {key for key, node in walk(one) if isinstance(node, Node) and node._value() == f"${{{STEPS}}}"}
        found[fold] = {
            key: f"{key} {there} for {here}"
            for key, there, here in sorted(changed, key=lambda change: change[0] != STEPS)
            if key not in MACHINE and not (key in follows and there == steps)
        }
    first = min(found)
    for fold, changes in found.items():
        apart = sorted(text for _, text in changes.items() ^ found[first].items())
        if apart:
            raise UserError(
                f"{runs[fold].path}: is of another configuration than fold {first} beside it ({printable(apart[0])}). "
                "One table cannot hold both: move one of them away."
            )
    texts = [printable(text)[:120] for key, text in found[first].items() if key != "seed"]
    texts += [
        f"fold {fold} ended after {folder.provenance['steps']} steps" for fold, folder in runs.items() if ended(folder)
    ]
    return "; ".join([*texts[:3], *([f"{len(texts) - 3} more"] if len(texts) > 3 else [])])


def ended(folder: RunFolder) -> bool:
    """Whether time ended the training of a fold before its last step."""
    trainer = folder.config.get("trainer")
    done, wanted = folder.provenance.get("steps"), trainer.get("max_steps") if isinstance(trainer, dict) else None
    return isinstance(done, int) and isinstance(wanted, int) and done < wanted


def conclude(study: Study, present: Sequence[str], form: str, entered: Path | None) -> None:
    """Assemble the study from the finished folds; print its table, write it, and enter it where that was asked for."""
    lines: list[Line] = []
    made_with: dict[str, str] = {}
    for name in study.runs:
        found = assemble(study, name)
        if entered and found and name in study.asked:
            enter(entered / study.name, found)
        rows = [row for result in found for row in result.rows]
        tell_unknown(study, name, rows)
        lines += compare(name, study.published, rows, name in present or name not in study.asked)
        made_with |= {name: protocol_line(found[-1].summary)} if found else {}
    if entered:
        write_page(entered)
    content = list(records(lines))
    write_text(study.output / "table.csv", as_csv(list(content[0]), (row.values() for row in content)))
    write_text(study.output / "table.md", markdown(lines, made_with))
    show([line for line in lines if line.run in study.asked], made_with, form)
    if form == "text":
        print(f"Table      {study.output / 'table.md'}, {study.output / 'table.csv'}")
    if entered:
        print(f"Entered    {entered / study.name / 'measured.csv'}, {entered / 'README.md'}", file=sys.stderr)


def tell_unknown(study: Study, name: str, rows: Sequence[Measured]) -> None:
    """Say which published figures of a finished run are of labels that it does not have."""
    known = list(dict.fromkeys(row.label for row in rows))
    asked = dict.fromkeys(row.label for row in study.published if row.run == name and row.label)
    for label in asked if rows else ():
        if label.casefold() not in map(str.casefold, known):
            near = did_you_mean(label, known)
            print(
                f"Note: published.csv: {name} has no label {printable(label)}.{near} It has: {', '.join(known)}.",
                file=sys.stderr,
            )


def assemble(study: Study, name: str) -> list[Result]:
    """What the finished folds of a run came to; empty where there is none."""
    runs = finished_folds(study.output / name)
    if not runs:
        return []
    with training(study, name, "all") as one:
        count = count_folds(one)
    lost = [str(fold) for fold in range(count) if fold not in runs]
    if lost:
        print(f"Note: {name} lacks fold{'s' * (len(lost) > 1)} {', '.join(lost)} of {count}.", file=sys.stderr)
    return results(name, runs, count, reductions(study, name, runs))


def show(lines: Sequence[Line], made_with: Mapping[str, str], form: str) -> None:
    """Print the lines of a table, and what stands beside every number."""
    if form == "json":
        output().out(json.dumps(list(records(lines)), indent=2))
        return
    print(f"\n{table([HEADS, *(cells(line, told=False) for line in lines)])}\n")
    figures = [line.published for line in lines if line.published]
    for text in dict.fromkeys(f"{figure.run}: {protocol(figure)} ({figure.source})" for figure in figures):
        print(f"published  {printable(text)}")
    for run, text in made_with.items():
        print(f"measured   {run}: {text}")
    for text in dict.fromkeys(f"{line.run}: {line.reduced}" for line in lines if line.reduced and line.measured):
        print(f"reduced    {printable(text)}")
