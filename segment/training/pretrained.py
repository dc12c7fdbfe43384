"""Start from weights in a file or in the folder of an earlier run; loading runs no code from the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from segment.errors import UserError
from segment.files import read_mapping
from segment.inference.description import MAX_JSON_BYTES
from segment.inference.limits import find_model
from segment.inference.nnunet.checkpoint import checkpoint, is_checkpoint, read_pickled
from segment.inference.nnunet_folders import FINAL, is_nnunet
from segment.inference.plain import require_stored
from segment.inference.torchscript import is_torchscript, read_torchscript
from segment.networks.transfer import HEADS, Transfer, named_alike, transfer
from segment.networks.weights import load_encoder, not_finite
from segment.runs.settings import leaves
from segment.text import one_line, printable
from segment.training.parameters import matches, matching

MAX_BYTES = 8 << 30
PICKLED = (".pth", ".pt", ".ts")
SUFFIXES = (".safetensors", *PICKLED)
WEIGHTS = "weights.safetensors"  # of a model folder
PRETRAINED = "pretrained.json"  # beside it: how a pretraining made them
DESCRIPTIONS = ("model.json", PRETRAINED)
NESTED = ("state_dict", "model", "network_weights")  # where MONAI's bundles, Lightning and nnU-Net keep the weights
SHOWN = 3  # names of a kind in the printed report


@dataclass(frozen=True)
class Started:
    """What a network took from weights; as JSON in the run folder's ``weights.json``.

    Attributes:
        source: The file.
        parts: Part of the network to how many of its tensors were taken, and how many it has.
        adapted: Tensors taken in another shape, with how.
        initial: Tensors that keep their initial values, with the reason.
        unused: Tensors of the file that the network has no place for.
        differs: What else differs between the two networks: keys with both values.
    """

    source: str
    parts: Mapping[str, Sequence[int]]
    adapted: Mapping[str, str] = field(default_factory=dict)
    initial: Mapping[str, str] = field(default_factory=dict)
    unused: Sequence[str] = ()
    differs: Sequence[str] = ()

    def __str__(self) -> str:
        """A sentence for the terminal, with the first names of each kind."""
        text = f"{self.source}: " + ", ".join(f"{part} {n} of {most} tensors" for part, (n, most) in self.parts.items())
        rows = {
            "adapted": [f"{name} {how}" for name, how in self.adapted.items()],
            "new": [f"{name} ({why})" for name, why in self.initial.items()],
            "unused": self.unused,
            "differs": self.differs,
        }
        for kind, found in rows.items():
            more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            text += f"; {kind}: {', '.join(found[:SHOWN])}{more}" if found else ""
        return printable(text)


def load_weights(
    network: nn.Module,
    path: Path,
    take: Sequence[str] = (),
    labels: Mapping[str, Any] | None = None,
    architecture: Mapping[str, Any] | None = None,
) -> Started:
    """Load weights into a network before it is trained: all that fit or, on any error, none.

    Args:
        network: Receives the weights.
        path: The folder of a run, of a pretraining or of a model (or its weights.safetensors); a results folder of
            nnU-Net with one fold, a fold or a checkpoint of it; or a .safetensors, .pth, .pt or .ts file with the state
            dict of a whole network of the same names (also MONAI's bundles' ``model.pt`` and ``model.ts``), or of the
            network's encoder, as torchvision publishes them.
        take: Patterns of tensors to take (see `segment.training.parameters.ParameterRules`); empty: all that fit.
        labels: Label name to values of the new data set; the heads of a run with other labels are not taken.
        architecture: The network's description, to name what differs from that of a run.

    Returns:
        What was taken and what was not.

    Raises:
        UserError: When the path has no weights, or they are damaged, too large, not plain data, or most do not fit.
    """
    if path.name == WEIGHTS and _description(path.parent) is not None:
        path = path.parent
    matching(network, take, "take")
    if is_nnunet(path):
        path = find_model(path, "weights") / FINAL
    if not path.is_dir():
        return _load_file(network, path, take, labels, architecture)
    file = weights_file(path)
    described = next(file.with_name(name) for name in DESCRIPTIONS if file.with_name(name).is_file())
    content = read_mapping(described, largest=MAX_JSON_BYTES)
    return _load_described(network, path, file, _read(file), content, take, labels, architecture)


def _load_described(
    network: nn.Module,
    path: Path,
    file: Path,
    state: Mapping[str, Tensor],
    content: Mapping[str, Any],
    take: Sequence[str],
    labels: Mapping[str, Any] | None,
    architecture: Mapping[str, Any] | None,
) -> Started:
    """Load the weights of a network whose labels and architecture are known, under our names."""
    other = labels is not None and content.get("labels") != dict(labels)
    reason = "other labels" if "labels" in content else "no head for labels there"
    try:
        found = transfer(network, state, lambda name: _left_out(name, take, reason if other else None))
    except (ValueError, RuntimeError) as error:
        raise UserError(f"weights={path}: does not fit ({_reason(error)}). Give a run of a similar network.") from error
    return _started(network, file, found, _differences(content.get("network"), architecture))


def weights_file(folder: Path) -> Path:
    """The file of weights of a run, a pretraining or a model folder.

    Raises:
        UserError: When the folder is none of these.
    """
    described = _description(folder)
    if described is None:
        raise UserError(
            f"weights={folder}: no model.json there or in its folder model/. Give a finished run's folder, a model "
            f"folder or a file {', '.join(SUFFIXES)}."
        )
    return described.with_name(WEIGHTS)


def _description(folder: Path) -> Path | None:
    """The file that describes the weights in a run or model folder."""
    places = [place / name for place in (folder / "model", folder) for name in DESCRIPTIONS]
    return next((file for file in places if file.is_file()), None)


def _left_out(name: str, take: Sequence[str], heads: str | None) -> str | None:
    if take and not matches(name, take):
        return "not in parameters.take"
    return heads if name.startswith(HEADS) else None


def _load_file(
    network: nn.Module,
    path: Path,
    take: Sequence[str],
    labels: Mapping[str, Any] | None,
    architecture: Mapping[str, Any] | None,
) -> Started:
    if not path.is_file() or path.suffix.lower() not in SUFFIXES:
        problem = "is not a file of weights" if path.exists() else "does not exist"
        raise UserError(f"weights={path}: {problem}. Give a file {', '.join(SUFFIXES)} or a finished run's folder.")
    read = _opened(path)
    if is_checkpoint(read):
        found = checkpoint(read, path)
        described = {"labels": found.described.labels, "network": found.described.network}
        return _load_described(network, path, path, found.weights, described, take, labels, architecture)
    state, encoder = _state(read, path), getattr(network, "encoder", None)
    alike, published = named_alike(network, state), getattr(encoder, "published_name", str)
    own = len(network.state_dict().keys() & alike.keys())
    if isinstance(encoder, nn.Module) and own <= sum(published(name) in state for name in encoder.state_dict()):
        return _load_encoder(network, encoder, state, path, take)
    if not own:
        raise UserError(
            f"weights={path}: none of its tensors has a name of {type(network).__name__}, which has no encoder for "
            "published weights either. Give weights of the same network, or a network with an encoder."
        )
    try:
        fitting = transfer(network, alike, lambda name: _left_out(name, take, None))
    except (ValueError, RuntimeError) as error:
        raise UserError(f"weights={path}: does not fit ({_reason(error)}). Give weights of this network.") from error
    return _started(network, path, fitting)


def _load_encoder(
    network: nn.Module, encoder: nn.Module, state: dict[str, Tensor], path: Path, take: Sequence[str]
) -> Started:
    """Load the published weights of an encoder, which must be complete."""
    # Some encoders adapt more than names, e.g. position embeddings of another size.
    adapt = getattr(encoder, "adapt", dict)
    names = [f"encoder.{name}" for name in encoder.state_dict()]
    if take and not all(matches(name, take) for name in names):
        raise UserError(
            f"parameters.take={list(take)}: the file has the weights of an encoder, which are taken as a whole. Give "
            "[encoder], or leave it out."
        )
    try:
        load_encoder(encoder, adapt(state))
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"weights={path}: does not fit ({_reason(error)}). Give weights of the network's encoder."
        ) from error
    rest = [name for name in network.state_dict() if name not in names]
    return _started(network, path, Transfer(names, initial=dict.fromkeys(rest, "absent from the weights")))


def _started(network: nn.Module, path: Path, found: Transfer, differs: Sequence[str] = ()) -> Started:
    parts: dict[str, list[int]] = {}
    for name in network.state_dict():
        counts = parts.setdefault(name.partition(".")[0], [0, 0])
        counts[0] += name not in found.initial
        counts[1] += 1
    return Started(str(path), parts, found.adapted, found.initial, found.unused, differs)


def _differences(there: Any, here: Mapping[str, Any] | None) -> list[str]:
    """The keys in which two descriptions of a network differ, such as strides, with both values."""
    if not isinstance(there, Mapping) or here is None:
        return []
    old, new = (dict(leaves(node)) for node in (there, here))
    data = ("spatial_dims", "in_channels", "out_channels", "deep_supervision")  # the tensors' shapes tell these
    return [
        f"{key} is {str(old[key])[:200]} there and {str(new[key])[:200]} here"
        for key in new
        if key in old and old[key] != new[key] and key not in data
    ]


def _reason(error: Exception) -> str:
    return one_line(error)[:300]


def _read(path: Path) -> dict[str, Tensor]:
    """The state dict in a file, on the CPU."""
    return _state(_opened(path), path)


def _opened(path: Path) -> Any:
    """The plain content of a file, on the CPU; it is mapped into memory where its format allows it."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ValueError(f"{size} bytes are more than {MAX_BYTES}")
        if path.suffix.lower() not in PICKLED:
            return load_file(path)
        return read_torchscript(path) if is_torchscript(path) else read_pickled(path)
    except Exception as error:  # readers of invalid files may raise anything
        raise UserError(
            f"weights={path}: cannot be read as plain weights ({_reason(error)}). Download the file again."
        ) from error


def _state(state: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in the content of a file."""
    if isinstance(state, Mapping):
        state = next((state[key] for key in NESTED if isinstance(state.get(key), Mapping)), state)
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
