"""TensorBoard output of a finished run: final scores and curves, pictures, surfaces, hyperparameters."""

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
from segment.runs.curves import board_tag
from segment.runs.folder import RunFolder, read_run
from segment.runs.precision_recall import read_curves
from segment.text import printable
from segment.visual.surfaces import side_by_side

_SUFFIX = ".report"
_SHOWN_PLAN_KEYS = ("planned.spacing", "planned.patch_size", "planned.batch_size")
_HIDDEN_GROUPS = ("planned", "callbacks", "logger", "metrics")  # except for the keys above and overrides
_SCENE = {
    "camera": {"cls": "PerspectiveCamera", "fov": 20, "near": 0.1, "far": 1000},  # a wide angle would clip near objects
    "lights": [
        {"cls": "AmbientLight", "color": "#ffffff", "intensity": 1.1},
        {"cls": "DirectionalLight", "color": "#ffffff", "intensity": 0.5, "position": [-1, 1, 2]},
        {"cls": "DirectionalLight", "color": "#ffffff", "intensity": 0.4, "position": [1, -1, -2]},
    ],
}


def write_board(run: Path) -> None:
    """Write the results of a finished run for TensorBoard, next to the curves from training.

    Writes into ``tensorboard/``: the scalars of `final_points` at the last step; the curves
    ``precision_recall_final/NAME``; the pictures ``panels/worst`` and ``panels/median`` with a text that names the
    scan; the surfaces of the worst scan if it is 3D; `hyperparameters`. The output of an earlier call is replaced.
    Scans with missing source files have no picture and no surface; runs without ``precision_recall.csv`` have no curve.

    Args:
        run: A run folder: ``config.yaml``, ``scans.csv``, ``summary.json``, ``provenance.json``, ``predictions/``.

    Raises:
        UserError: One of the first three is missing or damaged, or ``precision_recall.csv`` is damaged.
    """
    content = read_run(run)
    # Written outside the run folder: TensorBoard may be watching it and would show a subfolder as another run.
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
    """Add final scores, curves and hyperparameters."""
    steps = run.provenance.get("steps")
    scores = final_points(run.summary)
    for tag, value in scores.items():
        writer.add_scalar(tag, value, steps if isinstance(steps, int) else 0)
    file = run.path / "precision_recall.csv"
    for name, curve in read_curves(file).items() if file.exists() else ():
        writer.add_pr_curve_raw(f"precision_recall_final/{printable(name)}", *curve, 0)  # type: ignore[call-arg]
    # The first of the three defines the table columns. TensorBoard would take it from a single run and hide columns
    # of other runs; without it, the columns are collected from all runs.
    _, start, end = hparams(_row(run, scores), scores)
    for summary in (start, end):
        writer.file_writer.add_summary(summary)  # type: ignore[attr-defined]


def _row(run: RunFolder, scores: Mapping[str, float]) -> dict[str, str | int | float]:
    """The hyperparameters, after the foreground Dice: TensorBoard puts all metrics to the right of all settings."""
    lead = {LEAD.title: round(scores[LEAD.title], 4)} if LEAD.title in scores else {}
    return lead | hyperparameters(run.config, run.provenance)


def _add_surfaces(writer: SummaryWriter, scan: NotableScan) -> None:
    """Add the surfaces of a scan as one mesh, lit from the front and from behind."""
    voxels = scan.voxels
    surfaces = side_by_side(voxels.reference, voxels.prediction, voxels.n_classes, voxels.grid.spacing)
    if surfaces is None:
        return
    vertices, colours, faces = (part[None] for part in (surfaces.vertices, surfaces.colours, surfaces.faces))
    writer.add_mesh(f"surfaces/{scan.kind}", vertices, colours, faces, config_dict=_SCENE, global_step=0)


def _replace_events(folder: Path, written: Path) -> None:
    """Replace the event files of earlier calls by the one just written."""
    folder.mkdir(exist_ok=True)
    earlier = set(folder.glob(f"*{_SUFFIX}"))
    (events,) = written.iterdir()
    part = folder / ".part"  # on the same file system as the run, so that renaming is atomic
    shutil.copyfile(events, part)
    part.replace(folder / events.name)
    for old in earlier - {folder / events.name}:
        old.unlink()


def final_scores(summary: Mapping[str, Any]) -> dict[str, float]:
    """The means of a summary by name, for other loggers than TensorBoard's.

    Args:
        summary: Content of ``summary.json``.

    Returns:
        ``Final/foreground_METRIC`` and ``Final/label/NAME_METRIC`` of every label; undefined means are left out.
    """
    groups = [("foreground", summary["foreground"]), *((f"label/{n}", m) for n, m in summary["labels"].items())]
    return {
        f"Final/{name}_{metric}": float(statistics["mean"])
        for name, metrics in groups
        for metric, statistics in metrics.items()
        if statistics["mean"] is not None
    }


def final_points(summary: Mapping[str, Any]) -> dict[str, float]:
    """The means of a summary by TensorBoard tag, each the last point of its validation curve.

    Args:
        summary: Content of ``summary.json``.

    Returns:
        Tags of `segment.runs.curves.board_tag`; undefined means are left out.
    """
    groups = [("foreground", summary["foreground"]), *summary["labels"].items()]
    return {
        board_tag(f"val/{name}_{metric}"): float(statistics["mean"])
        for name, metrics in groups
        for metric, statistics in metrics.items()
        if statistics["mean"] is not None
    }


def hyperparameters(config: Mapping[str, Any], provenance: Mapping[str, Any]) -> dict[str, str | int | float]:
    """Describe a run as one row of a table whose columns are the settings that researchers vary.

    Args:
        config: Content of ``config.yaml``.
        provenance: Content of ``provenance.json``; its ``choices`` (group to name) and ``overrides`` (of the command
            line) are used.

    Returns:
        The group choices under the names of the groups (``network: unet_small``), the top-level values (``fold``,
        ``seed``) and the values directly within a group (``optimizer.lr``). Deeper values follow from the choice and
        read ``preset`` unless overridden, so that two networks differ in one column, not in fifty. Seeds that equal the
        seed of the run are left out. If no choices are recorded, the row is that of `flatten`.
    """
    row = flatten(config)
    row |= {key: str(row[key]) for key in ("fold", "seed") if key in row}  # names, not amounts
    row = {key: value for key, value in row.items() if not (key.endswith(".seed") and str(value) == row.get("seed"))}
    choices, overrides = provenance.get("choices"), provenance.get("overrides")
    if not isinstance(choices, Mapping) or not choices:
        return row
    words = overrides if isinstance(overrides, list) else []
    overridden_keys = {str(word).lstrip("+~").partition("=")[0] for word in words} - choices.keys()
    columns: dict[str, str | int | float] = {printable(group): printable(name) for group, name in choices.items()}
    for key, value in row.items():
        group, *within = key.split(".")
        overridden = any(f"{key}.".startswith(f"{name}.") for name in overridden_keys)
        if overridden or key in _SHOWN_PLAN_KEYS or (len(within) < 2 and group not in _HIDDEN_GROUPS):
            columns.setdefault(key, value)
        elif group in choices and group not in _HIDDEN_GROUPS:
            columns[key] = "preset"
    return {key: value for key, value in columns.items() if not key.endswith(("_target_", "_partial_"))}
