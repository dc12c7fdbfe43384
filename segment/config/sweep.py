"""The jobs of a sweep: a failed job does not stop the others, each has its own run folder, a table ends the sweep."""

from __future__ import annotations

import glob
import itertools
import json
import math
import os
import re
import shlex
import sys
import traceback
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from segment.command_line import assign, command, typed
from segment.config.run_name import cleaned
from segment.errors import UserError
from segment.failures import explain_failure
from segment.files import read_mapping, write_json
from segment.text import one_line, printable, table
from segment.workflow.experiment import Command

_LONGEST = 60  # characters of a run's name in TensorBoard


@dataclass(frozen=True)
class Job:
    """The result of one job of a sweep.

    Attributes:
        number: The job's number in the sweep, from 0.
        overrides: All overrides of its configuration.
        output: Its run folder; None if it has none.
        score: Foreground Dice; None if there is none.
        error: Why it failed; None if it did not.
        crashed: Whether it failed for another reason than a user error.
        nested: Whether it was scored on part of the training scans.
    """

    number: int
    overrides: list[str]
    output: str | None = None
    score: float | None = None
    error: str | None = None
    crashed: bool = False
    nested: bool = False


class SweepFolder(Callback):
    """Remembers the folder of the sweep that this process has started, which only Hydra knows.

    Jobs may run in other processes or on other machines: each writes its result to that folder.
    """

    begun: ClassVar[Path | None] = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Start the sweep; delete what an earlier sweep left in a folder that the user named."""
        SweepFolder.begun = Path(config.hydra.sweep.dir).absolute()
        for file in [*SweepFolder.begun.glob("jobs/*"), *SweepFolder.begun.glob("folders/*")]:
            file.unlink()


def register_optuna() -> None:
    """Configure Optuna's sweeper, if installed, to maximise the score, one trial at a time, with a fixed seed.

    Repeating the same command then proposes the same trials and skips those that are finished. A file in ``conf/``
    cannot do this: Hydra rejects a file with the name of a plugin's own configuration.
    """
    try:
        from hydra_plugins.hydra_optuna_sweeper.config import Direction, OptunaSweeperConf, TPESamplerConfig
    except ImportError:
        return
    store = ConfigStore.instance().store
    # Failed trials are reported by `conclude` and do not stop the others.
    sweeper = OptunaSweeperConf(direction=Direction.maximize, n_jobs=1, max_failure_rate=1.0)
    store("optuna", sweeper, group="hydra/sweeper", provider="segment")
    store("tpe", TPESamplerConfig(seed=0), group="hydra/sweeper/sampler", provider="segment")


@dataclass(frozen=True)
class Position:
    """The position of a job in its sweep.

    Attributes:
        number: The job's number, from 0.
        folder: The sweep's folder.
        overrides: All overrides of the job's configuration, as Hydra reads them.
    """

    number: int
    folder: Path
    overrides: tuple[str, ...]


def position_of(node: Any) -> Position:
    """The position of the job that Hydra's own node of its configuration describes."""
    return Position(node.job.num, Path(node.sweep.dir), tuple(node.overrides.task))


def run_job(
    work: Callable[[DictConfig, Command], float | None],
    config: DictConfig,
    command: Command,
    position: Position,
    explain_error: Callable[[Exception], str],
) -> Any:
    """Run one job of a sweep and record its result.

    Args:
        work: Called with the configuration and the command; returns the foreground Dice, or None.
        config: The job's configuration.
        command: The job's command.
        position: The job's position in the sweep.
        explain_error: Explains an exception of Hydra or OmegaConf in one paragraph.

    Returns:
        The foreground Dice; None if there is none or the job failed, which a sweeper treats as a failed trial.
    """
    print(f"\nJob {position.number}: {' '.join(command.overrides)}", flush=True)
    score, error, crashed = None, None, False
    outputs: list[str] = []

    def take_folder(folder: Path) -> None:
        _reserve_folder(position, folder)
        outputs.append(str(folder))

    try:
        score = work(config, replace(command, take_folder=take_folder))
    except UserError as mistake:
        error = one_line(mistake)
    except (HydraException, OmegaConfBaseException) as mistake:
        error = explain_error(mistake)
    except Exception as crash:  # the other jobs must continue, whatever was raised
        error = explain_failure(crash)
        if error is None:
            traceback.print_exc()
            error, crashed = f"{type(crash).__name__}: {one_line(crash)}", True
    if error is not None:
        print(f"segment: job {position.number} failed: {error}", file=sys.stderr, flush=True)
    score = float(score) if score is not None and math.isfinite(score) else None
    output = outputs[0] if outputs else None
    nested = bool(config.get("nested"))
    job = Job(position.number, list(position.overrides), output, score, error, crashed, nested)
    write_json(_record(position.folder, position.number), asdict(job))
    return score


def _reserve_folder(position: Position, folder: Path) -> None:
    """Reserve a run folder for this job of a sweep.

    Raises:
        UserError: When the folder belongs to another job that has different overrides or is still running.
    """
    sweep = position.folder
    mark = sweep / "folders" / f"{zlib.crc32(str(folder.absolute()).encode()):08x}-{folder.name[-100:]}"
    mark.parent.mkdir(parents=True, exist_ok=True)
    try:
        with mark.open("x") as file:
            file.write(str(position.number))
        return
    except FileExistsError:
        other = mark.read_text()
    if other == str(position.number):
        return
    done = _record(sweep, int(other)) if other.isdigit() else None
    # A sweeper may propose the same overrides twice; the folds of fold=all may also be separate jobs.
    if done and done.is_file() and _without_fold(_read(done).overrides) == _without_fold(position.overrides):
        return
    raise UserError(
        f"output={folder}: job {other} of this sweep uses this run folder. Omit name= and output=, or make them "
        "different for every job, such as name='study-${fold}-${hydra:job.num}'."
    )


def _without_fold(overrides: Sequence[str]) -> list[str]:
    return sorted(override for override in overrides if not override.startswith("fold="))


def _record(sweep: Path, number: int) -> Path:
    return sweep / "jobs" / f"{number:05d}.json"


def _read(file: Path) -> Job:
    return Job(**json.loads(file.read_text(encoding="utf-8")))


def jobs_so_far() -> list[Job]:
    """Results of the jobs so far, in order, of the sweep that this process has started; empty outside a sweep."""
    return [_read(file) for file in sorted(SweepFolder.begun.glob("jobs/*.json"))] if SweepFolder.begun else []


def conclude(verb: str, jobs: Sequence[Job]) -> int:
    """Print the table of a sweep, the command to compare its runs, and one paragraph on failed jobs.

    Args:
        verb: The verb that was swept.
        jobs: The jobs' results; nothing is printed if there are none.

    Returns:
        The exit code: 1 after a crash, 2 after user errors, else 0.
    """
    if not jobs:
        return 0
    common = set.intersection(*(set(job.overrides) for job in jobs))
    named = {job.number: " ".join(typed(item) for item in job.overrides if item not in common) or "-" for job in jobs}
    rows = []
    for job in jobs:
        score = "failed" if job.error is not None else "-" if job.score is None else f"{job.score:.4f}"
        rows.append((str(job.number), named[job.number], score, job.output or "-"))
    print(f"\n{table(('job', 'overrides', 'Dice', 'run'), rows, left=('job', 'overrides', 'run'))}\n")
    nested = all(job.nested for job in jobs)
    part = "part of its training scans, which it was not trained on" if nested else "its own validation scans"
    print(f"Dice is each job's foreground mean over {part}.")
    _print_best(nested)
    scored = list(dict.fromkeys(job.output for job in jobs if job.score is not None and job.output))
    if verb == "train" and len(scored) > 1:
        print(f"Compare  {command('compare', assign('runs', pattern_of(scored) or scored))}")
        print(f"Curves   {shlex.join(['tensorboard', '--logdir', str(_short_board(jobs, named))])}")
    failed = [job for job in jobs if job.error is not None]
    if failed:
        listed = " ".join(f"[{job.number}] {named[job.number]}: {printable(job.error)}" for job in failed)
        print(
            f"segment: {len(failed)} of {len(jobs)} jobs failed; the same command runs them again and skips finished "
            f"jobs. {listed}",
            file=sys.stderr,
        )
    return 1 if any(job.crashed for job in failed) else 2 if failed else 0


def _short_board(jobs: Sequence[Job], named: Mapping[int, str]) -> Path:
    """A folder for TensorBoard in which each run is named by what differs, short enough to be read there.

    Args:
        jobs: The jobs' results, at least one with a score.
        named: The overrides that differ, by number of the job.

    Returns:
        A folder of links to the runs' event files; the parent of the runs if there can be no links.
    """
    scored = [job for job in jobs if job.score is not None and job.output]
    runs = Path(str(scored[0].output)).parent
    if SweepFolder.begun is None:
        return runs
    folder = SweepFolder.begun / "tensorboard"
    try:
        folder.mkdir(exist_ok=True)
        for link in folder.iterdir():
            link.unlink()
        for job in scored:
            words = [word for word in named[job.number].split() if not word.startswith(("name=", "output="))]
            name = "-".join(map(_short, words))[:_LONGEST] or f"job{job.number}"
            link = folder / (f"{name}-job{job.number}" if (folder / name).is_symlink() else name)
            link.symlink_to(os.path.relpath(Path(str(job.output)) / "tensorboard", folder), target_is_directory=True)
    except OSError:  # Windows asks for a privilege
        return runs
    return folder


def _short(override: str) -> str:
    """An override as a part of a name: ``lr0.001`` for ``optimizer.lr=0.001``, ``loss_dice`` for ``loss=dice``."""
    key, _, value = override.partition("=")
    if re.fullmatch(r"\d*\.\d+(e-?\d+)?", value):
        value = f"{float(value):.3g}"
    return cleaned(f"{key.rpartition('.')[2]}{'' if value[:1].isdigit() else '_'}{value}")


def pattern_of(runs: Sequence[str]) -> str | None:
    """A glob pattern that matches exactly these run folders; None if none is found."""
    parent = Path(runs[0]).parent
    if any(Path(run).parent != parent for run in runs):
        return None
    names = [Path(run).name for run in runs]
    first, last = _common_prefix(names), _common_prefix([name[::-1] for name in names])[::-1]
    patterns = [f"{glob.escape(first)}*"]
    if len(first) + len(last) <= min(map(len, names)):
        patterns.append(f"{glob.escape(first)}*{glob.escape(last)}")
    columns = list(zip(*(name.split("-") for name in names), strict=False))
    if all(name.count("-") == len(columns) - 1 for name in names):
        patterns.append("-".join(glob.escape(words[0]) if len({*words}) == 1 else "*" for words in columns))
    for pattern in (f"{glob.escape(str(parent))}/{pattern}" for pattern in patterns):
        if {Path(found) for found in glob.glob(pattern)} == {Path(run) for run in runs}:  # noqa: PTH207
            return pattern
    return None


def _common_prefix(names: Sequence[str]) -> str:
    common = itertools.takewhile(lambda letters: len({*letters}) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in common)


def _print_best(nested: bool) -> None:
    """Print the best parameters that an optimising sweeper has found."""
    results = SweepFolder.begun / "optimization_results.yaml" if SweepFolder.begun else None
    if results is None or not results.is_file():
        return
    found = read_mapping(results)
    if isinstance(found.get("best_params"), dict):
        best = " ".join(f"{key}={value}" for key, value in found["best_params"].items())
        print(f"Best     {printable(best)}: {printable(found.get('best_value'))}")
        if not nested:
            print(
                "Note: these were chosen for their score on the validation scans, so that score is optimistic. Search "
                "with nested=true, which scores the validation scans once, for the best; or score a test set."
            )
