"""TensorBoard's view of a finished run: final scores and curves, pictures, surfaces, a row in the table of runs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from segment.metrics.standard import LEAD
from segment.report.notable import NotableScan, notable_scans
from segment.runs.config import flatten
from segment.runs.folder import RunFolder, read_run
from segment.runs.precision_recall import read_curves
from segment.text import printable
from segment.visual.surfaces import side_by_side

_SUFFIX = ".report"
_SHOWN_OF_THE_PLAN = ("planned.spacing", "planned.patch_size", "planned.batch_size")
_UNSHOWN = ("planned", "callbacks", "logger", "metrics")  # but for what is named above or overridden
_SCENE = {
    "camera": {"cls": "PerspectiveCamera", "fov": 20, "near": 0.1, "far": 1000},  # a wide one cuts off what is in front
    "lights": [
        {"cls": "AmbientLight", "color": "#ffffff", "intensity": 1.1},
        {"cls": "DirectionalLight", "color": "#ffffff", "intensity": 0.5, "position": [-1, 1, 2]},
        {"cls": "DirectionalLight", "color": "#ffffff", "intensity": 0.4, "position": [1, -1, -2]},
    ],
}


def write_board(run: Path) -> None:
    """Write the result of a finished run for TensorBoard, beside the curves that training wrote.

    Writes into ``tensorboard/``: the scalars of `final_scores`; the curves ``precision_recall_final/NAME``; the
    pictures ``panels/worst`` and ``panels/median`` with a text that names the scan; the surfaces of the worst scan,
    where it is 3D; `hyperparameters`. What an earlier call wrote is replaced. A scan whose source files are gone gets
    no picture and no surface, a run without ``precision_recall.csv`` no curve.

    Args:
        run: A run folder: ``config.yaml``, ``scans.csv``, ``summary.json``, ``provenance.json``, ``predictions/``.

    Raises:
        UserError: One of the first three is missing or damaged, or ``precision_recall.csv`` is damaged.
    """
    content = read_run(run)
    # Written far from the run, since TensorBoard may be watching it and would take a folder inside for one more run.
    with tempfile.TemporaryDirectory() as aside:
        with SummaryWriter(aside, filename_suffix=_SUFFIX) as writer:
            _add_scores(writer, content)
            for scan in notable_scans(content):
                writer.add_image(f"panels/{scan.kind}", scan.picture, 0, dataformats="HWC")
                text = (
                    f"{printable(scan.case)}: foreground {LEAD.heading} {scan.score:.4f} (image, reference, prediction)"
                )
                writer.add_text(f"panels/{scan.kind}", text, 0)
                if scan.kind == "worst" and scan.voxels.reference.ndim == 3:
                    _add_surfaces(writer, scan)
        _replace_events(run / "tensorboard", Path(aside))


def _add_scores(writer: SummaryWriter, run: RunFolder) -> None:
    """Final scores and curves, and the row in the table of hyper-parameters."""
    scores = final_scores(run.summary)
    for tag, value in scores.items():
        writer.add_scalar(tag, value, 0)
    file = run.path / "precision_recall.csv"
    for name, curve in read_curves(file).items() if file.exists() else ():
        writer.add_pr_curve_raw(f"precision_recall_final/{printable(name)}", *curve, 0)  # type: ignore[call-arg]
    # The first of the three says which columns the table has. TensorBoard would take it from one run alone and hide
    # what only other runs have; without it, the columns are gathered from all runs.
    _, start, end = hparams(hyperparameters(run.config, run.provenance), scores)
    for summary in (start, end):
        writer.file_writer.add_summary(summary)  # type: ignore[attr-defined]


def _add_surfaces(writer: SummaryWriter, scan: NotableScan) -> None:
    """The surfaces of a scan as one mesh, lit from the front and from behind."""
    voxels = scan.voxels
    surfaces = side_by_side(voxels.reference, voxels.prediction, voxels.n_classes, voxels.grid.spacing)
    if surfaces is None:
        return
    vertices, colours, faces = (part[None] for part in (surfaces.vertices, surfaces.colours, surfaces.faces))
    writer.add_mesh(f"surfaces/{scan.kind}", vertices, colours, faces, config_dict=_SCENE, global_step=0)


def _replace_events(folder: Path, written: Path) -> None:
    """Put the one event file just written in the place of what an earlier call wrote."""
    folder.mkdir(exist_ok=True)
    earlier = set(folder.glob(f"*{_SUFFIX}"))
    (events,) = written.iterdir()
    part = folder / ".part"  # on the disk of the run, so that the renaming is atomic
    shutil.copyfile(events, part)
    part.replace(folder / events.name)
    for old in earlier - {folder / events.name}:
        old.unlink()


def final_scores(summary: Mapping[str, Any]) -> dict[str, float]:
    """The means of a summary under the tags that TensorBoard shows them by.

    Args:
        summary: Content of ``summary.json``.

    Returns:
        ``Final/foreground_METRIC`` and ``Final/label/NAME_METRIC`` of every label; those that are not defined are left
        out. Of all scalars of a run these come first in the alphabet, so the table of runs shows them without asking.
    """
    groups = [("foreground", summary["foreground"]), *((f"label/{n}", m) for n, m in summary["labels"].items())]
    return {
        f"Final/{name}_{metric}": float(statistics["mean"])
        for name, metrics in groups
        for metric, statistics in metrics.items()
        if statistics["mean"] is not None
    }


def hyperparameters(config: Mapping[str, Any], provenance: Mapping[str, Any]) -> dict[str, str | int | float]:
    """Make a run into one row of a table whose columns are what a researcher varies.

    Args:
        config: Content of ``config.yaml``.
        provenance: Content of ``provenance.json``; its ``choices`` (group to name) and ``overrides`` (of the command
            line) are used.

    Returns:
        The group choices under the names of the groups (``network: unet_small``), the values at the top (``fold``,
        ``seed``) and those right within a group (``optimizer.lr``). What lies deeper is what the choice stands for: it
        reads ``preset`` unless the command line overrode it, so that two networks differ in one column, not in fifty.
        Seeds of parts that are the run's are left out. Where no choices are recorded, everything as `flatten` gives it.
    """
    row = flatten(config)
    row |= {key: str(row[key]) for key in ("fold", "seed") if key in row}  # names, not amounts
    row = {key: value for key, value in row.items() if not (key.endswith(".seed") and str(value) == row.get("seed"))}
    choices, overrides = provenance.get("choices"), provenance.get("overrides")
    if not isinstance(choices, Mapping) or not choices:
        return row
    words = overrides if isinstance(overrides, list) else []
    given = {str(word).lstrip("+~").partition("=")[0] for word in words} - choices.keys()
    told: dict[str, str | int | float] = {printable(group): printable(name) for group, name in choices.items()}
    for key, value in row.items():
        group, *within = key.split(".")
        overridden = any(f"{key}.".startswith(f"{name}.") for name in given)
        if overridden or key in _SHOWN_OF_THE_PLAN or (len(within) < 2 and group not in _UNSHOWN):
            told.setdefault(key, value)
        elif group in choices and group not in _UNSHOWN:
            told[key] = "preset"
    return {key: value for key, value in told.items() if not key.endswith(("_target_", "_partial_"))}
