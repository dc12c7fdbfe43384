"""Start from weights in a file or in the folder of an earlier run; loading runs no code from the files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from segment.errors import UserError
from segment.inference.limits import find_model
from segment.networks.weights import load_encoder, not_finite, resample_kernels
from segment.text import one_line
from segment.training.plain import load_plain, require_stored

MAX_BYTES = 8 << 30
PICKLED = (".pth", ".pt")
SUFFIXES = (".safetensors", *PICKLED)
HEADS = "heads."
WEIGHTS = "weights.safetensors"  # of a model folder


def load_weights(network: nn.Module, path: Path) -> str:
    """Load weights into a network before it is trained: all of them or, on any error, none.

    Args:
        network: Receives the weights.
        path: A .safetensors, .pth or .pt file with the state dict of the network's encoder, as torchvision publishes
            them, or the folder of a run or a model (or its weights.safetensors), whose whole network is used. The heads
            of a folder may differ (another number of classes): those keep their initial weights. Smaller depthwise
            kernels are interpolated (see :func:`segment.networks.weights.resample_kernels`).

    Returns:
        A line that describes what was loaded.

    Raises:
        UserError: When the path has no weights, or they are damaged, too large, not plain data or do not fit.
    """
    if path.name == WEIGHTS and (path.parent / "model.json").is_file():
        path = path.parent
    return _load_run(network, path) if path.is_dir() else _load_file(network, path)


def _load_file(network: nn.Module, path: Path) -> str:
    if not path.is_file() or path.suffix.lower() not in SUFFIXES:
        problem = "is not a file of weights" if path.exists() else "does not exist"
        raise UserError(f"weights={path}: {problem}. Give a file {', '.join(SUFFIXES)} or a finished run's folder.")
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, nn.Module):
        raise UserError(
            f"weights={path}: {type(network).__name__} has no encoder to load a file's weights into. Give the "
            "folder of a run with the same network, or a network with an encoder."
        )
    state = _read(path)
    # Some encoders adapt more than names, e.g. position embeddings of another size.
    adapt = getattr(encoder, "adapt", dict)
    try:
        load_encoder(encoder, adapt(state))
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"weights={path}: does not fit ({_reason(error)}). Give weights of the network's encoder."
        ) from error
    return f"encoder: {len(encoder.state_dict())} tensors from {path}"


def _load_run(network: nn.Module, folder: Path) -> str:
    try:
        path = find_model(folder) / WEIGHTS
    except UserError as error:
        raise UserError(
            f"weights={folder}: no model.json there or in its folder model/. Give a finished run's folder, a model "
            f"folder or a file {', '.join(SUFFIXES)}."
        ) from error
    state = _read(path)
    own = network.state_dict()
    other = {
        name: f"{_shape(state.get(name))} -> {_shape(own.get(name))}"
        for name in [*own, *state]
        if name.startswith(HEADS) and _shape(own.get(name)) != _shape(state.get(name))
    }
    kept = {name: own[name] for name in other if name in own}
    try:
        resampled = resample_kernels(network, {n: v for n, v in state.items() if n not in other} | kept)
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"weights={folder}: does not fit ({_reason(error)}). Give a run of the same network."
        ) from error
    text = f"network: {len(own) - len(kept)} tensors from {path}"
    if resampled:
        text += f", {len(resampled)} of them kernels interpolated to this network's size"
    if other:
        first = next(iter(other))
        text += f"; the heads that differ keep their initial weights ({first} {other[first]})"
    return text


def _shape(value: Tensor | None) -> str:
    return "absent" if value is None else str(tuple(value.shape))


def _reason(error: Exception) -> str:
    return one_line(error)[:300]


def _read(path: Path) -> dict[str, Tensor]:
    """The state dict in a file, on the CPU; the file is mapped into memory where its format allows it."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ValueError(f"{size} bytes are more than {MAX_BYTES}")
        state = load_plain(path) if path.suffix.lower() in PICKLED else load_file(path)
    except Exception as error:  # readers of invalid files may raise anything
        raise UserError(
            f"weights={path}: cannot be read as plain weights ({_reason(error)}). Download the file again."
        ) from error
    if not (isinstance(state, Mapping) and state and all(_is_plain(*item) for item in state.items())):
        raise UserError(
            f"weights={path}: has no state dict (names and tensors). Save one: torch.save(network.state_dict(), FILE)."
        )
    try:
        require_stored(state.values(), path)
    except ValueError as error:
        raise UserError(f"weights={path}: {error}.") from error
    if name := not_finite(state):
        raise UserError(
            f"weights={path}: {name} has values that are not finite, as after a training that diverged. Give other "
            "weights."
        )
    return dict(state)


def _is_plain(name: object, value: object) -> bool:
    plain = isinstance(name, str) and isinstance(value, Tensor) and value.layout == torch.strided
    return plain and not (value.is_meta or value.is_complex())  # type: ignore[attr-defined]
