"""The finished folds of a study's run."""

from __future__ import annotations

from pathlib import Path

from segment.errors import UserError
from segment.runs.completion import is_complete
from segment.runs.folder import RunFolder, read_run
from segment.runs.health import divergence


def valid_folds(folder: Path) -> dict[int, Path]:
    """The folders of a run's finished folds, by number.

    Raises:
        UserError: When the training of one of them diverged, so that its scores are not valid.
    """
    found = {int(path.name[4:]): path for path in folder.glob("fold*") if path.name[4:].isdigit() and is_complete(path)}
    for path in found.values():
        state = divergence(path)
        if state is not None:
            where = "" if state.step is None else f" from step {state.step}"
            raise UserError(
                f"{path}: this fold diverged ({state.cause}{where}), so its scores are not valid. Delete the folder to "
                "train the fold again; if it diverges again, lower optimizer.lr for all folds, with another output=."
            )
    return {fold: found[fold] for fold in sorted(found)}


def finished_folds(folder: Path) -> dict[int, RunFolder]:
    """A run's finished folds, by number; see `valid_folds`."""
    return {fold: read_run(path) for fold, path in valid_folds(folder).items()}
