"""Which precision a scan is predicted in: the one that its model was scored in, where this machine computes it fast."""

from __future__ import annotations

from pathlib import Path

from segment.errors import UserError, did_you_mean
from segment.files import read_mapping
from segment.instruction_set import precision

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")  # that a scan can be predicted in, by Lightning's names


def scoring_precision(trained: str) -> str:
    """The precision that scans are predicted in after a training in this one: mixed ones stay, all others are fp32."""
    return trained if trained in PRECISIONS else "32-true"


def written_precision(model: Path) -> str | None:
    """The precision of the run that a model folder lies in, for models whose model.json does not say it."""
    config = model.parent / "config.yaml"
    trainer = read_mapping(config).get("trainer") if config.is_file() else None
    found = trainer.get("precision") if isinstance(trainer, dict) else None
    return found if found in PRECISIONS else None


def precision_for(scored: str | None, wanted: str | None, accelerator: str) -> tuple[str, str]:
    """The precision to predict in: what is wanted, else that of the scores where this machine has it.

    Args:
        scored: What the model was scored in; None where nothing says it.
        wanted: Lightning's name, or auto; None: as the model was scored.
        accelerator: Lightning's name of the device.

    Returns:
        Lightning's name, and why it is another than that of the scores.

    Raises:
        UserError: When there is no such precision.
    """
    if wanted is not None:
        if wanted not in ("auto", *PRECISIONS):
            raise UserError(
                f"precision={wanted}: there is no such precision.{did_you_mean(str(wanted), PRECISIONS)} There are: "
                f"{', '.join(PRECISIONS)}, auto (the fastest here) and null (as the model was scored)."
            )
        return precision(wanted, accelerator), "as asked"
    fastest = precision("auto", accelerator)
    slow = {"bf16-mixed": fastest != "bf16-mixed", "16-mixed": accelerator == "cpu"}
    if scored is None:
        return "32-true", "since the model does not say what it was scored in"
    if slow.get(scored):
        return "32-true", f"since this machine computes {scored} slowly or not at all; precision={scored} insists"
    return scored, ""
