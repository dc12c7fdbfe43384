"""Layouts of data sets on disk: each module recognises one layout and lists its cases without converting files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from segment.data.case import Dataset
from segment.data.layouts import (
    annotated,
    bids,
    dicom,
    folders,
    images,
    msd,
    nnunet,
    patients,
    pattern,
    structures,
    table,
)
from segment.data.layouts.common import ARCHIVES, label_table
from segment.data.layouts.layout import Layout
from segment.data.problems import WARNING, Problem, Report, raise_errors, reported
from segment.data.tolerance import tolerances
from segment.errors import UserError, did_you_mean
from segment.io.dicom.codes import read_codes
from segment.io.formats import is_image_file

# In the order in which they are tried: nnU-Net's dataset.json may also contain MSD's keys, a table may list the files
# of images/ and labels/, and YOLO's annotations lie in labels/.
LAYOUTS: dict[str, Layout] = {
    "nnunet": nnunet,
    "msd": msd,
    "table": table,
    "structures": structures,
    "bids": bids,
    "annotated": annotated,
    "folders": folders,
    "dicom": dicom,
    "patients": patients,
    "images": images,
}


def open_dataset(
    root: str | Path,
    name: str | None = None,
    layout: str = "auto",
    labels: Mapping[str, int | Sequence[int]] | None = None,
    region_order: Sequence[int] | None = None,
    channels: Sequence[str] | None = None,
    image: str | Sequence[str] | None = None,
    label: str | None = None,
    source: Mapping[str, Any] | None = None,
    notice: str = "",
    licence: str = "",
    specimen: str | None = None,
    tolerance: float | Mapping[str, float] | None = None,
    boxes: Literal["box", "ellipse"] = "box",
    codes: Mapping[str, Mapping[str, Any]] | None = None,
    report: Report = raise_errors,
    cache: str | Path | None = None,
) -> Dataset:
    """List the cases of a data set on disk.

    No voxels are read, except by layouts without a ``dataset.json`` if ``labels`` is not given: these then name the
    labels after the values found. Annotations and masks of single structures are made into masks once, in a cache.

    Args:
        root: The data set's folder (for a table also the CSV itself); nothing in it is changed.
        name: Short name; None uses the folder's name.
        layout: ``msd``, ``nnunet``, ``folders``, ``table``, ``structures``, ``bids``, ``annotated``, ``dicom``,
            ``patients``, ``images`` (without masks, for pretraining), ``pattern``, or ``auto`` to detect it.
        labels: Label name to value in the files, or to the list of values whose union is a region, overriding the data
            set's own labels. The one called ``background`` is the background whatever its value; ``ignore`` marks
            unannotated voxels.
        region_order: For each region, the value that it writes into a mask; None if it follows from the regions.
        channels: Channel names, overriding the data set's own.
        image: With ``pattern``, the template of the image files, or one per channel: ``volume-{case}.nii``.
        label: With ``pattern``, the template of the masks: ``segmentation-{case}.nii``.
        source: Where to download the data: ``{url, md5 or sha256, archive_folder, licence}``; only used in messages.
        notice: One sentence to print with results.
        licence: Licence of the data; the default is that of the source or the data set.
        specimen: See `segment.data.case.Dataset`.
        tolerance: Distance in mm within which two surfaces agree (for NSD), for all structures or by name; None: 2 mm.
        boxes: With ``annotated``, what boxes are drawn as: ``box``, or the ``ellipse`` that touches their sides.
        codes: Codes of structures in DICOM segmentations, by name: ``{liver: {value: 10200004, meaning: Liver}}``;
            others have the code of a common structure of their name.
        report: Receives every problem, so that the rest is still read; raises at the first error by default.
        cache: Folder for what is made of the data set, such as masks of annotations; given by the commands.

    Returns:
        The data set, cases sorted by id.

    Raises:
        UserError: If the folder is missing, its layout is unknown, nothing in it can be used, or a tolerance is not a
            distance of one of its structures; by default also if there is any error.
    """
    path = Path(root).expanduser()
    named = name or (path.parent.name if path.is_file() else path.absolute().name)
    terms = str((source or {}).get("licence", ""))
    if not path.exists():
        raise UserError(
            f"{path} does not exist, so the data set {named!r} cannot be read. {_how_to_get(name, source, terms)}"
        )
    read = _reader(path, layout, image, label, boxes, Path(cache).expanduser() if cache else None)
    described = path / "dataset.json"
    if described.is_file() and read in (table.read, folders.read, patients.read):
        what = f"It is not used, since it is neither {msd.LOOKED_FOR} nor {nnunet.LOOKED_FOR}."
        report(Problem("description", str(described), what, "Complete it, or remove it.", WARNING))
    declared = None
    if labels is not None:
        with reported(report, "labels", "data.labels"):
            declared = label_table(labels, "data.labels", region_order)
    dataset = read(path, named, declared, channels, report=report)
    try:
        re.compile(specimen or "")
    except re.error as error:
        raise UserError(f"data.specimen={specimen}: is not a regular expression ({error}). Give a name.") from None
    terms = licence or terms or dataset.licence
    agreed = tolerances(tolerance, dataset.labels.structures, "data.tolerance")
    notice = notice or dataset.notice
    read_codes(codes or {}, "data.codes", [*dataset.labels.foreground])
    return replace(
        dataset, notice=notice, licence=terms, specimen=specimen or "", tolerance=agreed, codes=dict(codes or {})
    )


def _how_to_get(name: str | None, source: Mapping[str, Any] | None, terms: str) -> str:
    if not source:
        return "Set data.root to its folder."
    licence = f" (licence: {terms})" if terms else ""
    return f"To download it{licence}, run `segment fetch data={name or 'NAME'}`, or set data.root to its folder."


def _reader(
    path: Path,
    layout: str,
    image: str | Sequence[str] | None,
    label: str | None,
    boxes: Literal["box", "ellipse"],
    cache: Path | None,
) -> Callable[..., Dataset]:
    """The function that reads the given layout, or the detected one."""
    if layout == "pattern":  # never detected: it is defined by its templates
        if image is None or label is None:
            raise UserError("data.layout=pattern: the templates data.image and data.label are required. Give both.")
        return partial(pattern.read, image=image, label=label)
    found = _layout(path, layout)
    if image is not None or label is not None:
        raise UserError(f"data.image and data.label apply to data.layout=pattern, not to {layout}. Remove them.")
    if boxes != "box" and found is not annotated:
        raise UserError(f"data.boxes={boxes} applies to data.layout=annotated, not to {layout}. Remove it.")
    if found is annotated:
        return partial(annotated.read, cache=cache, boxes=boxes)
    if found is structures or found is dicom:
        return partial(found.read, cache=cache)
    return found.read


def _layout(path: Path, layout: str) -> Layout:
    if layout in LAYOUTS:
        return LAYOUTS[layout]
    if layout != "auto":
        options = [*LAYOUTS, "pattern", "auto"]
        raise UserError(f"data.layout={layout} is not one of {', '.join(options)}.{did_you_mean(layout, options)}")
    for module in LAYOUTS.values():
        if module.recognise(path):
            return module
    if path.is_dir() and not any(path.iterdir()):
        raise UserError(f"The folder {path} is empty. Give that of the data set.")
    if path.is_file() and is_image_file(path):
        raise UserError(f"{path} is one image. Give the folder of the data set.")
    packed = [file.name for file in path.iterdir() if file.name.lower().endswith(ARCHIVES)] if path.is_dir() else []
    if packed and not any(file.is_dir() for file in path.iterdir()):
        raise UserError(f"{path} holds {min(packed)}, an archive. Unpack it.")
    if table.only_csv(path):
        return table  # which says what its columns lack
    looked = "; ".join(module.LOOKED_FOR for module in LAYOUTS.values() if module is not images)
    raise UserError(
        f"The layout of {path} is not recognised. Looked for: {looked}. Convert it to one of these, or describe its "
        "file names: data.layout=pattern data.image='{case}/image.nii.gz' data.label='{case}/mask.nii.gz'."
    )
