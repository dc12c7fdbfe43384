"""Checkpoints that appear whole or not at all and load as plain data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from segment.errors import UserError
from segment.provenance import written_whole


class WholeFileCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it, so that a kill at any moment leaves the former one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write ``checkpoint`` to ``path``."""
        with written_whole(Path(path)) as aside:
            torch.save(checkpoint, aside)


def network_weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The network's weights in a checkpoint; the averaged ones when weights were averaged.

    Args:
        checkpoint: A file written by the trainer; read as plain data, so that nothing in it can run.

    Raises:
        UserError: When the file is damaged or holds anything but plain data.
    """
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    except Exception as error:  # readers of files that are not what they claim raise anything
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{checkpoint}: is no checkpoint of ours ({reason}). Delete it to train anew.") from error
    return {key.removeprefix("network."): value for key, value in state.items() if key.startswith("network.")}
