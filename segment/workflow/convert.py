"""Conversion of scans and masks: DICOM series to files, annotations to masks, and masks to what refers to a series."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from segment import __version__
from segment.data.case import Case, Dataset
from segment.data.labels import Labels
from segment.data.layouts import annotated, structures
from segment.data.layouts.common import image_files, label_table
from segment.data.layouts.dicom import Archive, open_archive
from segment.data.problems import WARNING, Problem, raise_errors
from segment.errors import UserError
from segment.files import read_mapping, write_text
from segment.inference.inputs import find_series, no_images
from segment.io.dicom.annotations import read_annotations
from segment.io.dicom.codes import Code, require_structures
from segment.io.dicom.series import Annotation, Series, contents
from segment.io.dicom.suv import suv_factor
from segment.io.formats import stem, suffix
from segment.io.formats.dicom import Dicom
from segment.io.geometry import Grid, grid_difference
from segment.io.images import read_grid, read_header, read_label, read_voxels, write_label
from segment.io.mask_formats import ENDINGS, OF_SERIES
from segment.io.masks import Naming, write_mask
from segment.io.volumes import write_volume
from segment.runs.predictions import FILE as PREDICTIONS
from segment.runs.predictions import predictions_record
from segment.workflow.anonymize import Copying, Job, anonymous_jobs
from segment.workflow.deface import check_defacing, defaced

IMAGES = ("nifti", "nrrd", "mha")
"""Formats of scans."""


@dataclass(frozen=True)
class Conversion:
    """What to convert.

    Attributes:
        source: A file or folder of images or masks; or a folder of DICOM series, of annotated images, or of scans with
            one mask per structure.
        output: Folder for the results.
        kind: One of `segment.io.mask_formats.ENDINGS`.
        reference: For masks that become DICOM: the folder of the series that they belong to, by name; for DICOM
            masks: that of the series that they refer to.
        labels: Names of the values of masks; None: those of the ``predictions.json`` beside them, else the values; of
            annotations, all structures.
        codes: Codes of structures.
        boxes: What boxes of annotations are drawn as: ``box`` or ``ellipse``.
        suv: Whether PET becomes standardised uptake values.
        overwrite: Whether files that exist may be replaced.
        deface: Whether faces are removed from scans of heads.
        pictures: Folder for a picture of each of these before and after, which shows the face; None: none is drawn.
        copying: To write copies, in their own formats, without what they tell about patients; None: to convert.
    """

    source: Path
    output: Path
    kind: str
    reference: Path | None = None
    labels: Mapping[str, int] | None = None
    codes: Mapping[str, Code] = field(default_factory=dict)
    boxes: Literal["box", "ellipse"] = "box"
    suv: bool = False
    overwrite: bool = False
    deface: bool = False
    pictures: Path | None = None
    copying: Copying | None = None


def convert(work: Conversion, advance: Callable[[int, int], None] = lambda done, total: None) -> list[Path]:
    """Convert scans or masks; one that cannot be converted does not stop the others.

    Args:
        work: What to convert.
        advance: Called after each file with the number of files done and in total.

    Returns:
        The files, in the order in which they were written.

    Raises:
        UserError: If something is wrong with what is asked for, or at the end, if files could not be converted.
    """
    jobs, inputs = (_jobs(work), _inputs(work.source)) if work.copying is None else _copies(work, work.copying)
    there = next((job.path for job in jobs if job.path.exists()), None)
    if there is not None and not work.overwrite:
        raise UserError(f"output={work.output}: {there.name} exists. Give another folder, or overwrite=true.")
    if {job.path.resolve() for job in jobs} & {file.resolve() for file in inputs}:
        raise UserError(f"output={work.output}: the results would overwrite the inputs. Give another folder.")
    failed: list[str] = []
    for done, job in enumerate(jobs, start=1):
        try:
            job.write()
        except UserError as error:
            failed.append(str(error))
        advance(done, len(jobs))
    if failed:
        others = f" The others are in {work.output}." if len(failed) < len(jobs) else ""
        count = f"{len(failed)} of {len(jobs)} files could not be written. " if len(jobs) > 1 else ""
        raise UserError(count + " ".join(dict.fromkeys(failed)) + others)
    return [job.path for job in jobs]


def _jobs(work: Conversion) -> list[Job]:
    if work.deface:
        check_defacing(work.kind in IMAGES, work.output, work.pictures)
    elif work.pictures is not None:
        raise UserError(f"face_pictures={work.pictures}: is for deface=true. Give that too, or remove it.")
    if _only_annotations(work.source):
        if work.deface:
            raise UserError(f"deface=true: {work.source} holds masks, which show no face. Remove it.")
        return _dicom_mask_jobs(work)
    series = find_series(work.source)
    if series:
        return _series_jobs(work, series)
    dataset = _annotated(work)
    if work.deface and dataset is not None:
        raise UserError(f"deface=true: of {work.source}, masks alone are written, which show no face. Remove it.")
    return _file_jobs(work) if dataset is None else _made_jobs(work, dataset)


def _copies(work: Conversion, copying: Copying) -> tuple[list[Job], list[Path]]:
    given = {"format": work.kind != "nifti", "reference": work.reference, "labels": work.labels, "codes": work.codes}
    given |= {"deface": work.deface, "face_pictures": work.pictures}
    unused = next((key for key, value in {**given, "suv": work.suv}.items() if value), None)
    if unused:
        raise UserError(f"{unused}: anonymize=true copies files in their own formats. Remove {unused}.")
    return anonymous_jobs(work.source, work.output, copying)


def masks_of_annotations(
    source: Path, folder: Path, labels: Mapping[str, Any] | None, reference: Path | None = None
) -> Path:
    """Write the masks of a folder of DICOM segmentations or structure sets, to be read like those of other folders.

    Args:
        source: A folder of masks, or of DICOM annotations.
        folder: Folder for the masks, which are named after the series.
        labels: Names and values of the structures.
        reference: Folder of the series, if they are not in ``source``.

    Returns:
        ``folder``; ``source`` itself if it holds no annotations of series that are there.

    Raises:
        UserError: If a file cannot be read, or no labels are given.
    """
    root = source
    if _only_annotations(source):
        if reference is None or not find_series(reference):
            return source
        root = reference
    elif not source.is_dir() or not find_series(source):
        return source
    elif not contents(source).annotations:
        raise UserError(
            f"{source}: its DICOM series have neither a segmentation (SEG) nor a structure set (RTSTRUCT). "
            "Give a folder with masks."
        )
    if labels is None:
        raise UserError(f"{source} holds DICOM annotations, which have names. Give their values: labels={{liver: 1}}.")
    archive = open_archive(root, label_table(labels, "labels"), key="labels", masks=source)
    for name, (series, files) in archive.annotated.items():
        _annotation_job(folder / f"{name}{ENDINGS['nifti']}", series, files, archive.labels).write()
    if (source / PREDICTIONS).is_file():
        write_text(folder / PREDICTIONS, (source / PREDICTIONS).read_text(encoding="utf-8"))
    return folder


def _inputs(source: Path) -> Sequence[Path]:
    return [source] if source.is_file() else image_files(source)


def _series_jobs(work: Conversion, series: Mapping[str, Series]) -> list[Job]:
    """The series of a folder: files of the same names, or with annotations a data set in nnU-Net's layout."""
    if work.kind not in IMAGES:
        raise UserError(f"format={work.kind}: series of scans become {', '.join(IMAGES)}. Give one of these.")
    end = ENDINGS[work.kind]
    if not work.source.is_dir() or not contents(work.source).annotations:
        return [_series_job(work, work.output / f"{name}{end}", item) for name, item in series.items()]
    labels = None if work.labels is None else label_table(work.labels, "labels")
    archive = open_archive(work.source, labels, key="labels")
    jobs = [
        _series_job(work, work.output / "imagesTs" / f"{name}_0000{end}", item) for name, item in archive.others.items()
    ]
    for name, (item, files) in archive.annotated.items():
        jobs.append(_series_job(work, work.output / "imagesTr" / f"{name}_0000{end}", item))
        jobs.append(_annotation_job(work.output / "labelsTr" / f"{name}{end}", item, files, archive.labels))
    path = work.output / "dataset.json"
    return [*jobs, Job(path, lambda: write_text(path, _described(archive, end)))]


def _only_annotations(source: Path) -> bool:
    """Whether a folder holds DICOM annotations without series."""
    if not source.is_dir() or any(suffix(file) not in Dicom.suffixes for file in image_files(source)):
        return False
    found = contents(source)
    return bool(found.annotations) and not found.series


def _dicom_mask_jobs(work: Conversion) -> list[Job]:
    """The masks of DICOM annotations, on their series, which are elsewhere."""
    if work.kind not in IMAGES:
        raise UserError(f"format={work.kind}: DICOM masks become {', '.join(IMAGES)}. Give one of these.")
    if work.reference is None:
        raise UserError(f"input={work.source}: the series of these DICOM masks are elsewhere. Give reference=FOLDER.")
    if not find_series(work.reference):
        raise UserError(f"reference={work.reference}: has no DICOM series. Give the folder of those of the masks.")
    declared = work.labels or predictions_record({work.source}).get("labels")
    labels = None if declared is None else label_table(declared, "labels")
    archive = open_archive(work.reference, labels, _say, "labels", work.source)
    if not archive.annotated:
        raise UserError(f"reference={work.reference}: no mask in {work.source} refers to its series. Give theirs.")
    return [
        _annotation_job(work.output / f"{name}{ENDINGS[work.kind]}", series, files, archive.labels)
        for name, (series, files) in archive.annotated.items()
    ]


def _series_job(work: Conversion, path: Path, series: Series) -> Job:
    def write() -> None:
        factor = suv_factor(series) if work.suv else 1.0
        header = read_header(series.path)
        array = read_voxels(series.path, header, None)
        array = array if factor == 1 else array * factor
        write_volume(path, _shown(work, series.path, path, array, header.grid), header.grid)

    return Job(path, write)


def _annotation_job(path: Path, series: Series, files: Sequence[Annotation], labels: Labels) -> Job:
    def write() -> None:
        mask = read_annotations(files, series, labels.foreground, labels[labels.background])
        write_label(path, mask, series.grid)

    return Job(path, write)


def _described(archive: Archive, end: str) -> str:
    """nnU-Net's dataset.json."""
    modality = next((series.modality for series, _ in archive.annotated.values()), "") or "image"
    content = {
        "channel_names": {"0": modality},
        "labels": archive.labels.declared,
        "numTraining": len(archive.annotated),
        "file_ending": end,
    }
    return json.dumps(content, indent=2) + "\n"


def _annotated(work: Conversion) -> Dataset | None:
    """The data set in a folder whose masks are made from annotations or structures; None if it is another folder."""
    labels = None if work.labels is None else label_table(work.labels, "labels")
    if structures.recognise(work.source):
        return structures.read(work.source, work.source.name, labels, None, _say)
    if annotated.recognise(work.source):
        return annotated.read(work.source, work.source.name, labels, None, _say, boxes=work.boxes)
    return None


def _say(problem: Problem) -> None:
    """Print a warning and raise an error."""
    if problem.severity == WARNING:
        print(f"Note: {problem}", file=sys.stderr)
    raise_errors(problem)


def _made_jobs(work: Conversion, dataset: Dataset) -> list[Job]:
    """The masks of annotations or structures."""
    if work.kind in OF_SERIES:
        raise UserError(f"format={work.kind}: refers to a DICOM series, which these images are not. Give another.")
    naming = Naming(dataset.labels.foreground, work.codes, dataset.name, __version__)
    cases = [case for case in (*dataset.cases, *dataset.test_cases) if case.label is not None]
    return [_made_job(case, work.output / f"{case.id}{ENDINGS[work.kind]}", work.kind, naming) for case in cases]


def _made_job(case: Case, path: Path, kind: str, naming: Naming) -> Job:
    def write() -> None:
        assert case.label is not None
        write_mask(path, read_label(case.label).array, case.label, kind, naming)

    return Job(path, write)


def _file_jobs(work: Conversion) -> list[Job]:
    """Images or masks in files of any readable format."""
    if not work.source.exists():
        raise UserError(f"input={work.source}: there is no such file or folder.")
    files = _inputs(work.source)
    if not files:
        raise no_images("input", work.source)
    if work.suv:
        raise UserError("suv=true: is for DICOM series of PET. Remove it.")
    if work.kind in IMAGES:
        return [_copy_job(work, file, work.output / f"{stem(file)}{ENDINGS[work.kind]}") for file in files]
    naming = _naming(work, files)
    return [_mask_job(file, work, naming) for file in files]


def _copy_job(work: Conversion, file: Path, path: Path) -> Job:
    def write() -> None:
        header = read_header(file)
        array = read_voxels(file, header, None)
        write_volume(path, _shown(work, file, path, array, header.grid), header.grid)

    return Job(path, write)


def _shown(work: Conversion, file: Path, path: Path, array: np.ndarray, grid: Grid) -> np.ndarray:
    """A scan as it is to be written: without its face, if that is asked for."""
    if not work.deface:
        return array
    picture = None if work.pictures is None else work.pictures / f"{stem(path)}.png"
    return defaced(file, array, grid, picture)


def _mask_job(file: Path, work: Conversion, naming: Naming) -> Job:
    """A mask with names; in DICOM, on the series of its name."""
    path, like = work.output / f"{stem(file)}{ENDINGS[work.kind]}", file
    if work.kind in OF_SERIES:
        if work.reference is None:
            raise UserError(f"format={work.kind}: refers to the DICOM series of the scans. Give reference=FOLDER.")
        like = _reference(file, work.reference)

    def write() -> None:
        mask = read_label(file)
        difference = grid_difference(mask.grid, read_grid(like))
        if difference:
            raise UserError(f"{file} is not on the grid of its series {like}: {difference}. Resample it.")
        unnamed = sorted({*np.unique(mask.array).tolist()} - {0, *naming.labels.values()})
        if unnamed:
            raise UserError(
                f"{file} has the value {unnamed[0]} without a name. Name it: labels={{NAME: {unnamed[0]}}}."
            )
        write_mask(path, mask.array, like, work.kind, naming)

    return Job(path, write)


def _reference(file: Path, folder: Path) -> Path:
    """The series of a mask's name, or the only one."""
    series = find_series(folder)
    found = series.get(stem(file)) or (next(iter(series.values())) if len(series) == 1 else None)
    if found is None:
        names = ", ".join(list(series)[:10]) or "none"
        raise UserError(
            f"{file}: reference={folder} has no series {stem(file)!r}; there are: {names}. Rename the mask."
        )
    return found.path


def _naming(work: Conversion, masks: Sequence[Path]) -> Naming:
    """Names from the option, else from the record of the predictions, else the values."""
    record = masks[0].parent / PREDICTIONS
    content = read_mapping(record) if record.is_file() else {}
    declared = work.labels or content.get("labels")
    if declared is not None:
        labels = label_table(declared, "labels" if work.labels else record).foreground
    else:
        values = sorted({value for file in masks for value in np.unique(read_label(file).array).tolist()} - {0})
        labels = {f"label {value}": value for value in values}
    require_structures(work.codes, "codes", [*labels])
    return Naming(labels, work.codes, str(content.get("dataset") or "segment"), __version__)
