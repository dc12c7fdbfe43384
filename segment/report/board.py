"""TensorBoard's view of a finished run: final scores, pictures of two scans, a row in the table of hyper-parameters."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from segment.report.files import flatten, printable
from segment.report.folder import notable_scans, read_run

_SUFFIX = ".report"


def write_board(run: Path) -> None:
    """Write the result of a finished run for TensorBoard, beside the curves that training wrote.

    Writes into ``tensorboard/``: the scalars ``final/foreground_dice``, ``final/foreground_iou`` and
    ``final/NAME_dice``, ``final/NAME_iou`` of every label (and further metrics alike); the pictures ``panels/worst``
    and ``panels/median`` with a text that names the scan; the resolved configuration as hyper-parameters. What an
    earlier call wrote is replaced. A scan whose source files are gone gets no picture.

    Args:
        run: A run folder: ``config.yaml``, ``scans.csv``, ``summary.json``, ``provenance.json``, ``predictions/``.

    Raises:
        UserError: One of the first three is missing or damaged.
    """
    content = read_run(run)
    # Written far from the run, since TensorBoard may be watching it and would take a folder inside for one more run.
    with tempfile.TemporaryDirectory() as aside:
        with SummaryWriter(aside, filename_suffix=_SUFFIX) as writer:
            scores = final_scores(content.summary)
            for tag, value in scores.items():
                writer.add_scalar(tag, value, 0)
            for scan in notable_scans(content):
                writer.add_image(f"panels/{scan.kind}", scan.picture, 0, dataformats="HWC")
                text = f"{printable(scan.case)}: foreground Dice {scan.dice:.4f} (image, reference, prediction)"
                writer.add_text(f"panels/{scan.kind}", text, 0)
            # The first of the three says which columns the table has. TensorBoard would take it from one run alone and
            # hide what only other runs have; without it, the columns are gathered from all runs.
            _, start, end = hparams(flatten(content.config), scores)
            for summary in (start, end):
                writer.file_writer.add_summary(summary)
        _replace_events(run / "tensorboard", Path(aside))


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
        ``final/foreground_METRIC`` and ``final/NAME_METRIC`` of every label; those that are not defined are left out.
    """
    groups = [
        *summary["labels"].items(),
        ("foreground", summary["foreground"]),
    ]  # the last one wins over a label of its name
    return {
        f"final/{name}_{metric}": float(statistics["mean"])
        for name, metrics in groups
        for metric, statistics in metrics.items()
        if statistics["mean"] is not None
    }
