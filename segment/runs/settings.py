"""One configuration per run folder: checks whether a folder is free for a run, and lists differing keys."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from segment.command_line import assign
from segment.errors import UserError
from segment.files import read_mapping, write_text
from segment.runs.completion import is_complete

# A run may be resumed with other values of these keys and their children: they do not change its numbers, except that
# batch and layout of windows change how they are rounded, and that post-processing and calibration are decided where
# they are asked for.
FREE = (
    "cache",
    "calibration",
    "formats",
    "inference.batch_size",
    "inference.layout",
    "metrics",
    "postprocessing",
    "sampler.workers",
    "trainer.max_time",
    "trainer.log_every_n_steps",
    "data.root",
    "data.specimen",
    "output",
    "name",
    "logger",
    "callbacks.learning_rate",
    "callbacks.validation_loss",
)
NULL = "null"
# What configurations written before December 2026 call them.
MOVED = {
    **{f"segment.data.{name}.": f"segment.data.synthetic.{name}." for name in ("demo", "fake")},
    **{
        f"segment.training.{name}.": f"segment.training.callbacks.{name}."
        for name in ("cost", "energy", "panels", "precision_recall", "progress")
    },
    "segment.report.pictures.": "segment.visual.pictures.",
}
# Keys that configurations written before lack, with the value that they stand for; a missing key stands for null.
ADDED = {
    "cache_dtype": "float32",
    "calibration": "none",
    "compile": False,
    "data.boxes": "box",
    "detection": "none",
    "inference.average": "probabilities",
    "inference.decision": "argmax",
    "loss.label_smoothing": 0.0,
    "mean_teacher.momentum": 0.99,
    "mean_teacher.noise": 0.1,
    "mean_teacher.ramp": 0.4,
    "mean_teacher.weight": 0,
    "method.sparse": False,
    "nested": False,
    "parameters.head_first": 0,
    "parameters.layer_decay": 1.0,
    "plan.from": "all",
    "sampler.exact": False,
    "validation": "auto",
}


def check_folder(folder: Path, settings: Mapping[str, Any], unknown: Collection[str] = ()) -> None:
    """Check that a run folder is new or contains a run of the same configuration.

    Args:
        folder: The run folder; need not exist.
        settings: The run's resolved configuration.
        unknown: Keys whose values are not known yet, which may differ.

    Raises:
        UserError: The folder contains something else; the message names the keys that differ.
    """
    path = folder / "config.yaml"
    # Hidden files are the lock, and what a command left that was killed at its very beginning. Looked for first, since
    # another process of the same run may write its first file, the configuration, at this moment.
    visible = folder.is_dir() and any(not file.name.startswith(".") for file in folder.iterdir())
    if path.exists():
        changed = [row for row in differences(read_mapping(path), settings) if row[0] not in unknown]
        if changed:
            shown = "; ".join(f"{key} is {there} there and {here} here" for key, there, here in changed[:3])
            extend = _how_to_extend(folder, [key for key, *_ in changed])
            raise UserError(
                f"output={folder}: contains a run of another configuration ({shown}). "
                f"Give another output= or name=, or the same configuration to resume it.{extend}"
            )
    elif visible or (folder.exists() and not folder.is_dir()):
        raise UserError(f"output={folder}: exists and is not a run folder. Give another output= or name=.")


def _how_to_extend(folder: Path, changed: Sequence[str]) -> str:
    """What to do instead if a finished run was to be trained for another number of steps; otherwise empty."""
    if not is_complete(folder) or "trainer.max_steps" not in changed:
        return ""
    return (
        " This run is finished, and so is its learning rate schedule. To train its network further, start a new run "
        f"from it, for which trainer.max_steps counts from 0: {assign('weights', str(folder))} name=NEW"
    )


def written_plan(folder: Path) -> Mapping[str, Any] | None:
    """The planned values of the run in a folder, for comparison before the data are read; None if there is no run."""
    file = folder / "config.yaml"
    planned: Mapping[str, Any] | None = read_mapping(file).get("planned") if file.is_file() else None
    return planned


def write_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write the resolved configuration of a run into its folder as ``config.yaml``; see `check_folder`."""
    check_folder(folder, settings)
    write_text(folder / "config.yaml", yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True))


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Differences between the configuration of a run folder and another one, except for keys in `FREE`.

    Args:
        there: Content of the folder's ``config.yaml``.
        here: A run's resolved configuration.

    Returns:
        (dotted key, value there, value here), sorted by key; a missing key counts as null.
    """
    before, now = values(there), values(here)
    keys = sorted(before.keys() | now.keys())
    rows = [(key, before.get(key, NULL), now.get(key, NULL)) for key in keys if not is_free(key)]
    return [(key, old, new) for key, old, new in rows if old != new and not {old, new} <= {NULL, "[]"}]


def is_free(key: str) -> bool:
    """Whether a key, or one above it, is in `FREE`."""
    return any(f"{key}.".startswith(f"{free}.") for free in FREE)


def values(config: Mapping[str, Any]) -> dict[str, str]:
    """Dotted key to the value's text, whatever version wrote the configuration.

    Paths inside the run folder, which follow from ``output``, are left out.
    """
    inside = f"{config.get('output')}/"
    found = {
        key: NULL if value is None else _current(str(value))
        for key, value in leaves(config)
        if not f"{value}/".startswith(inside)
    }
    return {key: str(value) for key, value in ADDED.items()} | found


def _current(value: str) -> str:
    """A value with the present name of what has moved."""
    prefix = next((old for old in MOVED if value.startswith(old)), "")
    return MOVED.get(prefix, "") + value.removeprefix(prefix)


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every leaf in nested mappings and lists; a list of plain values is one leaf."""
    children: Iterable[tuple[Any, Any]]
    if isinstance(node, Mapping):
        children = node.items()
    elif isinstance(node, list) and any(isinstance(item, Mapping | list) for item in node):
        children = enumerate(node)
    else:
        yield prefix, node
        return
    for key, child in children:
        yield from leaves(child, f"{prefix}.{key}" if prefix else str(key))
