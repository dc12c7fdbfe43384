"""The plan file: every decision with its reason, for reading, editing and training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import yaml

from segment.errors import UserError, did_you_mean
from segment.files import read_mapping, write_text
from segment.preprocessing.plan import RAS, DatasetPlan, Plan
from segment.validation import key_name, read_as, short

MAX_BYTES = 1 << 20
_HEADER = """\
# The plan of a data set, used by train. Edit any value to override the automatic choice.
# The axis order is z, y, x (after the transpose below); y, x for slices and 2D images.
"""
_INHERITS = "inherits_from"
_OWN = tuple(field.name for field in fields(Plan) if field.name not in ("transpose", "intensities"))
_ABOUT = {
    "memory": "GB of accelerator memory that patch and batch sizes were chosen for",
    "scans": "number of training scans that the plan is based on",
    "median_shape": "voxels of the median scan, cropped to nonzero voxels",
    "median_spacing": "mm",
    "intensities": "per channel within the foreground, all scans weighted equally; ct clips to low..high",
}


def write_plan(path: Path, plan: DatasetPlan) -> None:
    """Write a plan file atomically.

    Args:
        path: A YAML file.
        plan: The plan; its `reasons` become comments.
    """
    write_text(path, plan_text(plan))


def plan_text(plan: DatasetPlan) -> str:
    """The text of a plan file."""
    reasons = _ABOUT | dict(plan.reasons)
    lines = [_HEADER.rstrip()]
    for field in fields(DatasetPlan):
        value = getattr(plan, field.name)
        if field.name == "intensities":
            lines.append(_line("", "intensities", None if value else [], reasons.get("intensities", "")))
            lines += [f"  - {_flow(vars(intensity))}" for intensity in value]
        elif field.name not in ("configurations", "reasons"):
            lines.append(_line("", field.name, value, reasons.get(field.name, "")))
    lines.append("configurations:")
    written: dict[str, Plan] = {}
    for name, configuration in plan.configurations.items():
        parent = _parent(configuration, written)
        lines += ["", f"  {_flow(name)}:"]
        if parent:
            lines.append(_line("    ", _INHERITS, parent, ""))
        for key in _OWN:
            value = getattr(configuration, key)
            omitted = value == getattr(written[parent], key) if parent else value in ("", RAS)
            if not omitted:
                lines.append(_line("    ", key, value, reasons.get(f"{name}.{key}", "")))
        written[name] = configuration
    return "\n".join(lines) + "\n"


def _parent(plan: Plan, written: Mapping[str, Plan]) -> str:
    """The configuration that a second stage inherits from in the file; empty for none."""
    return next((name for name, other in written.items() if plan.previous_stage and _core(plan) == _core(other)), "")


def _core(plan: Plan) -> Plan:
    return replace(plan, previous_stage="", batch_dice=False)


def _flow(value: Any) -> str:
    """One value on one line."""
    options: dict[str, Any] = {"default_flow_style": True, "width": math.inf, "sort_keys": False}
    text = yaml.safe_dump([_lists(value)], allow_unicode=True, **options).strip()
    if not text.isprintable():  # YAML reads U+0085 and U+2028 as line breaks unless they are escaped
        text = yaml.safe_dump([_lists(value)], **options).strip()
    return text[1:-1]


def _lists(value: Any) -> Any:
    return [_lists(item) for item in value] if isinstance(value, tuple | list) else value


def _line(indent: str, key: str, value: Any, reason: str) -> str:
    text = f"{indent}{key}:" if value is None else f"{indent}{key}: {_flow(value)}"
    # A reason may quote names from the data set, which must not end the comment.
    comment = "".join(letter if letter.isprintable() else " " for letter in reason)
    return f"{text}  # {comment}" if comment else text


def read_plan(path: Path) -> DatasetPlan:
    """Read a plan file, including the user's changes.

    Args:
        path: A YAML file as written by :func:`write_plan`; comments are ignored.

    Returns:
        The plan, without reasons.

    Raises:
        UserError: If the file is missing, damaged or inconsistent; names the file and the key.
    """
    content = read_mapping(path, "Fix it, or write a plan: segment plan.", MAX_BYTES)
    if isinstance(configurations := content.get("configurations"), dict):
        content["configurations"] = _inherited(path, configurations)
    plan = read_as(DatasetPlan, content | {"intensities": content.get("intensities") or []}, path)
    complete: dict[str, Plan] = {}
    for name, own in plan.configurations.items():
        if own.transpose or own.intensities:
            raise UserError(f"{path}: configurations.{name}: give transpose and intensities once, for the whole plan.")
        intensities = plan.intensities if "ct" in own.normalization else ()
        complete[name] = replace(own, transpose=plan.transpose, intensities=intensities)
    plan = replace(plan, configurations=complete)
    try:
        plan.check()
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    return plan


def _inherited(path: Path, configurations: Mapping[Any, Any]) -> dict[Any, Any]:
    """The configurations of a file, each with the values of the configuration above that it inherits from."""
    found: dict[Any, Any] = {}
    for name, entry in configurations.items():
        if isinstance(entry, dict) and _INHERITS in entry:
            entry, parent = dict(entry), entry[_INHERITS]
            if parent not in list(found):  # a list, since what the file contains may not be hashable
                hint = did_you_mean(str(parent)[:100], map(str, found))
                raise UserError(
                    f"{path}: configurations.{key_name(name)}.{_INHERITS}: {short(parent)} is not a configuration "
                    f"above it.{hint} Give one, or all values."
                )
            del entry[_INHERITS]
            entry = found[parent] | entry if isinstance(found[parent], dict) else entry
        found[name] = entry
    return found
