"""A model that is served: loaded once, with everything that its predictions have in common."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segment.errors import UserError
from segment.inference.engines.names import check_engine
from segment.inference.limits import check_accelerator, check_precision, find_model, format_of, model_folders

if TYPE_CHECKING:
    from segment.inference.model import Model
    from segment.inference.predictor import Predictor
    from segment.inference.several import SeveralPlans
    from segment.io.masks import Naming

ENCODER, QUALITY = "encoder", "quality"
"""What the log can tell besides; see `segment.serving.details`."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class How:
    """How models predict; see conf/predict.yaml.

    Attributes:
        checkpoint: ``last`` or ``best``.
        inference: Arguments of the windows that differ from those of the model's scores, and ``engine``.
        precision: Lightning's name; None: as the model was scored.
        accelerator: ``cpu``, ``gpu`` or ``auto``.
        postprocessing: Whether to apply that of the model's scores.
        trust: Modules whose networks a model file may name.
        codes: Codes of structures for DICOM.
    """

    checkpoint: str = "last"
    inference: Mapping[str, Any] = field(default_factory=dict)
    precision: str | None = None
    accelerator: str = "auto"
    postprocessing: bool = True
    trust: Sequence[str] = ()
    codes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Served:
    """A loaded model.

    Attributes:
        model: The model, or the ensemble of several.
        predictor: Predicts its scans.
        naming: Names of the structures in masks.
        notes: A sentence for each setting that differs from that of the model's scores.
    """

    model: Model
    predictor: Predictor | SeveralPlans
    naming: Naming
    notes: tuple[str, ...]

    @property
    def described(self) -> dict[str, Any]:
        """What clients are told about it: plain values."""
        model = self.model
        return {
            "dataset": model.dataset,
            "labels": model.labels.declared,
            "structures": dict(model.labels.foreground),
            "channels": list(model.channels),
            "dimensions": len(model.plan.spacing),
            "spacing": [float(size) for size in model.plan.spacing],
            "notes": list(self.notes),
        }


def named_models(text: str) -> dict[str, str]:
    """Names of the models to serve, and their folders.

    Args:
        text: A run or model folder, or several as ``[A,B]``; ``NAME=FOLDER`` gives a name of one's own, otherwise it is
            the run folder's.

    Raises:
        UserError: When there is no model in a folder, or two would have one name.
    """
    found: dict[str, str] = {}
    several = text.startswith("[") and text.endswith("]") and not Path(text).exists()
    for item in text[1:-1].split(",") if several else [text]:
        item = item.strip().strip("'\"")
        name, folder = "", item
        if not Path(item).exists() and "=" in item:
            name, folder = item.split("=", 1)
        place = Path(folder)
        if not folder or not model_folders(folder):
            raise UserError(f"model={item}: names no model. Give a run folder, or several as model=[A,B].")
        for one in model_folders(folder):
            find_model(one)
        name = name or (place.absolute().parent if place.name == "model" else place.absolute()).name
        name = name if _NAME.fullmatch(name) else re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "model"
        if name in found:
            raise UserError(
                f"model: {found[name]} and {folder} would both be served as {name}. Name one: model=[A,other=B]."
            )
        found[name] = folder
    if not found:
        raise UserError("model=[]: names no model. Give a run folder, or several as model=[A,B].")
    return found


def check_served(folder: str, how: How) -> None:
    """Check what can be checked without torch.

    Raises:
        UserError: When a value is unknown, or an engine does not fit the model.
    """
    if engine := how.inference.get("engine"):
        for one in model_folders(folder):
            check_engine(engine, format_of(find_model(one)))
    check_accelerator(how.accelerator)
    check_precision(how.precision)


def load_served(folder: str, how: How) -> Served:
    """Load a model as `segment predict` does.

    Args:
        folder: As for ``segment predict model=``.
        how: How it predicts.

    Raises:
        UserError: When it cannot be read, or a setting is out of range.
    """
    from segment import __version__
    from segment.inference.ensemble import ensemble
    from segment.inference.model import load_model, predictor_with
    from segment.inference.postprocessing import postprocessing_of
    from segment.io.dicom.codes import read_codes
    from segment.io.masks import Naming
    from segment.training.memory import keep_freed_memory

    models = [load_model(one, how.trust) for one in model_folders(folder)]
    notes: tuple[str, ...] = ()
    if how.checkpoint == "best":
        from segment.training.checkpoints import best_model

        models = [best_model(model)[0] for model in models]
        notes = ("checkpoint is best here, last for the model's scores, as requested.",)
    model, differences = ensemble(models, postprocessing_of(Path(folder), models[0].labels))
    settings = model.settings(how.inference, how.precision, how.accelerator, how.postprocessing)
    settings = replace(settings, notes=(*notes, *differences, *settings.notes))
    labels = model.labels.foreground
    codes = read_codes({**model.codes, **how.codes}, "codes", [*labels])
    if settings.device.type == "cpu":
        keep_freed_memory()
    naming = Naming(labels, codes, model.dataset, __version__)
    return Served(model, predictor_with(model, settings), naming, settings.notes)
