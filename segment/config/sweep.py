"""The jobs of a sweep: one that fails does not stop the others, no two share a run folder, a table at the end."""

from __future__ import annotations

import glob
import itertools
import json
import math
import sys
import traceback
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from segment.command_line import assign, command, typed
from segment.errors import UserError
from segment.files import read_mapping, write_json
from segment.text import printable, table
from segment.workflow.experiment import Command


@dataclass(frozen=True)
class Job:
    """What one job of a sweep came to.

    Attributes:
        number: Its number in the sweep, from 0.
        overrides: The whole of its configuration's overrides.
        output: Its run folder; None where it got none.
        score: Foreground Dice; None where it has none.
        error: Why it failed; None where it did not.
        crashed: Whether the failure was no mistake of the user's.
    """

    number: int
    overrides: list[str]
    output: str | None = None
    score: float | None = None
    error: str | None = None
    crashed: bool = False


class SweepFolder(Callback):
    """Remembers the folder of the sweep that this process has begun, which Hydra alone knows.

    Jobs may run in other processes or on other machines: each writes what it came to into that folder.
    """

    begun: ClassVar[Path | None] = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """The sweep begins; what an earlier one left in a folder that the user named is taken away."""
        SweepFolder.begun = Path(config.hydra.sweep.dir).absolute()
        for file in [*SweepFolder.begun.glob("jobs/*"), *SweepFolder.begun.glob("folders/*")]:
            file.unlink()


def register_optuna() -> None:
    """Where Optuna's sweeper is installed, have it look for the highest score, one trial at a time, from one seed.

    The same command again then comes to the same trials and passes over those that are finished. A file in ``conf/``
    cannot say this: Hydra refuses one of the name of a plugin's own configuration.
    """
    try:
        from hydra_plugins.hydra_optuna_sweeper.config import Direction, OptunaSweeperConf, TPESamplerConfig
    except ImportError:
        return
    store = ConfigStore.instance().store
    # Failed trials are told by `conclude` and do not stop the others.
    sweeper = OptunaSweeperConf(direction=Direction.maximize, n_jobs=1, max_failure_rate=1.0)
    store("optuna", sweeper, group="hydra/sweeper", provider="segment")
    store("tpe", TPESamplerConfig(seed=0), group="hydra/sweeper/sampler", provider="segment")


@dataclass(frozen=True)
class Place:
    """Where a job stands in its sweep.

    Attributes:
        number: Its number, from 0.
        folder: Of the sweep.
        overrides: The whole of its configuration's overrides, as Hydra reads them.
    """

    number: int
    folder: Path
    overrides: tuple[str, ...]


def place_of(own: Any) -> Place:
    """The place of the job that Hydra's own part of its configuration describes."""
    return Place(own.job.num, Path(own.sweep.dir), tuple(own.overrides.task))


def run_job(
    work: Callable[[DictConfig, Command], float | None],
    config: DictConfig,
    command: Command,
    place: Place,
    tell: Callable[[Exception], str],
) -> Any:
    """Run one job of a sweep and write down what it came to.

    Args:
        work: Called with the configuration and the command; gives the foreground Dice, or None.
        config: The job's configuration.
        command: The job's command.
        place: Where it stands in the sweep.
        tell: Makes one paragraph of what Hydra or OmegaConf raised.

    Returns:
        The foreground Dice; None where there is none or the job failed, which a sweeper takes for a failed trial.
    """
    print(f"\nJob {place.number}: {' '.join(command.overrides)}", flush=True)
    score, error, crashed = None, None, False
    outputs: list[str] = []

    def take_folder(folder: Path) -> None:
        _take_folder(place, folder)
        outputs.append(str(folder))

    try:
        score = work(config, replace(command, take_folder=take_folder))
    except UserError as mistake:
        error = " ".join(str(mistake).split())
    except (HydraException, OmegaConfBaseException) as mistake:
        error = tell(mistake)
    except Exception as crash:  # whatever it was, the other jobs go on
        traceback.print_exc()
        error, crashed = f"{type(crash).__name__}: {' '.join(str(crash).split())}", True
    if error is not None:
        print(f"segment: job {place.number} failed: {error}", file=sys.stderr, flush=True)
    score = float(score) if score is not None and math.isfinite(score) else None
    output = outputs[0] if outputs else None
    job = Job(place.number, list(place.overrides), output, score, error, crashed)
    write_json(_record(place.folder, place.number), asdict(job))
    return score


def _take_folder(place: Place, folder: Path) -> None:
    """Keep a run folder for this job of a sweep.

    Raises:
        UserError: When the folder is that of another job with other overrides, or of one that is still running.
    """
    sweep = place.folder
    mark = sweep / "folders" / f"{zlib.crc32(str(folder.absolute()).encode()):08x}-{folder.name[-100:]}"
    mark.parent.mkdir(parents=True, exist_ok=True)
    try:
        with mark.open("x") as file:
            file.write(str(place.number))
        return
    except FileExistsError:
        other = mark.read_text()
    if other == str(place.number):
        return
    done = _record(sweep, int(other)) if other.isdigit() else None
    # A sweeper may ask for the same twice; the folds of fold=all may be jobs of their own.
    if done and done.is_file() and _but_fold(_read(done).overrides) == _but_fold(place.overrides):
        return
    raise UserError(
        f"output={folder}: job {other} of this sweep has this run folder. Leave name= and output= to segment, or put "
        "what tells the jobs apart into them, such as name='study-${fold}-${hydra:job.num}'."
    )


def _but_fold(overrides: Sequence[str]) -> list[str]:
    return sorted(override for override in overrides if not override.startswith("fold="))


def _record(sweep: Path, number: int) -> Path:
    return sweep / "jobs" / f"{number:05d}.json"


def _read(file: Path) -> Job:
    return Job(**json.loads(file.read_text(encoding="utf-8")))


def jobs_so_far() -> list[Job]:
    """What the jobs of the sweep that this process has begun came to, in their order; none outside of a sweep."""
    return [_read(file) for file in sorted(SweepFolder.begun.glob("jobs/*.json"))] if SweepFolder.begun else []


def conclude(verb: str, jobs: Sequence[Job]) -> int:
    """Print the table of a sweep, how to compare its runs, and in one paragraph which jobs failed.

    Args:
        verb: The verb that was swept.
        jobs: What the jobs came to; nothing is printed of none.

    Returns:
        The exit code: 1 after a crash, 2 after mistakes of the user's, 0 else.
    """
    if not jobs:
        return 0
    common = set.intersection(*(set(job.overrides) for job in jobs))
    named = {job.number: " ".join(typed(item) for item in job.overrides if item not in common) or "-" for job in jobs}
    rows = [("job", "overrides", "Dice", "run")]
    for job in jobs:
        score = "failed" if job.error is not None else "-" if job.score is None else f"{job.score:.4f}"
        rows.append((str(job.number), named[job.number], score, job.output or "-"))
    print(f"\n{table(rows)}\n\nDice is each job's foreground mean over its own validation scans.")
    _print_best()
    scored = list(dict.fromkeys(job.output for job in jobs if job.score is not None and job.output))
    if verb == "train" and len(scored) > 1:
        print(f"Compare  {command('compare', assign('runs', pattern_of(scored) or scored))}")
    failed = [job for job in jobs if job.error is not None]
    if failed:
        listed = " ".join(f"[{job.number}] {named[job.number]}: {printable(job.error)}" for job in failed)
        print(
            f"segment: {len(failed)} of {len(jobs)} jobs failed; the same command runs them again and passes over "
            f"what is finished. {listed}",
            file=sys.stderr,
        )
    return 1 if any(job.crashed for job in failed) else 2 if failed else 0


def pattern_of(runs: Sequence[str]) -> str | None:
    """A pattern that finds these run folders and nothing else; None where none does."""
    parent = Path(runs[0]).parent
    if any(Path(run).parent != parent for run in runs):
        return None
    names = [Path(run).name for run in runs]
    first, last = _shared_start(names), _shared_start([name[::-1] for name in names])[::-1]
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


def _shared_start(names: Sequence[str]) -> str:
    alike = itertools.takewhile(lambda letters: len({*letters}) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in alike)


def _print_best() -> None:
    """What a sweeper that searches has found."""
    results = SweepFolder.begun / "optimization_results.yaml" if SweepFolder.begun else None
    if results is None or not results.is_file():
        return
    found = read_mapping(results)
    if isinstance(found.get("best_params"), dict):
        best = " ".join(f"{key}={value}" for key, value in found["best_params"].items())
        print(f"Best     {printable(best)}: {printable(found.get('best_value'))}")
