"""Data sets as they lie on disk: each module recognises one layout and reads its cases; voxels stay where they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from segment.data.case import Dataset
from segment.data.layouts import folders, msd, nnunet, patients, pattern, table
from segment.data.layouts.common import label_table
from segment.data.layouts.layout import Layout
from segment.data.problems import WARNING, Problem, Report, raise_errors, reported
from segment.errors import UserError, did_you_mean

# In the order in which they are tried: nnU-Net's dataset.json may carry MSD's keys as well, and a table may list what
# lies in images/ and labels/.
LAYOUTS: dict[str, Layout] = {"nnunet": nnunet, "msd": msd, "table": table, "folders": folders, "patients": patients}


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
    report: Report = raise_errors,
) -> Dataset:
    """List the cases of a data set on disk.

    No voxel is read, except by the layouts without a ``dataset.json`` when ``labels`` is not given: they then name the
    labels after the values found.

    Args:
        root: The data set's folder (for a table also the CSV itself); nothing in it is changed.
        name: Short name; None takes the folder's.
        layout: ``msd``, ``nnunet``, ``folders``, ``table``, ``patients``, ``pattern``, or ``auto`` to go by what lies
            there.
        labels: Label name to value in the files, or to the list of values whose union is a region, in place of the data
            set's own; the one called ``background`` is the background whatever its value, ``ignore`` are voxels that
            nobody annotated.
        region_order: For each region the value it writes into a mask; None where it follows from the regions.
        channels: Channel names in place of the data set's own.
        image: With ``pattern``, the template of the image files, or one a channel: ``volume-{case}.nii``.
        label: With ``pattern``, the template of the masks: ``segmentation-{case}.nii``.
        source: Where the data come from: ``{url, md5 or sha256, archive_folder, licence}``; only for messages here.
        notice: One sentence to print beside results.
        licence: Licence of the data; the default is the source's, or the data set's own.
        report: Told of everything that is not sound, so that the rest is still read; raises at the first by default.

    Returns:
        The data set, cases sorted by id.

    Raises:
        UserError: When the folder is missing, its layout is not known, or nothing in it can be used; by default also
            when any of its files is not sound.
    """
    path = Path(root).expanduser()
    named = name or (path.parent.name if path.suffix.lower() == ".csv" else path.absolute().name)
    terms = str((source or {}).get("licence", ""))
    if not path.exists():
        raise UserError(
            f"{path} does not exist, so the data set {named!r} cannot be read. {_how_to_get(name, source, terms)}"
        )
    read = _reader(path, layout, image, label)
    described = path / "dataset.json"
    if described.is_file() and read in (table.read, folders.read, patients.read):
        what = f"It is not used, since it is neither {msd.LOOKED_FOR} nor {nnunet.LOOKED_FOR}."
        report(Problem("description", str(described), what, "Complete it, or take it away.", WARNING))
    given = None
    if labels is not None:
        with reported(report, "labels", "data.labels"):
            given = label_table(labels, "data.labels", region_order)
    dataset = read(path, named, given, channels, report=report)
    return replace(dataset, notice=notice or dataset.notice, licence=licence or terms or dataset.licence)


def _how_to_get(name: str | None, source: Mapping[str, Any] | None, terms: str) -> str:
    if not source:
        return "Set data.root to its folder."
    licence = f" (licence: {terms})" if terms else ""
    return f"To download it{licence}, run `segment fetch data={name or 'NAME'}`, or set data.root to where it lies."


def _reader(path: Path, layout: str, image: str | Sequence[str] | None, label: str | None) -> Callable[..., Dataset]:
    """The function that reads the layout that is named, or that of what lies there."""
    if layout == "pattern":  # never recognised: its templates say what lies there
        if image is None or label is None:
            raise UserError("data.layout=pattern: needs the templates data.image and data.label. Give both.")
        return partial(pattern.read, image=image, label=label)
    found = _layout(path, layout)
    if image is not None or label is not None:
        raise UserError(f"data.image and data.label belong to data.layout=pattern, not to {layout}. Leave them out.")
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
    looked = "; ".join(module.LOOKED_FOR for module in LAYOUTS.values())
    raise UserError(f"The layout of {path} is not recognised. Looked for: {looked}. Bring it into one of these.")
