"""Checkpoints that are written atomically and loaded as plain data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from segment.errors import UserError
from segment.files import written_whole
from segment.inference.model import Model
from segment.inference.plain import load_plain, require_stored
from segment.networks.weights import not_finite
from segment.text import one_line


class WholeFileCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint to a temporary file and renames it, so that a kill at any time leaves the previous one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write ``checkpoint`` to ``path``."""
        with written_whole(Path(path)) as temporary:
            torch.save(checkpoint, temporary)


def network_weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The network's weights in a checkpoint; the averaged ones if weights were averaged; of mean teacher, the teacher.

    Args:
        checkpoint: A file written by the trainer; read as plain data, so that no code in it can run.

    Raises:
        UserError: When the file is damaged, is not plain data, or its weights are not finite.
    """
    return _read(checkpoint)[0]


def best_model(model: Model) -> tuple[Model, str]:
    """The model of a run with the weights of its best validation in place of its last ones.

    Args:
        model: From `segment.inference.model.load_model`; its folder lies in a run folder.

    Returns:
        The model, and a description of the weights.

    Raises:
        UserError: When the run has no ``checkpoints/best.ckpt``, it is damaged, or does not fit.
    """
    assert model.folder is not None
    if model.export:
        raise UserError(
            "checkpoint=best: the model is an export, which has one set of weights. Export the run again with "
            "checkpoint=best."
        )
    file = model.folder.absolute().parent / "checkpoints" / "best.ckpt"
    if not file.is_file():
        raise UserError(
            f"checkpoint=best: {file} does not exist. Give model= the folder of a run, which has it unless "
            "callbacks.best was removed; a model folder that was handed over has the last weights only."
        )
    weights, step = _read(file)
    try:
        model.network.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{file}: does not fit the model ({one_line(error)[:200]}). Is it from another run?") from error
    return replace(model, weights=file), f"checkpoints/best.ckpt, step {step}"


def _read(checkpoint: Path) -> tuple[dict[str, torch.Tensor], int]:
    """The network's weights in a checkpoint, and its step."""
    try:
        content = load_plain(checkpoint)
        state, step = content["state_dict"], int(content.get("global_step", 0))
        require_stored(state.values(), checkpoint)
    except Exception as error:  # readers of invalid files may raise anything
        reason = one_line(error)[:200]
        raise UserError(
            f"{checkpoint}: is not a checkpoint of segment ({reason}). Delete it to start again."
        ) from error
    # The teacher of mean teacher is the model, see `segment.training.modules.mean_teacher`.
    prefix = "teacher." if any(key.startswith("teacher.") for key in state) else "network."
    weights = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    if name := not_finite(weights):
        raise UserError(
            f"{checkpoint}: its weights are not finite ({name}), so the training diverged. Delete the run and train "
            "again with a smaller optimizer.lr or trainer.precision=32-true."
        )
    return weights, step


def place_between_steps(loops: dict[str, Any], steps_per_epoch: int) -> None:
    """Make a resumed training continue exactly at the batch where it stopped.

    Lightning 2.6 writes the end-of-epoch checkpoint before it counts the epoch as completed, so that a resumed training
    first runs an epoch of one batch. With accumulated gradients that is a step of too few batches.

    Args:
        loops: ``checkpoint["loops"]["fit_loop"]``; changed in place.
        steps_per_epoch: Batches per epoch.
    """
    batches = loops["epoch_loop.batch_progress"]
    epochs, part = divmod(batches["total"]["completed"], steps_per_epoch)
    batches["current"] = dict.fromkeys(batches["current"], part)
    batches["is_last_batch"] = False
    for progress in loops["epoch_progress"].values():
        begun = epochs + (part > 0)
        progress |= {"ready": begun, "started": begun, "processed": epochs, "completed": epochs}
