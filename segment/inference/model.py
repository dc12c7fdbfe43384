"""The model folder: weights.safetensors and model.json, plain data that can be loaded without running code."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import itertools
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from segment.data.labels import Labels
from segment.errors import UserError
from segment.files import read_mapping, write_json, written_whole
from segment.inference.limits import find_model
from segment.inference.precision import PRECISIONS, written_precision
from segment.inference.prediction import Prediction
from segment.inference.predictor import Predictor, context_of
from segment.inference.settings import Settings, decide_settings
from segment.inference.speed import fastest
from segment.inference.windows import SlidingWindows
from segment.io.images import read_image
from segment.io.memory import image_of
from segment.networks.meta import on_meta
from segment.networks.padding import laid_out
from segment.networks.weights import not_finite
from segment.preprocessing.plan import Plan
from segment.user_modules import allow
from segment.validation import one_of, read_as, whole

FORMAT = 1  # of model.json; larger numbers are from newer versions
TRUSTED_MODULES = ("segment.networks", "monai.networks.nets")
MAX_JSON_BYTES = 1 << 20
MAX_NUMBER = 1 << 16
MAX_PARTS = 5_000  # modules in a network; the largest in use have about 1,500


@dataclass(frozen=True)
class Description:
    """The content of a ``model.json``; what is not listed here is as in `Model`.

    Attributes:
        format: Version of the format.
        network: ``_target_`` description of the network with all its arguments.
        labels: Name of each label to its value or, for a region, its values.
        region_order: The value that each region writes into a mask; None without regions.
    """

    format: Annotated[int, whole(1, FORMAT)]
    dataset: str
    network: dict[str, Any]
    plan: Plan
    labels: dict[str, Any]
    channels: tuple[str, ...]
    inference: dict[str, Any]
    region_order: tuple[int, ...] | None = None
    precision: Annotated[str, one_of(PRECISIONS)] | None = None


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

    def settings(
        self, inference: Mapping[str, Any] | None = None, precision: str | None = None, accelerator: str = "auto"
    ) -> Settings:
        """The prediction settings: those of its scores, except where given; see `decide_settings`.

        Batch size and layout of windows that are ``auto`` are measured.
        """
        return decide_settings(self.inference, self.precision, inference, precision, accelerator, self._fastest)

    def _fastest(self, windows: SlidingWindows, device: torch.device, precision: str) -> SlidingWindows:
        shape = (len(self.channels), *self.plan.patch_size)
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
    ) -> Prediction:
        """Predict one scan, by default with the settings of the model's scores; warns about differences.

        Args:
            scan: An image file, or one per channel; a nibabel image; or an array of numbers ``(x, y)``, ``(x, y, z)``
                or ``(x, y, z, channel)``.
            affine: With an array: ``(4, 4)``, from voxel index ``(x, y, z, 1)`` to RAS+ millimetres.
            probabilities: Whether to return them too; each label takes four times the memory of the mask.
            inference: Arguments of `SlidingWindows` that replace those it was scored with, such as ``{"mirror": []}``.
            precision: ``32-true``, ``bf16-mixed``, ``16-mixed``, or ``auto``, the fastest on this machine; None: as
                scored, if this machine computes it fast.
            accelerator: ``cpu``, ``gpu``, or ``auto`` for a GPU if available.

        Returns:
            The mask and, if requested, the probabilities, on the scan's grid, axes x, y, z.

        Raises:
            UserError: When the scan cannot be read, its channels or axes differ from the model's, or a setting is
                out of range.
        """
        settings = self.settings(inference, precision, accelerator)
        for note in settings.notes:
            warnings.warn(note, stacklevel=2)
        files = _files(scan) if affine is None else []
        image, name = (read_image(files), str(files[0])) if files else (image_of(scan, affine), "the scan")
        predictor = predictor_of(self, settings.windows, settings.device, settings.precision)
        prepared, placement = predictor.prepare(image, name)
        del image  # a whole scan
        try:
            predicted = predictor.probabilities(prepared, placement) if probabilities else None
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


def _files(scan: Any) -> list[Path]:
    """The files of a scan; empty if it is not given as paths."""
    paths = [scan] if isinstance(scan, str | os.PathLike) else scan
    is_paths = isinstance(paths, list | tuple) and bool(paths) and all(isinstance(f, str | os.PathLike) for f in paths)
    return [Path(file).expanduser() for file in paths] if is_paths else []


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
    """
    state = {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}
    with written_whole(folder / "weights.safetensors") as temporary:
        save_file(state, temporary)
    description = Description(
        format=FORMAT,
        dataset=dataset,
        network=dict(architecture),
        plan=plan,
        labels=labels.declared,
        channels=tuple(channels),
        inference=dict(inference),
        region_order=labels.region_order or None,
        precision=precision,
    )
    write_json(folder / "model.json", asdict(description))


def load_model(folder: Path, trust: Sequence[str] = ()) -> Model:
    """Build the network a model folder describes and load its weights; runs no code from the files.

    Args:
        folder: A run folder or a model folder.
        trust: Additional modules whose networks may be built, e.g. your own.

    Raises:
        UserError: When a file is missing, damaged or from a newer version, the network is not from a trusted module, or
            the weights do not fit it or are not finite.
    """
    folder = find_model(folder)
    path = folder / "model.json"
    fix = "Copy the model folder again."
    content = read_mapping(path, fix, MAX_JSON_BYTES)
    _check_format(path, content.get("format"))
    described = read_as(Description, content, path, unknown_keys=True, fix=fix)
    try:
        labels = Labels(described.labels, described.region_order)
        _check(described, labels.outputs)
    except ValueError as error:
        raise UserError(f"{path}: {str(error).rstrip('.')}. {fix}") from error
    return Model(
        network=_load_network(folder / "weights.safetensors", path, described.network, tuple(trust)),
        plan=described.plan,
        labels=labels,
        channels=described.channels,
        inference=described.inference,
        dataset=described.dataset,
        precision=described.precision or written_precision(folder),
        folder=folder,
    )


def _check_format(path: Path, written: Any) -> None:
    """Raise for files from a newer version, in which the same keys may have another meaning."""
    if type(written) is int and written > FORMAT:
        raise UserError(
            f"{path}: has format {written}, but this version of segment reads formats up to {FORMAT}. Install a "
            "newer version of segment."
        )


def _check(model: Description, outputs: int) -> None:
    """Raise for a description that no training writes, before it is used to prepare a scan."""
    axes, channels = len(model.plan.spacing), len(model.channels)
    try:
        model.plan.check(channels)
    except ValueError as error:
        raise ValueError(f"plan.{error}") from error
    for key, value in {"spatial_dims": axes, "in_channels": channels, "out_channels": outputs}.items():
        if model.network.get(key, value) != value:
            raise ValueError(f"network.{key} is {model.network[key]}, but the rest of the model needs {value}")
    known = inspect.signature(SlidingWindows).parameters
    try:  # unknown keys are reported when they are used
        SlidingWindows(**{key: value for key, value in model.inference.items() if key in known}).flips(axes)
    except (UserError, TypeError) as error:
        raise ValueError(f"inference: {error}") from error


@contextlib.contextmanager
def _limited_modules() -> Iterator[None]:
    """Stop a construction that would never end."""
    count = itertools.count(1)

    def check(*_: Any) -> None:
        if next(count) > MAX_PARTS:
            raise UserError(f"a network of more than {MAX_PARTS} modules cannot be built.")

    hook = register_module_module_registration_hook(check)
    try:
        yield
    finally:
        hook.remove()


def _load_network(weights: Path, path: Path, architecture: Any, trust: tuple[str, ...]) -> nn.Module:
    try:
        # On the meta device nothing is allocated: a description that does not fit the weights costs no memory.
        with on_meta(), _limited_modules():
            shapes = {name: list(value.shape) for name, value in build(architecture, trust).state_dict().items()}
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # a constructor may raise anything on wrong arguments
        raise UserError(f"{path}: its network cannot be built ({error!r}). Copy the model folder again.") from error
    try:
        with safe_open(weights, framework="pt") as file:
            stored = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        if shapes != stored:
            wrong = next(n for n in [*shapes, *stored] if shapes.get(n) != stored.get(n))
            raise ValueError(f"tensor {wrong!r} is {stored.get(wrong)} in the file, {shapes.get(wrong)} in the network")
        state = load_file(weights)
        if name := not_finite(state):
            raise ValueError(f"tensor {name!r} has values that are not finite, as after a training that diverged")
        network = build(architecture, trust)
        network.load_state_dict(state)
    except Exception as error:  # as may readers of invalid files
        raise UserError(f"{weights}: does not fit {path.name} ({error}). Copy the model folder again.") from error
    return network.eval()


def build(architecture: Any, trust: tuple[str, ...] = ()) -> nn.Module:
    """Build a network from a plain ``_target_`` description, from trusted modules only.

    Raises:
        UserError: When a target is not from a trusted module or not a network, or an argument is out of range.
    """
    node = _resolve(architecture, TRUSTED_MODULES + trust)
    if isinstance(node, functools.partial):
        node = node()
    if not isinstance(node, nn.Module):
        raise UserError("the entry 'network' does not describe a network.")
    return node


def _resolve(node: Any, trusted: tuple[str, ...]) -> Any:
    if isinstance(node, Mapping):
        arguments = {str(key): _resolve(value, trusted) for key, value in node.items() if not str(key).startswith("_")}
        if "_target_" not in node:
            return arguments
        if arguments.get("pretrained"):
            raise UserError("the network requests pretrained weights; a model folder must use its own weights.")
        constructor = functools.partial(_trusted_class(str(node["_target_"]), trusted), **arguments)
        return constructor if node.get("_partial_") else constructor()
    if isinstance(node, list | tuple):
        if len(node) > MAX_NUMBER:
            raise UserError(f"a list of {len(node)} entries cannot describe a network.")
        return [_resolve(value, trusted) for value in node]
    if isinstance(node, int | float) and not abs(node) <= MAX_NUMBER:  # NaN compares as not smaller
        raise UserError(f"the number {node} cannot describe a network.")
    return node


def _trusted_class(target: str, trusted: tuple[str, ...]) -> type[nn.Module]:
    module, _, name = target.rpartition(".")
    if not any(module == known or module.startswith(f"{known}.") for known in trusted):
        raise UserError(
            f"network {target!r} is not from {' or '.join(trusted)}, and a model file may not choose which code runs. "
            f"If you trust the module, add: trust=[{module or target}]."
        )
    allow(module)
    try:
        constructor = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"network {target!r} cannot be imported ({error}).") from error
    if not (isinstance(constructor, type) and issubclass(constructor, nn.Module)):
        raise UserError(f"{target!r} is not a network.")
    return constructor


def predictor_of(model: Model, windows: SlidingWindows, device: torch.device, precision: str) -> Predictor:
    """Create a predictor from a loaded model.

    Args:
        model: From :func:`segment.inference.model.load_model`.
        windows: How a scan is divided into windows.
        device: Where the network runs.
        precision: Lightning's name: ``bf16-mixed`` and ``16-mixed`` run under autocast, anything else without.
    """
    network = laid_out(model.network, len(model.plan.spacing), windows.used_layout).to(device)
    return Predictor(network, model.plan, windows, model.labels, context_of(precision, device))
