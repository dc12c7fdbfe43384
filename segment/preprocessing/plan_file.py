"""The plan file: every decision with its reason, for reading, editing and training."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NoReturn

import yaml

from segment.errors import UserError, did_you_mean
from segment.files import PlainLoader, write_text
from segment.preprocessing.patches import MAX_BATCH, PRESETS
from segment.preprocessing.plan import NORMALIZATIONS, DatasetPlan, Intensity, Plan
from segment.text import one_line

MAX_BYTES = 1 << 20
MAX_CONFIGURATIONS = 64
MAX_CHANNELS = 1024
MAX_STAGES = 16
MAX_VOXELS = 1 << 30  # of a patch
_HEADER = """\
# The plan of a data set, used by train. Edit any value to override the automatic choice.
# The axis order is z, y, x (after the transpose below); y, x for slices and 2D images.
"""
_INHERITS = "inherits_from"
_OWN = tuple(field.name for field in fields(Plan) if field.name not in ("transpose", "intensities"))
_OPTIONAL = ("batch_dice", "previous_stage")
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
            omitted = value == getattr(written[parent], key) if parent else key == "previous_stage" and not value
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
    text = yaml.safe_dump([_lists(value)], default_flow_style=True, width=math.inf, sort_keys=False, allow_unicode=True)
    return text.strip()[1:-1]


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
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise UserError(
                f"{path}: larger than {MAX_BYTES >> 20} MB, too large for a plan. Write it again: segment plan."
            )
        content = yaml.load(data.decode("utf-8"), Loader=PlainLoader)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). Write a plan first: segment plan.") from None
    except (ValueError, RecursionError, OverflowError, yaml.YAMLError) as error:
        reason = one_line(error)[:300]
        raise UserError(f"{path}: not YAML ({reason}). Fix the line, or write it again: segment plan.") from None
    return _Reader(path).dataset(content)


class _Reader:
    """Parse the content of a plan file; every error names the file and the key."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fail(self, key: str, what: str) -> NoReturn:
        raise UserError(f"{self.path}: {key}{': ' if key else ''}{what}")

    def mapping(self, key: str, value: Any, allowed: Sequence[str], required: Sequence[str]) -> dict[str, Any]:
        """Check a mapping with these keys."""
        if not isinstance(value, dict):
            self.fail(key, f"is {_format_value(value)} instead of a mapping. Give {', '.join(required)}.")
        for name in value:
            if name not in allowed:
                hint = did_you_mean(name[:100], allowed) if isinstance(name, str) else ""
                self.fail(_join(key, name), f"is not a known key.{hint} The keys are: {', '.join(allowed)}.")
        for name in required:
            if name not in value:
                self.fail(_join(key, name), "is missing. Add it, or write the plan again: segment plan.")
        return value

    def number(self, key: str, value: Any, low: float, high: float) -> float:
        """Check a number within limits."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            hint = " Write 1.0e-5 for 1e-5." if isinstance(value, str) else ""
            self.fail(key, f"{_format_value(value)} is not a number from {low:g} to {high:g}. Give one.{hint}")
        return float(value)

    def integer(self, key: str, value: Any, low: int, high: int) -> int:
        """Check an integer within limits."""
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.fail(key, f"{_format_value(value)} is not an integer from {low} to {high}. Give one.")
        return value

    def text(self, key: str, value: Any, options: Sequence[str] = ()) -> str:
        """Check a short text, which must be one of the options if there are any."""
        if not isinstance(value, str) or len(value) > 1000:
            self.fail(key, f"{_format_value(value)} is not a text. Give a name, in quotes if it looks like a number.")
        if options and value not in options:
            hint = did_you_mean(value[:100], options)
            self.fail(key, f"{_format_value(value)} is not one of {', '.join(options)}.{hint} Give one of them.")
        return value

    def row(self, key: str, value: Any, item: Callable[[str, Any], Any], low: int, high: int) -> tuple[Any, ...]:
        """Check a list whose length is within limits."""
        if not isinstance(value, list) or not low <= len(value) <= high:
            expected = f"{low}" if low == high else f"{low} to {high}"
            found = f"has {len(value)} entries" if isinstance(value, list) else f"is {_format_value(value)}"
            self.fail(key, f"{found} instead of a list of {expected}. Fix the list.")
        return tuple(item(f"{key}[{index}]", entry) for index, entry in enumerate(value))

    def dataset(self, content: Any) -> DatasetPlan:
        """Parse the whole file."""
        names = [field.name for field in fields(DatasetPlan) if field.name != "reasons"]
        top = self.mapping("", content, names, names)
        transpose = self.row("transpose", top["transpose"], lambda k, v: self.integer(k, v, 0, 2), 0, 3)
        if transpose and sorted(transpose) != [0, 1, 2]:
            self.fail("transpose", f"{list(transpose)} does not contain 0, 1 and 2 once each. Fix it; [] for 2D scans.")
        dims = 3 if transpose else 2
        channels = self.row("channels", top["channels"], self.text, 1, MAX_CHANNELS)
        intensities = top["intensities"] or []
        plan = DatasetPlan(
            dataset=self.text("dataset", top["dataset"]),
            preset=self.text("preset", top["preset"], tuple(PRESETS)),
            memory=self.number("memory", top["memory"], 1e-6, 1e4),
            scans=self.integer("scans", top["scans"], 1, 10**9),
            channels=channels,
            median_shape=self.row("median_shape", top["median_shape"], self.extent, dims, dims),
            median_spacing=self.row("median_spacing", top["median_spacing"], self.spacing, dims, dims),
            transpose=transpose,
            intensities=self.row(
                "intensities", intensities, self.intensity, *[len(channels) if intensities else 0] * 2
            ),
            configurations={},
        )
        return replace(plan, configurations=self.configurations(top["configurations"], plan))

    def extent(self, key: str, value: Any) -> int:
        """Voxels along an axis."""
        return self.integer(key, value, 1, 1 << 31)

    def spacing(self, key: str, value: Any) -> float:
        """Millimetres."""
        return self.number(key, value, 1e-9, 1e6)

    def intensity(self, key: str, value: Any) -> Intensity:
        """Intensities of one channel."""
        names = ("mean", "sd", "low", "high")
        row = self.mapping(key, value, names, names)
        found = {name: self.number(_join(key, name), row[name], 0 if name == "sd" else -1e38, 1e38) for name in names}
        if found["low"] > found["high"]:
            self.fail(_join(key, "low"), f"{found['low']:g} is above high, {found['high']:g}. Swap them.")
        return Intensity(**found)

    def configurations(self, content: Any, plan: DatasetPlan) -> dict[str, Plan]:
        """Parse all configurations, in the order of the file."""
        if not isinstance(content, dict) or not 1 <= len(content) <= MAX_CONFIGURATIONS:
            self.fail("configurations", f"is {_format_value(content)} instead of a mapping. Give 2d or 3d_fullres.")
        found: dict[str, Plan] = {}
        for name, entry in content.items():
            if not isinstance(name, str) or not re.fullmatch(r"\w{1,64}", name, re.ASCII):
                self.fail(_join("configurations", name), "is not a valid name. Use letters, digits and _ only.")
            found[name] = self.configuration(f"configurations.{name}", entry, found, plan)
        for name, configuration in found.items():
            if configuration.previous_stage:
                self.text(f"configurations.{name}.previous_stage", configuration.previous_stage, tuple(found))
                if configuration.previous_stage == name:
                    self.fail(
                        f"configurations.{name}.previous_stage", "refers to itself. Give the coarser configuration."
                    )
        return found

    def configuration(self, key: str, content: Any, above: Mapping[str, Plan], plan: DatasetPlan) -> Plan:
        """Parse one configuration; its own keys override those of the configuration above that it inherits from."""
        inherits = isinstance(content, dict) and _INHERITS in content
        required = (_INHERITS,) if inherits else tuple(name for name in _OWN if name not in _OPTIONAL)
        row = self.mapping(key, content, (_INHERITS, *_OWN), required)
        if inherits:
            if not above:
                self.fail(_join(key, _INHERITS), "there is no configuration above it to inherit from. Move it down.")
            base = above[self.text(_join(key, _INHERITS), row[_INHERITS], tuple(above))]
        else:
            base = Plan((), (), 1, (), plan.transpose)
        own = {name: self.entry(_join(key, name), name, row[name], plan) for name in _OWN if name in row}
        made = replace(base, **own)
        made = replace(made, intensities=plan.intensities if "ct" in made.normalization else ())
        self.consistent(key, made, plan)
        return made

    def entry(self, key: str, name: str, value: Any, plan: DatasetPlan) -> Any:
        """Check one value of a configuration on its own."""
        axes, channels = (2, 3 if plan.transpose else 2), len(plan.channels)

        def up_to(high: int) -> Callable[[str, Any], int]:
            return lambda key, value: self.integer(key, value, 1, high)

        def stages(high: int) -> tuple[Any, ...]:
            return self.row(key, value, lambda key, row: self.row(key, row, up_to(high), *axes), 1, MAX_STAGES)

        if name == "batch_dice" and not isinstance(value, bool):
            self.fail(key, f"{_format_value(value)} is neither true nor false. Give one of them.")
        read: dict[str, Callable[[], Any]] = {
            "spacing": lambda: self.row(key, value, self.spacing, *axes),
            "patch_size": lambda: self.row(key, value, up_to(1 << 16), *axes),
            "batch_size": lambda: self.integer(key, value, 1, MAX_BATCH),
            "normalization": lambda: self.row(
                key, value, lambda key, name: self.text(key, name, NORMALIZATIONS), channels, channels
            ),
            "strides": lambda: stages(8),
            "kernel_sizes": lambda: stages(15),
            "features": lambda: self.row(key, value, up_to(1 << 13), 1, MAX_STAGES),
            "blocks": lambda: self.row(key, value, up_to(64), 1, MAX_STAGES),
            "decoder_blocks": lambda: self.row(key, value, up_to(64), 0, MAX_STAGES),
            "batch_dice": lambda: value,
            "previous_stage": lambda: self.text(key, value),
        }
        return read[name]()

    def consistent(self, key: str, made: Plan, plan: DatasetPlan) -> None:
        """Refuse values that are valid individually but not together."""
        dims = len(made.patch_size)
        if len(made.spacing) != dims:
            self.fail(
                _join(key, "spacing"),
                f"has {len(made.spacing)} axes, patch_size {dims}. Give the same number for both.",
            )
        self.stages(key, made)
        divisor = [math.prod(axis) for axis in zip(*made.strides, strict=True)]
        if any(size % by for size, by in zip(made.patch_size, divisor, strict=True)):
            nearest = [math.ceil(size / by) * by for size, by in zip(made.patch_size, divisor, strict=True)]
            self.fail(
                _join(key, "patch_size"),
                f"{list(made.patch_size)} is not divisible by {divisor}, the product of strides. Give {nearest}, or "
                "change strides.",
            )
        if math.prod(made.patch_size) > MAX_VOXELS:
            self.fail(_join(key, "patch_size"), f"has over {MAX_VOXELS} voxels. Give a smaller size.")
        if "ct" in made.normalization and not plan.intensities:
            self.fail(
                _join(key, "normalization"), "ct needs intensities, which the plan lacks. Add them or use zscore."
            )

    def stages(self, key: str, made: Plan) -> None:
        """Refuse a network whose stages do not match each other or the patch's axes."""
        dims, stages = len(made.patch_size), len(made.strides)
        for name in ("strides", "kernel_sizes"):
            for index, axes in enumerate(getattr(made, name)):
                if len(axes) != dims:
                    self.fail(
                        f"{key}.{name}[{index}]", f"has {len(axes)} axes, patch_size {dims}. Give {dims} numbers."
                    )
        for name, fewer in (("kernel_sizes", 0), ("features", 0), ("blocks", 0), ("decoder_blocks", 1)):
            count = len(getattr(made, name))
            if count != stages - fewer:
                self.fail(_join(key, name), f"has {count} entries, strides {stages}. Give {stages - fewer}.")
        even = next((width for widths in made.kernel_sizes for width in widths if width % 2 == 0), None)
        if even is not None:
            self.fail(_join(key, "kernel_sizes"), f"{even} is even, so the kernel has no centre. Give odd numbers.")


def _join(key: str, name: object) -> str:
    text = name if isinstance(name, str) and name.isidentifier() and len(name) < 100 else _format_value(name)
    return f"{key}.{text}" if key else text


def _format_value(value: Any) -> str:
    """Format a value for a message: short and without control characters."""
    try:
        return reprlib.repr(value)
    except ValueError:  # Python does not print integers with thousands of digits
        return f"a huge {type(value).__name__}"
