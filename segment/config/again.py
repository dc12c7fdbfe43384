"""The training of a finished run once more, as it was but for its network's pruning and its number of steps.

A run folder may come from anybody. Its command is taken as data: keys and plain values, never code, nor a file that
would be written; components come from the configuration folders of whoever starts the command.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from segment.command_line import assign, for_hydra
from segment.config.arguments import without_null
from segment.config.calls import explained_errors
from segment.config.compose import compose_command, compose_further
from segment.config.experiment import read_experiment
from segment.config.launch import check_required
from segment.config.run_name import cleaned
from segment.config.study import STEPS, shortened
from segment.errors import UserError
from segment.files import read_mapping
from segment.inference.limits import find_model
from segment.runs.settings import differences, written_plan
from segment.workflow.experiment import Command, Experiment

READ = ("cascade", "data.image", "data.label", "data.root", "plan", "plan.file", "splits")
"""Keys of files and folders that a training only reads."""
LEFT_OUT = ("cache", "logger", "name", "output", "parameters.head_first", "parameters.take", "prune", "weights")
"""Keys that say where a run writes, and how its network began; keys below them too."""
LENGTH = ("trainer.max_epochs", STEPS, "trainer.max_time")
_WORD = re.compile(r"\+{0,2}(?P<key>[\w./]+)=(?P<value>.*)|~(?P<gone>[\w.]+)", re.S)
_CODE = re.compile(r"\$\{|[/\\]|(?<![A-Za-z0-9])_[a-z]+_")  # interpolations, paths, _target_ and its like


def pruned_again(
    model: Path, ratio: float, steps: int | None, output: Path | None, cache: str, trust: Sequence[str]
) -> Experiment:
    """The experiment that prunes the network of a finished run and trains it on as it was trained.

    Args:
        model: The run folder, or the model folder in it.
        ratio: The share of channels to remove.
        steps: Number of optimiser steps, to which the schedule is adapted; None: as many as the run had.
        output: Run folder of the pruned network; None: beside the run, named after it, the ratio and the steps.
        cache: Folder of prepared scans.
        trust: Your own modules whose file formats the run may name.

    Raises:
        UserError: When the run does not say how it was trained, its command names code or files to write, or it no
            longer composes to the configuration that it had.
    """
    run = find_model(model).absolute().parent
    run = Path(os.path.relpath(run)) if run.is_relative_to(Path.cwd()) else run
    words = [word for word in _words(run, model) if not _is_one_of(word, (*LEFT_OUT, *LENGTH))]
    for word in words:
        _check_word(word, run, trust)
    words = [_rooted(word, run) for word in words]
    there = read_mapping(run / "config.yaml")
    count = steps or int(there["trainer"]["max_steps"])
    folder = output or run.with_name(f"{run.name}-prune{ratio:g}-steps{count}")
    own = (
        assign("weights", str(run)),
        f"prune={ratio:g}",
        f"name={cleaned(folder.name)}",
        assign("output", str(folder)),
    )
    words += [*own, assign("cache", cache)]
    with explained_errors("train", words):
        length = shortened(_compose([*words, f"{STEPS}={there['trainer']['max_steps']}"])[0], count)
        config, command = _compose([*words, *length])
        check_required(config, "train")
        experiment = read_experiment(config, replace(command, arguments=("train", *words, *length)))
    changed = [row for row in differences(there, experiment.settings(written_plan(run))) if not _may_differ(row[0])]
    if changed:
        shown = "; ".join(f"{key} was {before} and is {now} here" for key, before, now in changed[:3])
        raise UserError(
            f"model={run}: its command no longer gives the configuration that it was trained with ({shown}). Start in "
            f"the folder that it was started in, whose conf/ may matter. {_by_hand(run)}"
        )
    return experiment


def _words(run: Path, model: Path) -> list[str]:
    """The words of a run's command after the verb."""
    if not (run / "config.yaml").is_file() or not (run / "provenance.json").is_file():
        raise UserError(
            f"model={model}: prune= trains on, and needs the folder of a finished run with its config.yaml and "
            "provenance.json, not a model alone or a fold=all. Give that, or train the pruned network with settings of "
            "your own: segment train ... weights=MODEL prune=0.5"
        )
    if read_mapping(find_model(model) / "model.json").get("pruned"):
        raise UserError(
            f"model={model}: is pruned already. Give the run that it was made from with a larger prune=, or export it "
            "as it is, without prune=."
        )
    command: Any = read_mapping(run / "provenance.json").get("command")
    if not isinstance(command, list) or not all(isinstance(word, str) for word in command) or command[1:2] != ["train"]:
        raise UserError(f"model={run}: provenance.json has no command of 'segment train'. {_by_hand(run)}")
    return command[2:]


def _check_word(word: str, run: Path, trust: Sequence[str]) -> None:
    """Refuse a word of a run's command that might run code or write a file."""
    found = _WORD.fullmatch(word)
    key, value = (found["key"] or "", found["value"] or "") if found else ("", word)
    if found and key == "formats" and set(re.findall(r"[\w.]+", value)) <= set(trust):
        from segment.io.formats import import_formats  # here, since it imports nibabel

        import_formats(re.findall(r"[\w.]+", value))
        return
    safe = (
        found
        and key.split(".")[0].split("/")[0] not in ("formats", "hydra")
        and not _CODE.search(key.replace("/", "."))
    )
    if not safe or (_CODE.search(value) and key not in READ) or "${" in value:
        raise UserError(
            f"model={run}: its command has {word!r}, and a run folder may not choose which code runs or where files "
            f"are written. {_by_hand(run)}"
        )


def _by_hand(run: Path) -> str:
    again = f"segment train ... {assign('weights', str(run))} prune=0.5"
    return f"Or train the pruned network with settings of your own: {again}"


def _rooted(word: str, run: Path) -> str:
    """The word; the folder of the data set as it was, wherever this command is started."""
    key, _, value = word.partition("=")
    root = read_mapping(run / "provenance.json").get("dataset", {}).get("root")
    return assign(key, str(root)) if key == "data.root" and value and root and Path(str(root)).exists() else word


def _is_one_of(word: str, keys: Sequence[str]) -> bool:
    key = word.lstrip("+~").partition("=")[0]
    return any(f"{key}.".startswith(f"{known}.") for known in keys)


def _may_differ(key: str) -> bool:
    """Whether a key is what a pruned training changes, or what the machine at hand decides."""
    kept = (*LEFT_OUT, *LENGTH, "trainer.precision")
    return _is_one_of(key, kept) or key.startswith("scheduler.")


def _compose(words: Sequence[str]) -> tuple[DictConfig, Command]:
    overrides = without_null("train", for_hydra(words))
    running = GlobalHydra.instance().is_initialized()
    return compose_further("train", overrides) if running else compose_command("train", overrides)
