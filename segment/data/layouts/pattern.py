"""Files wherever they lie: templates such as ``{case}/imaging.nii.gz`` say which are images and which are masks."""

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
from segment.io.formats import is_image_file

FIELDS = ("case", "group")
_FIELD = re.compile(r"\{([^{}:]*)(?::([^{}/]*))?\}")


@dataclass(frozen=True)
class _File:
    path: Path
    case: str
    group: str | None


def read(
    root: Path,
    name: str,
    labels: Labels | None,
    channels: Sequence[str] | None,
    image: str | Sequence[str],
    label: str,
    report: Report = raise_errors,
) -> Dataset:
    """Read the cases whose files fit templates.

    ``{case}`` stands for the case's name and ``{group}`` for what must not straddle folds (a patient); both are parts
    of one file's or folder's name, and the same where they stand twice. ``*`` and ``?`` stand for anything within one
    such name, ``{case:*_frame??}`` for a case's name of that form.

    Args:
        root: The folder that the templates start at.
        name: Name to give the data set.
        labels: What the masks hold; None names them after the values found, which reads every mask.
        channels: Channel names; None numbers them.
        image: Template of the image files, or one a channel: ``volume-{case}.nii``.
        label: Template of the masks: ``segmentation-{case}.nii``. A file that fits it is no image.
        report: Told of masks without an image, cases without all channels and the like; raises by default.

    Returns:
        The data set, of what is sound; images without a mask become test scans.

    Raises:
        UserError: When a template is not sound, or no image with a mask fits.
    """
    masks = _by_case(root, label, "data.label", report)
    taken = {mask.path for mask in masks.values()}
    templates = [image] if isinstance(image, str) else list(image)
    files = [_by_case(root, template, "data.image", report, taken) for template in templates]
    found = []
    for case in sorted({case for channel in files for case in channel} | set(masks)):
        missing = [template for template, channel in zip(templates, files, strict=True) if case not in channel]
        mask = masks.get(case)
        if missing:
            where = mask.path if mask else next(channel[case].path for channel in files if case in channel)
            what = f"The case {case!r} has no image {', '.join(missing)}."
            report(Problem("missing", str(where), what, "Add it or take the case out."))
            continue
        images = [channel[case] for channel in files]
        group = next((file.group for file in (*images, *([mask] if mask else [])) if file.group is not None), None)
        found.append(Case(case, tuple(file.path for file in images), mask.path if mask else None, group))
    cases = checked((case for case in found if case.label), root, report)
    if not cases:
        raise UserError(
            f"{root} holds no image {' '.join(templates)} with a mask {label}. Set data.root to the folder that "
            "data.image and data.label start at."
        )
    tests = checked((case for case in found if not case.label), root, report)
    table = labels or found_labels(cases, report)
    return Dataset(name, root, cases, table, named_channels(cases, channels, "data.channels", report), tests)


def _by_case(
    root: Path, template: str, key: str, report: Report, taken: set[Path] | frozenset[Path] = frozenset()
) -> Mapping[str, _File]:
    """The files that fit a template by their case's name; of two of one case the first."""
    found: dict[str, _File] = {}
    for file in _fitting(root, template, key):
        if file.path in taken:
            continue
        known = found.setdefault(file.case, file)
        if known != file:
            what = f"It and {known.path} are both {key}={template} of the case {file.case!r}."
            report(Problem("duplicate", str(file.path), what, "Keep one, or make the template narrower."))
    return found


def _fitting(root: Path, template: str, key: str) -> Iterator[_File]:
    inside(root, template, Path(key))
    names = [found[1] for found in _FIELD.finditer(template)]
    unknown = next((name for name in names if name not in FIELDS), None)
    if unknown is not None:
        near = did_you_mean(unknown, FIELDS)
        raise UserError(f"{key}={template}: there is no field {{{unknown}}}.{near} There are {{case}} and {{group}}.")
    if "case" not in names:
        raise UserError(f"{key}={template}: has no {{case}}, so the files cannot be told apart. Add it.")
    wild = _FIELD.sub(lambda field: field[2] or "*", template.replace("[", "[[]"))
    if "**" in wild:
        raise UserError(f"{key}={template}: nothing tells where a name ends. Put a sign between the two wildcards.")
    pattern = _pattern(template)
    for path in sorted(root.glob(wild)):
        fits = pattern.fullmatch(path.relative_to(root).as_posix())
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if fits and not hidden and is_image_file(path):
            yield _File(path, fits["case"], fits.groupdict().get("group"))


def _pattern(template: str) -> re.Pattern[str]:
    """What a path from the root must be; a field that stands again must be the same."""
    parts, seen, end = [], set(), 0
    for field in _FIELD.finditer(template):
        parts.append(_literal(template[end : field.start()]))
        end = field.end()
        name = field[1]
        parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>{_literal(field[2] or '*')})")
        seen.add(name)
    return re.compile("".join([*parts, _literal(template[end:])]))


def _literal(text: str) -> str:
    """A part of a template; its wildcards stay within one name."""
    return "".join({"*": "[^/]*", "?": "[^/]"}.get(sign) or re.escape(sign) for sign in text)
