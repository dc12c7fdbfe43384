"""The precision of a prediction: that of the model's scores, if this machine computes it fast."""

from __future__ import annotations

from pathlib import Path

from segment.files import read_mapping
from segment.instruction_set import bf16_in_hardware, precision

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")  # for prediction, by Lightning's names


def scoring_precision(trained: str) -> str:
    """The precision of predictions after a training in this one: mixed ones are kept, all others are fp32."""
    return trained if trained in PRECISIONS else "32-true"


def written_precision(model: Path) -> str | None:
    """The precision of the run that contains a model folder, for a model.json without one."""
    config = model.parent / "config.yaml"
    trainer = read_mapping(config).get("trainer") if config.is_file() else None
    written = trainer.get("precision") if isinstance(trainer, dict) else None
    return written if written in PRECISIONS else None


def precision_for(scored: str | None, requested: str | None, accelerator: str) -> tuple[str, str]:
    """Choose the precision to predict in: the requested one, else that of the scores if this machine has it.

    Args:
        scored: Precision the model was scored in; None if unknown.
        requested: Lightning's name, or auto; None: as the model was scored.
        accelerator: Lightning's name of the device.

    Returns:
        Lightning's name, and the reason if it differs from that of the scores.
    """
    if requested is not None:
        return precision(requested, accelerator), "as requested"
    if accelerator == "cpu":
        slow = {"bf16-mixed": not bf16_in_hardware(), "16-mixed": True}
    else:
        slow = {"bf16-mixed": precision("auto", accelerator) != "bf16-mixed"}
    if scored is None:
        return "32-true", "since the precision of the scores is unknown"
    if slow.get(scored):
        return "32-true", f"since this machine computes {scored} slowly or not at all; precision={scored} forces it"
    return scored, ""
