"""The folds of a study's run that were trained."""

from __future__ import annotations

from pathlib import Path

from segment.errors import UserError
from segment.runs.folder import RunFolder, is_complete, read_run
from segment.runs.health import divergence


def sound_folds(folder: Path) -> dict[int, Path]:
    """The folders of the finished folds of a run by number.

    Raises:
        UserError: When the training of one of them diverged: its scores are no result.
    """
    found = {int(path.name[4:]): path for path in folder.glob("fold*") if path.name[4:].isdigit() and is_complete(path)}
    for path in found.values():
        state = divergence(path)
        if state is not None:
            where = "" if state.step is None else f" from step {state.step}"
            raise UserError(
                f"{path}: this fold diverged ({state.cause}{where}), so its scores are no result. Delete the folder to "
                "train the fold anew; where it diverges again, lower optimizer.lr for all folds, with another output=."
            )
    return {fold: found[fold] for fold in sorted(found)}


def finished_folds(folder: Path) -> dict[int, RunFolder]:
    """The finished folds of a run by number; see `sound_folds`."""
    return {fold: read_run(path) for fold, path in sound_folds(folder).items()}
