"""The model folder: weights.safetensors and model.json, plain data that can be loaded without running code."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segment.data.labels import Labels
from segment.errors import UserError
from segment.files import read_mapping
from segment.inference.architecture import load_network
from segment.inference.conformal import Missed
from segment.inference.description import (
    IN_TORCH,
    MAX_JSON_BYTES,
    PREVIOUS,
    Description,
    Pruned,
    check_description,
    check_format,
    write_model,
)
from segment.inference.exported import FILES, Export, convert, read_engine
from segment.inference.limits import find_model
from segment.inference.nnunet.checkpoint import read_fold
from segment.inference.nnunet_folders import FINAL, PLANS, is_fold
from segment.inference.postprocessing import Step, check_steps
from segment.inference.precision import written_precision
from segment.inference.prediction import Prediction
from segment.inference.predictor import FindBox, Predictor, Previous, context_of
from segment.inference.settings import Settings, decide_settings, together, with_previous, with_steps
from segment.inference.several import SeveralPlans
from segment.inference.speed import fastest
from segment.inference.windows import SlidingWindows
from segment.io.images import read_image
from segment.io.memory import files_of, image_of
from segment.memory import require_memory
from segment.networks.padding import laid_out
from segment.preprocessing.cascade import network_channels
from segment.preprocessing.plan import Plan
from segment.validation import read_as

FIX = "Copy the model folder again."


@dataclass(frozen=True)
class Model:
    """A network with everything needed to predict scans: the contents of a model folder.

    Attributes:
        network: The network with its weights: maps (n, channel, *patch) to logits (n, output, *patch).
        plan: How its scans are prepared.
        labels: Meaning of the values in masks.
        channels: Channel names in order.
        inference: Arguments of the windows it was scored with, as plain data.
        dataset: Name of the data set it was trained on.
        precision: Lightning's name for the precision it was scored in; None if unknown.
        folder: The model folder; None for a network that was not loaded.
        weights: The file of the weights, if it is not the model folder's.
        members: The models of an ensemble, whose networks ``network`` lists; empty otherwise.
        groups: If their plans differ, the ensemble of each plan.
        export: How the network was exported; None for one in torch.
        postprocessing: Steps that its masks were scored after.
        codes: Codes of structures for DICOM, see `segment.data.case.Dataset`.
        conformal: What conformal masks of each structure miss of the validation scans; empty if not calibrated.
        pruned: How the network was pruned; None if it was not.
        previous: The first stage, if this is the second of a cascade.
        engines: Networks made of it for other engines, by engine and precision.
    """

    network: nn.Module
    plan: Plan
    labels: Labels
    channels: tuple[str, ...]
    inference: Mapping[str, Any] = field(default_factory=dict)
    dataset: str = ""
    precision: str | None = None
    folder: Path | None = None
    weights: Path | None = None
    members: tuple[Model, ...] = ()
    groups: tuple[Model, ...] = ()
    export: Export | None = None
    postprocessing: tuple[Step, ...] = ()
    codes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    conformal: Mapping[str, Missed] = field(default_factory=dict)
    pruned: Pruned | None = None
    previous: Model | None = None
    engines: dict[tuple[str, str], nn.Module] = field(default_factory=dict, repr=False, compare=False)

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of the network's input (1, channel, *window) and of its logits (1, output, *window)."""
        window = tuple(self.plan.patch_size)
        return (1, network_channels(self.plan, self.labels), *window), (1, self.labels.outputs, *window)

    def settings(
        self,
        inference: Mapping[str, Any] | None = None,
        precision: str | None = None,
        accelerator: str = "auto",
        postprocessing: bool = True,
    ) -> Settings:
        """The prediction settings: those of its scores, except where given; see `decide_settings`.

        Batch size and layout of windows that are ``auto`` are measured.
        """
        steps = self.postprocessing if postprocessing else ()
        if self.groups:
            parts = {str(one.folder): one.settings(inference, precision, accelerator) for one in self.groups}
            return together(parts, self.postprocessing, steps)
        self._require_window_memory(accelerator)
        settings = decide_settings(
            self.inference, self.precision, inference, precision, accelerator, self._fastest, self.export
        )
        settings = with_steps(settings, self.postprocessing, steps)
        if self.previous is None:
            return settings
        first = {key: value for key, value in (inference or {}).items() if key != "engine"}
        return with_previous(settings, self.previous.settings(first, precision, accelerator))

    def _require_window_memory(self, accelerator: str) -> None:
        """Refuse a window whose channels, first features and outputs alone exceed the memory; the file is untrusted."""
        if accelerator != "cpu" and torch.cuda.is_available():
            return
        widest = 2 * max(self.plan.features[:1], default=0)
        numbers = math.prod(self.plan.patch_size) * (self.shapes[0][1] + widest + self.labels.outputs)
        size = " x ".join(map(str, self.plan.patch_size))
        require_memory(
            4 * numbers,
            f"{self.folder or 'the model'}: its window of {size} voxels",
            "Use another model, or a machine with more memory.",
        )

    def _fastest(self, windows: SlidingWindows, device: torch.device, precision: str) -> SlidingWindows:
        shape = self.shapes[0][1:]
        return fastest(windows, self.network.to(device), shape, device, context_of(precision, device))

    def predict(
        self,
        scan: Any,
        affine: Any = None,
        *,
        probabilities: bool = False,
        inference: Mapping[str, Any] | None = None,
        precision: str | None = None,
        accelerator: str = "auto",
        postprocessing: bool = True,
    ) -> Prediction:
        """Predict one scan, by default with the settings of the model's scores; warns about differences.

        Args:
            scan: An image file, or one per channel; a nibabel image; or an array of numbers ``(x, y)``, ``(x, y, z)``
                or ``(x, y, z, channel)``.
            affine: With an array: ``(4, 4)``, from voxel index ``(x, y, z, 1)`` to RAS+ millimetres.
            probabilities: Whether to return them too; each label takes four times the memory of the mask.
            inference: Arguments of `SlidingWindows` that replace those it was scored with, such as ``{"mirror": []}``;
                and ``engine``: ``torch``, ``compile``, ``openvino`` or ``onnxruntime``.
            precision: ``32-true``, ``bf16-mixed``, ``16-mixed``, or ``auto``, the fastest on this machine; None: as
                scored, if this machine computes it fast.
            accelerator: ``cpu``, ``gpu``, or ``auto`` for a GPU if available.
            postprocessing: Whether to apply the model's post-processing to the mask.

        Returns:
            The mask and, if requested, the probabilities, on the scan's grid, axes x, y, z.

        Raises:
            UserError: When the scan cannot be read, its channels or axes differ from the model's, or a setting is
                out of range.
        """
        settings = self.settings(inference, precision, accelerator, postprocessing)
        for note in settings.notes:
            warnings.warn(note, stacklevel=2)
        files = files_of(scan) if affine is None else []
        image, name = (read_image(files), str(files[0])) if files else (image_of(scan, affine), "the scan")
        predictor = predictor_of_plan(self, settings)
        prepared, placement = predictor.prepare(image, name)
        del image  # a whole scan
        try:
            predicted = predictor.scores(prepared, placement) if probabilities else None
            mask = predictor.mask(prepared, placement) if predicted is None else predictor.classes(predicted, placement)
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
        names = list(self.labels.regions or self.labels)
        return Prediction(
            mask=self.labels.decode(mask).T,
            affine=placement.grid.affine,
            labels=self.labels.declared,
            probabilities=None
            if predicted is None
            else dict(zip(names, (p.T for p in predictor.on_source(predicted, placement)), strict=True)),
            notes=settings.notes,
            like=files[0] if files else placement.grid,
        )


def save_model(
    folder: Path,
    network: nn.Module,
    architecture: Mapping[str, Any],
    plan: Plan,
    labels: Labels,
    channels: Sequence[str],
    inference: Mapping[str, Any],
    dataset: str,
    precision: str = "32-true",
    codes: Mapping[str, Mapping[str, Any]] | None = None,
    pruned: Pruned | None = None,
) -> None:
    """Write a model folder.

    Args:
        folder: Created if missing.
        network: Source of the weights.
        architecture: Plain ``_target_`` description of the network (nested ones too) with all its arguments.
        plan: How scans are prepared.
        labels: Meaning of the values in masks.
        channels: Channel names in order.
        inference: Arguments of the windows it is scored with, as plain data.
        dataset: Name of the data set.
        precision: Lightning's name for the precision it is scored in.
        codes: Codes of structures for DICOM.
        pruned: How the network was pruned, if it was.
    """
    description = Description(
        format=IN_TORCH,
        dataset=dataset,
        network=dict(architecture),
        plan=plan,
        labels=labels.declared,
        channels=tuple(channels),
        inference=dict(inference),
        region_order=labels.region_order or None,
        precision=precision,
        codes={name: dict(code) for name, code in (codes or {}).items()},
        pruned=pruned,
    )
    write_model(folder, network, description)


def load_model(folder: Path, trust: Sequence[str] = (), first: bool = False) -> Model:
    """Build the network a model folder describes and load its weights; runs no code from the files.

    Args:
        folder: A run folder, a model folder, or a fold in a results folder of nnU-Net.
        trust: Additional modules whose networks may be built, e.g. your own.
        first: Whether it must be the first stage of a cascade.

    Raises:
        UserError: When a file is missing, damaged or from a newer version, the network is not from a trusted module, or
            the weights do not fit it or are not finite.
    """
    folder = find_model(folder)
    if is_fold(folder):
        described, own = read_fold(folder)
        return replace(_described(folder, folder.parent / PLANS, described, trust), network=own, weights=folder / FINAL)
    path = folder / "model.json"
    content = read_mapping(path, FIX, MAX_JSON_BYTES)
    check_format(path, content.get("format"))
    described = read_as(Description, content, path, unknown_keys=True, fix=FIX)
    if first and described.plan.previous_stage:
        raise UserError(f"{path}: is the second stage of a cascade in place of the first. {FIX}")
    model = _described(folder, path, described, trust)
    if model.export:
        network: nn.Module = read_engine(folder, model.export, *model.shapes)
        return replace(model, network=network, weights=folder / FILES[model.export.format][-1])
    return replace(model, network=load_network(folder / "weights.safetensors", path, described.network, tuple(trust)))


def _described(folder: Path, path: Path, described: Description, trust: Sequence[str]) -> Model:
    """The model of a description, without its network.

    Raises:
        UserError: When the description is damaged; names the file it is from.
    """
    try:
        labels = Labels(described.labels, described.region_order)
        check_description(described, labels)
        check_steps(described.postprocessing, labels)
    except ValueError as error:
        raise UserError(f"{path}: {str(error).rstrip('.')}. {FIX}") from error
    return Model(
        network=nn.Identity(),
        plan=described.plan,
        labels=labels,
        channels=described.channels,
        inference=described.inference,
        dataset=described.dataset,
        precision=described.precision or written_precision(folder),
        folder=folder,
        export=described.export,
        postprocessing=described.postprocessing,
        codes=described.codes,
        conformal=described.conformal,
        pruned=described.pruned,
        previous=_load_previous(folder, labels, described, trust) if described.plan.previous_stage else None,
    )


def _load_previous(folder: Path, labels: Labels, described: Description, trust: Sequence[str]) -> Model:
    """The first stage of a cascade, from the folder of the second."""
    if not (folder / PREVIOUS / "model.json").is_file():
        raise UserError(
            f"{folder}: the model is the second stage of a cascade, but {PREVIOUS}/, the first stage, is missing. Copy "
            "the whole model folder again."
        )
    model = load_model(folder / PREVIOUS, trust, first=True)
    if (model.labels.declared, model.channels) != (labels.declared, described.channels):
        raise UserError(f"{folder / PREVIOUS}: has other labels or channels than the second stage beside it.")
    return model


def predictor_with(model: Model, settings: Settings, region: FindBox | None = None) -> Predictor | SeveralPlans:
    """The predictor of a model, or of an ensemble of one or several plans.

    Args:
        model: From `segment.inference.model.load_model` or `segment.inference.ensemble.ensemble`.
        settings: From its `segment.inference.model.Model.settings`.
        region: Finds the part of a scan that is predicted; None: all of it.
    """
    pairs = zip(model.groups or (model,), settings.parts or (settings,), strict=True)
    predictors = [predictor_of_plan(one, part, region) for one, part in pairs]
    if len(predictors) == 1:
        return predictors[0]
    return SeveralPlans(predictors, [max(1, len(one.members)) for one in model.groups])


def predictor_of_plan(model: Model, settings: Settings, region: FindBox | None = None) -> Predictor:
    """The predictor of a model, or of an ensemble of one plan, as `predictor_with`."""
    return predictor_of(
        model,
        settings.windows,
        settings.device,
        settings.precision,
        settings.engine,
        settings.steps,
        first_stage(model, settings),
        region,
    )


def first_stage(model: Model, settings: Settings) -> Previous | None:
    """The first stage of a cascade, whose masks the second one needs; None for other models.

    Args:
        model: The model.
        settings: From its `segment.inference.model.Model.settings`.
    """
    if model.previous is None or settings.previous is None:
        return None
    return predictor_with(model.previous, settings.previous).predict_image


def predictor_of(
    model: Model,
    windows: SlidingWindows,
    device: torch.device,
    precision: str,
    engine: str | None = None,
    steps: Sequence[Step] = (),
    previous: Previous | None = None,
    region: FindBox | None = None,
) -> Predictor:
    """Create a predictor from a loaded model.

    Args:
        model: From :func:`segment.inference.model.load_model`.
        windows: How a scan is divided into windows.
        device: Where the network runs.
        precision: Lightning's name: ``bf16-mixed`` and ``16-mixed`` run under autocast, anything else without.
        engine: What computes the network; None: torch, or the engine of an export.
        steps: Post-processing of the masks.
        previous: The first stage, if the model is the second of a cascade.
        region: Finds the part of a scan that is predicted; None: all of it.
    """
    network = laid_out(_network(model, engine, precision), len(model.plan.spacing), windows.used_layout).to(device)
    return Predictor(network, model.plan, windows, model.labels, context_of(precision, device), steps, previous, region)


def _network(model: Model, engine: str | None, precision: str) -> nn.Module:
    """The network of a model for an engine, converted once."""
    own = model.export.engine if model.export else "torch"
    if engine in (None, own):
        return model.network
    if model.members:
        return type(model.network)(_network(member, engine, precision) for member in model.members)
    key = (str(engine), precision)
    if key not in model.engines and model.export and model.folder:
        model.engines[key] = read_engine(model.folder, model.export, *model.shapes, engine)
    elif key not in model.engines:
        model.engines[key] = convert(model.network, *key, *model.shapes)
    return model.engines[key]
