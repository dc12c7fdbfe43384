"""Several models as one: the mean of their outputs, in one pass over every scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from segment.errors import UserError
from segment.inference.model import Model
from segment.inference.postprocessing import Step

PREPARATION = ("spacing", "patch_size", "normalization", "transpose", "intensities")  # of a plan


class Members(nn.ModuleList):
    """The networks of an ensemble."""

    def forward(self, windows: Tensor) -> Tensor:
        """The logits of the first, which stands for all where time is measured."""
        logits: Tensor = self[0](windows)
        return logits


def ensemble(models: Sequence[Model], steps: tuple[Step, ...] | None = None) -> tuple[Model, tuple[str, ...]]:
    """One model that predicts the mean of several.

    Args:
        models: From `segment.inference.model.load_model`, at least one. Windows and precision are those of the first.
        steps: Post-processing that was decided for them together; None: their own, if they agree.

    Returns:
        The model; its network is a list of theirs. And a note for every other model that was scored differently.

    Raises:
        UserError: When they differ in labels, channels, or how a scan is prepared.
    """
    first = models[0]
    notes = []
    for other in models[1:]:
        for name, ours, theirs in (
            ("labels", first.labels.declared, other.labels.declared),
            ("region_order", first.labels.region_order, other.labels.region_order),
            ("channels", first.channels, other.channels),
            *((f"plan.{key}", getattr(first.plan, key), getattr(other.plan, key)) for key in PREPARATION),
        ):
            if ours != theirs:
                raise UserError(
                    f"model: {other.folder} and {first.folder} cannot be averaged: {name} is {theirs} and {ours}. "
                    "Predict with models of the same data set and plan."
                )
        ours, theirs = (_scored(model) for model in (first, other))
        changed = [key for key in ours if ours[key] != theirs[key]]
        if changed:
            notes.append(f"{other.folder} was scored with other {', '.join(changed)} than {first.folder}, used here.")
    if len(models) == 1:
        return first, ()
    if steps is None:
        steps = first.postprocessing
        if any(other.postprocessing != steps for other in models):
            steps = ()
            notes.append("postprocessing differs between the models, so none is applied to their mean.")
    network = Members(model.network for model in models)
    return replace(first, network=network, members=tuple(models), postprocessing=steps), tuple(notes)


def _scored(model: Model) -> dict[str, object]:
    """What changes a model's output: its windows, except for their batch and layout, and its precision."""
    windows = model.settings(accelerator="cpu").scored
    return {key: value for key, value in windows.items() if key not in ("batch_size", "layout", "postprocessing")}
