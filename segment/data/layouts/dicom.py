"""DICOM series with segmentations or structure sets in one folder, as they come from an archive."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

from segment.data.case import Case, Dataset
from segment.data.labels import MAX_LABELS, Labels
from segment.data.layouts.common import channel_table, named_channels
from segment.data.layouts.made import Recipe, make_masks
from segment.data.layouts.studies import Scans, scans_of_studies
from segment.data.problems import WARNING, Problem, Report, raise_errors, reported
from segment.errors import UserError
from segment.files import file_sha256
from segment.io.dicom.annotations import annotated_series, read_annotations, structure_names
from segment.io.dicom.files import is_dicom, walk
from segment.io.dicom.names import named_series, notes_of
from segment.io.dicom.series import Annotation, Contents, Series, contents

LOOKED_FOR = "DICOM files"
_NAMED = 12  # structures in the notice
_TRIED = 50  # files that are looked at; archives put few others before the first series

Annotated = dict[str, tuple[Series, list[Annotation]]]


@dataclass(frozen=True, eq=False)
class Archive:
    """The series of a folder and what is known of them.

    Attributes:
        annotated: Series with annotations and these, by case name.
        others: The series of patients without any annotation, by case name.
        labels: Names and values of the structures.
        groups: Patient IDs to numbers, which say nothing of the patient.
        unused: Structures of the annotations that the labels do not name.
        series: All series.
        left: Series without annotation of patients with annotations, by case name.
    """

    annotated: Annotated
    others: Mapping[str, Series]
    labels: Labels
    groups: Mapping[str, str]
    unused: Sequence[str]
    series: Sequence[Series]
    left: Mapping[str, Series]


def recognise(root: Path) -> bool:
    """Whether a folder contains DICOM files.

    Args:
        root: A folder or file.

    Returns:
        True if one of the first files in it or its subfolders is DICOM.
    """
    return root.is_dir() and any(is_dicom(path) for path in islice(walk(root), _TRIED))


def read(
    root: Path,
    name: str,
    labels: Labels | None,
    channels: Sequence[str] | None,
    report: Report = raise_errors,
    cache: Path | None = None,
) -> Dataset:
    """Read the series of a folder, and make a mask for each that has annotations.

    A series with a DICOM segmentation (SEG) or structure set (RTSTRUCT) that refers to it is a training scan; others of
    the same patient are left out, and those of patients without any annotation are test scans. Series of one patient
    stay in one fold. Given the names of several channels, the series of each study become the channels of one scan,
    see `segment.io.dicom.channels.channel_series`.

    Args:
        root: The folder.
        name: Name to give the data set.
        labels: Names of the structures to use, as the annotations spell them, and their values in the masks; None uses
            all structures, by name.
        channels: Names of the channels.
        report: Receives what is no scan as warnings, and every error; raises by default.
        cache: Folder in which masks are kept; None: the command's.

    Returns:
        The data set with its valid cases.

    Raises:
        UserError: If there is no series.
    """
    archive = open_archive(root, labels, report)
    images: Scans = {name: (series.path,) for name, (series, _) in archive.annotated.items()}
    images |= {name: (series.path,) for name, series in archive.others.items()}
    named: Sequence[str] = ()
    chosen = ""
    with reported(report, "channels", "data.channels"):
        named = channel_table(channels, "data.channels") if channels is not None else ()
    if len(named) > 1 and archive.series[0].stack.slices[0].samples != len(named):
        marked = {item.path: (item, files) for item, files in archive.annotated.values()}
        annotated, others, images, chosen = scans_of_studies(root, archive.series, marked, named, cache, report)
        archive = replace(archive, annotated=annotated, others=others)
    else:
        _report_unused(archive, report)
    groups = archive.groups
    recipes = list(_recipes(archive, report))
    made = make_masks(recipes, cache, report)
    cases = []
    for case, (series, files) in archive.annotated.items():
        if case in made:
            sources = tuple(item.path for item in files)
            group = groups.get(series.patient)
            cases.append(Case(case, images[case], made[case], group, made_from=sources))
    tests = [Case(name, images[name], None, groups.get(item.patient)) for name, item in archive.others.items()]
    if not archive.annotated:
        what = f"Its {len(tests)} DICOM series have neither a segmentation (SEG) nor a structure set (RTSTRUCT)."
        report(Problem("missing", str(root), what, "Put them into the folder to train; predict needs none."))
    used = named_channels(cases or tests, channels, "data.channels", report)
    return Dataset(
        name, root, tuple(cases), archive.labels, used, tuple(tests), notice=_notice(archive) + chosen if cases else ""
    )


def open_archive(
    root: Path,
    labels: Labels | None,
    report: Report = raise_errors,
    key: str = "data.labels",
    masks: Path | None = None,
) -> Archive:
    """Find the series of a folder and the annotations that belong to them, without reading voxels.

    Args:
        root: The folder.
        labels: As for `read`.
        report: As for `read`.
        key: What the user calls ``labels``.
        masks: Where the annotations are; None: beside the series.

    Returns:
        The series, by whether they have annotations.

    Raises:
        UserError: If there is no series.
    """
    found = contents(root)
    if not found.series:
        raise UserError(f"{root} contains no DICOM series of slices. {' '.join(notes_of(found)[:3])}".strip())
    _report_left_out(found, report)
    if masks is not None:
        found = replace(found, annotations=contents(masks).annotations)
    named = named_series(root, found.series)
    annotated = _annotated(named, found, report)
    names = sorted({item for _, files in annotated.values() for part in files for item in _names(part, report)})
    table = labels or _labels(names, root, report)
    _require_names(table, names, report, key)
    unused = [name for name in names if name not in table.foreground]
    known = {series.patient for series, _ in annotated.values() if series.patient}
    rest = {name: series for name, series in named.items() if name not in annotated}
    left = {name: series for name, series in rest.items() if series.patient in known}
    others = {name: series for name, series in rest.items() if name not in left}
    return Archive(annotated, others, table, _groups(found.series), unused, found.series, left)


def _report_left_out(found: Contents, report: Report) -> None:
    for item in found.left_out:
        more = f" with {len(item.files) - 1} more" if len(item.files) > 1 else ""
        what = f"Left out{more}: {item.reason}."
        report(Problem("unlisted", str(item.files[0]), what, "", WARNING))


def _annotated(named: Mapping[str, Series], found: Contents, report: Report) -> Annotated:
    """The series with annotations by case name, in order of their names."""
    by_series: dict[Path, list[Annotation]] = {}
    for annotation in found.annotations:
        series = annotated_series(annotation, found.series)
        if series is None:
            what = "It refers to a series that is not in the folder."
            report(Problem("missing", str(annotation.path), what, "Add the series.", WARNING))
        else:
            by_series.setdefault(series.path, []).append(annotation)
    return {name: (item, by_series[item.path]) for name, item in named.items() if item.path in by_series}


def _notice(archive: Archive) -> str:
    """Which structures are used."""
    used, unused = (_listed(names) for names in ([*archive.labels.foreground], archive.unused))
    return f"Masks are made of DICOM annotations: {used}{'; left out: ' + unused if unused else ''}."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _names(annotation: Annotation, report: Report) -> list[str]:
    with reported(report, "unreadable", annotation.path):
        return structure_names(annotation)
    return []


def _labels(names: Sequence[str], root: Path, report: Report) -> Labels:
    """Every structure by name, numbered."""
    usable = [name for name in names if name.lower() not in ("background", "ignore")]
    if len(usable) >= MAX_LABELS:
        what = f"The annotations have {len(usable)} structures, more than the {MAX_LABELS - 1} that a mask holds."
        report(Problem("labels", str(root), what, "Name those to use with data.labels."))
    chosen = usable[: MAX_LABELS - 1] or ["structure"]
    return Labels({"background": 0} | {name: value for value, name in enumerate(chosen, start=1)})


def _require_names(labels: Labels, names: Sequence[str], report: Report, key: str) -> None:
    unknown = [name for name in labels.foreground if name not in names]
    if names and unknown:
        what = f"No annotation has a structure {unknown[0]!r}; they have {', '.join(names[:20])}."
        report(Problem("labels", key, what, "Spell the names as the annotations do."))


def _groups(series: Iterable[Series]) -> dict[str, str]:
    """A number for each patient ID."""
    patients = sorted({item.patient for item in series if item.patient})
    return {patient: f"patient_{number}" for number, patient in enumerate(patients, start=1)}


def _report_unused(archive: Archive, report: Report) -> None:
    """Report the series without annotation of patients with annotations."""
    for name, series in archive.left.items():
        what = f"The series {name!r} has no annotation, unlike another of its patient, and is left out."
        fix = "If the series of a study are channels of one scan, name them with data.channels."
        report(Problem("unlisted", str(series.path), what, fix, WARNING))


def _recipes(archive: Archive, report: Report) -> Iterator[Recipe]:
    """How the mask of each annotated series is made, without those that are no volume."""
    values, background = archive.labels.foreground, archive.labels[archive.labels.background]
    for case, (series, files) in archive.annotated.items():
        with reported(report, "unreadable", series.path):
            key = [*(file_sha256(item.path) for item in files), dict(values), background]
            make = partial(read_annotations, files, series, values, background)
            yield Recipe(case, files[0].path, series.grid, key, make)
