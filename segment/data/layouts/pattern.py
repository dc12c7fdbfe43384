"""Files in any folder structure: templates such as ``{case}/imaging.nii.gz`` define the images and masks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segment.data.case import Case, Dataset
from segment.data.labels import Labels
from segment.data.layouts.common import checked, found_labels, inside, named_channels
from segment.data.problems import Problem, Report, raise_errors
from segment.errors import UserError, did_you_mean
from segment.io.formats import is_image_file, listed

FIELDS = ("case", "group", "split")
_TEST = ("test", "Ts")
_SPLITS = ("training", "train", "Tr", *_TEST)
_FIELD = re.compile(r"\{([^{}:]*)(?::([^{}/]*))?\}")


@dataclass(frozen=True)
class _File:
    path: Path
    case: str
    group: str | None
    split: str | None


def read(
    root: Path,
    name: str,
    labels: Labels | None,
    channels: Sequence[str] | None,
    image: str | Sequence[str],
    label: str,
    report: Report = raise_errors,
) -> Dataset:
    """Read the cases whose files match templates.

    ``{case}`` matches the case's name, ``{group}`` the unit that must not be split across folds (a patient), and
    ``{split}`` one of train, training, Tr, test and Ts, which tells the official test scans. Each matches within one
    file or folder name; a repeated field must match the same text. ``*`` and ``?`` are wildcards within one such name;
    ``{case:*_frame??}`` matches a case name of that form.

    Args:
        root: The folder that the templates are relative to.
        name: Name to give the data set.
        labels: Labels of the masks; None names them after the values found, which reads every mask.
        channels: Channel names; None numbers them.
        image: Template of the image files, or one per channel: ``volume-{case}.nii``.
        label: Template of the masks: ``segmentation-{case}.nii``. A file that matches it is not an image.
        report: Receives every problem, such as a mask without an image; raises by default.

    Returns:
        The data set with its valid cases; images whose ``{split}`` says so, or without a mask, become test scans.

    Raises:
        UserError: If a template is invalid, or no image with a mask matches.
    """
    masks = _by_case(root, label, "data.label", report)
    mask_files = {mask.path for mask in masks.values()}
    templates = [image] if isinstance(image, str) else list(image)
    files = [_by_case(root, template, "data.image", report, mask_files) for template in templates]
    for template, present in zip((*templates, label), (*files, masks), strict=True):
        for path, match in _paths(root, template).items():
            if match["case"] not in present and not is_image_file(path):
                what = f"It fits {template}, but its format is not among those read: {listed()}."
                report(Problem("unreadable", str(path), what, "Convert it, or make the template narrower."))
    found, test_names = [], set()
    for case in sorted({case for channel in files for case in channel} | set(masks)):
        missing = [template for template, channel in zip(templates, files, strict=True) if case not in channel]
        mask = masks.get(case)
        if missing:
            where = mask.path if mask else next(channel[case].path for channel in files if case in channel)
            what = f"The case {case!r} has no image {', '.join(missing)}."
            report(Problem("missing", str(where), what, "Add it or remove the case."))
            continue
        images = [channel[case] for channel in files]
        group = next((file.group for file in (*images, *([mask] if mask else [])) if file.group is not None), None)
        found.append(Case(case, tuple(file.path for file in images), mask.path if mask else None, group))
        if mask is None or images[0].split in _TEST or mask.split in _TEST:
            test_names.add(case)
    cases = checked((case for case in found if case.id not in test_names), root, report)
    if not cases:
        raise UserError(
            f"{root} contains no image {' '.join(templates)} with a mask {label}. Set data.root to the folder that "
            "data.image and data.label are relative to."
        )
    tests = checked((case for case in found if case.id in test_names), root, report)
    table = labels or found_labels(cases, report, root)
    return Dataset(name, root, cases, table, named_channels(cases, channels, "data.channels", report), tests)


def _by_case(
    root: Path, template: str, key: str, report: Report, mask_files: set[Path] | frozenset[Path] = frozenset()
) -> Mapping[str, _File]:
    """The files that match a template, by case name; the first of several files of one case."""
    found: dict[str, _File] = {}
    for file in _matching(root, template, key):
        if file.path in mask_files:
            continue
        known = found.setdefault(file.case, file)
        if known != file:
            what = f"It and {known.path} are both {key}={template} of the case {file.case!r}."
            report(Problem("duplicate", str(file.path), what, "Keep one, or make the template narrower."))
    return found


def _matching(root: Path, template: str, key: str) -> Iterator[_File]:
    inside(root, template, Path(key))
    names = [found[1] for found in _FIELD.finditer(template)]
    unknown = next((name for name in names if name not in FIELDS), None)
    if unknown is not None:
        hint = did_you_mean(unknown, FIELDS)
        raise UserError(
            f"{key}={template}: unknown field {{{unknown}}}.{hint} The fields are {{case}}, {{group}} and {{split}}."
        )
    if "case" not in names:
        raise UserError(f"{key}={template}: {{case}} is missing, so the files cannot be assigned to cases. Add it.")
    if "**" in _wildcards(template):
        raise UserError(f"{key}={template}: adjacent wildcards are ambiguous. Put a character between them.")
    for path, match in _paths(root, template).items():
        if is_image_file(path):
            yield _File(path, match["case"], match.groupdict().get("group"), match.groupdict().get("split"))


def _wildcards(template: str) -> str:
    """The template as a glob pattern."""
    return _FIELD.sub(lambda field: field[2] or "*", template.replace("[", "[[]"))


def _paths(root: Path, template: str) -> dict[Path, re.Match[str]]:
    """The files of any format that fit a template, sorted, without hidden ones."""
    pattern, found = _pattern(template), {}
    for path in sorted(root.glob(_wildcards(template))):
        below = path.relative_to(root)
        match = pattern.fullmatch(below.as_posix())
        if match and not any(part.startswith(".") for part in below.parts):
            found[path] = match
    return found


def _pattern(template: str) -> re.Pattern[str]:
    """Regular expression for paths relative to the root; a repeated field must match the same text."""
    parts, seen, end = [], set(), 0
    for field in _FIELD.finditer(template):
        parts.append(_literal(template[end : field.start()]))
        end = field.end()
        name = field[1]
        words = "|".join(_SPLITS) if name == "split" and not field[2] else _literal(field[2] or "*")
        parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>{words})")
        seen.add(name)
    return re.compile("".join([*parts, _literal(template[end:])]))


def _literal(text: str) -> str:
    """Escape a part of a template; its wildcards match within one name."""
    return "".join({"*": "[^/]*", "?": "[^/]"}.get(char) or re.escape(char) for char in text)
