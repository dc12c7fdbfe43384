"""Several models as one: the mean of their outputs, in one pass over every scan for each plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from segment.errors import UserError
from segment.inference.model import Model
from segment.inference.postprocessing import Step

PREPARATION = (
    *("spacing", "patch_size", "normalization", "transpose", "intensities", "previous_stage", "orientation"),
)  # of a plan


class Members(nn.ModuleList):
    """The networks of an ensemble."""

    def forward(self, windows: Tensor) -> Tensor:
        """The logits of the first, which stands for all where time is measured."""
        logits: Tensor = self[0](windows)
        return logits


def ensemble(models: Sequence[Model], steps: tuple[Step, ...] | None = None) -> tuple[Model, tuple[str, ...]]:
    """One model that predicts the mean of several.

    Models of one plan share the prepared scan and its windows; the means of different plans are averaged on the scan's
    grid, every model with equal weight. Second stages of cascades share one mask, that of the ensemble of their first
    stages, as in nnU-Net.

    Args:
        models: From `segment.inference.model.load_model`, at least one. Windows and precision of a plan are those of
            its first model; a decision that needs the whole scan is that of the first of all.
        steps: Post-processing that was decided for them together; None: their own, if they agree.

    Returns:
        The model; its network is a list of theirs. And a note for every other model that was scored differently.

    Raises:
        UserError: When they differ in labels or channels.
    """
    first = models[0]
    plans: list[list[Model]] = []
    for model in models:
        _check(first, model)
        own = next((plan for plan in plans if _preparation(plan[0]) == _preparation(model)), None)
        if own is None:
            plans.append([model])
        else:
            own.append(model)
    joined, notes = [], list[str]()
    for plan in plans:
        one, differences = _one_plan(plan)
        joined.append(one)
        notes += differences
    if steps is None:
        steps = first.postprocessing
        if any(model.postprocessing != steps for model in models):
            steps = ()
            notes.append("postprocessing differs between the models, so none is applied to their mean.")
    if len(plans) > 1:
        groups = tuple(replace(one, postprocessing=()) for one in joined)
        return replace(first, members=tuple(models), groups=groups, postprocessing=steps), tuple(notes)
    return replace(joined[0], postprocessing=steps), tuple(notes)


def _check(first: Model, other: Model) -> None:
    """Raise for a model whose outputs mean something else."""
    for name, ours, theirs in (
        ("labels", first.labels.declared, other.labels.declared),
        ("region_order", first.labels.region_order, other.labels.region_order),
        ("channels", first.channels, other.channels),
    ):
        if ours != theirs:
            raise UserError(
                f"model: {other.folder} and {first.folder} cannot be averaged: {name} is {theirs} and {ours}. "
                "Predict with models of the same data set."
            )


def _preparation(model: Model) -> list[object]:
    """What a scan's preparation and windows depend on."""
    return [getattr(model.plan, key) for key in PREPARATION]


def _one_plan(models: Sequence[Model]) -> tuple[Model, list[str]]:
    """The mean of models of one plan, and what was scored differently."""
    first, notes = models[0], list[str]()
    for other in models[1:]:
        ours, theirs = (_scored(model) for model in (first, other))
        changed = [key for key in ours if ours[key] != theirs[key]]
        if changed:
            notes.append(f"{other.folder} was scored with other {', '.join(changed)} than {first.folder}, used here.")
    if len(models) == 1:
        return first, notes
    earlier = [model.previous for model in models if model.previous]
    previous = ensemble(earlier, ())[0] if earlier else None
    members = Members(model.network for model in models)
    return replace(first, network=members, members=tuple(models), previous=previous), notes


def _scored(model: Model) -> dict[str, object]:
    """What changes a model's output: its windows, except for their batch and layout, and its precision."""
    windows = model.settings(accelerator="cpu").scored
    return {key: value for key, value in windows.items() if key not in ("batch_size", "layout", "postprocessing")}
