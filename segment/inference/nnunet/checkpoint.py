"""nnU-Net's checkpoints, read as plain data, with our names for the weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segment.errors import UserError
from segment.files import read_mapping
from segment.inference.architecture import build, limited_modules
from segment.inference.description import Description
from segment.inference.nnunet.plans import describe
from segment.inference.nnunet_folders import DATASET, FINAL, MAX_BYTES, PLANS
from segment.inference.plain import load_plain, require_stored
from segment.networks.meta import on_meta
from segment.networks.weights import not_finite
from segment.text import one_line

WEIGHTS = "network_weights"
FIX = "Copy the results folder again."
REPEATED = (".all_modules.", "decoder.encoder.")  # names of tensors that a state dict of nnU-Net's holds twice
RENAMED = {"decoder.transpconvs.": "decoder.ups.", "decoder.seg_layers.": "heads."}
WRAPPERS = ("module.", "_orig_mod.")


class _Ignored:
    """Stands for NumPy's numbers in a checkpoint's log, which nothing here needs; NumPy itself is not called."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


NUMPY = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype")


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint of nnU-Net holds of a model.

    Attributes:
        described: The model in our terms.
        weights: Name to tensor, with the names of the network that is described.
        trainer: Name of nnU-Net's trainer.
    """

    described: Description
    weights: dict[str, Tensor]
    trainer: str


def is_checkpoint(content: object) -> bool:
    """Whether what a file of ``torch.save`` holds is a checkpoint of nnU-Net's."""
    return isinstance(content, Mapping) and isinstance(content.get(WEIGHTS), Mapping) and "init_args" in content


def read_pickled(path: Path) -> Any:
    """Content of a file of ``torch.save``, where NumPy's numbers, of nnU-Net's log, are left out; no code in it runs.

    Args:
        path: The file.

    Raises:
        ValueError: If it holds anything but plain data.
        Exception: What torch raises on a damaged file.
    """
    try:
        with torch.serialization.safe_globals([(_Ignored, name) for name in NUMPY]):
            return load_plain(path)
    except Exception as error:
        if found := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise ValueError(f"it asks for {found[1][:100]}, which plain data does not need") from error
        raise


def read_fold(folder: Path) -> tuple[Description, nn.Module]:
    """The description and the network, in evaluation mode, of a fold of a results folder.

    Args:
        folder: For which `segment.inference.nnunet_folders.is_fold` holds.

    Raises:
        UserError: When a file is damaged or is not plain data, or the model is one that we do not know.
    """
    path = folder / FINAL
    try:
        content = read_pickled(path)
    except Exception as error:  # as may readers of invalid files
        raise UserError(f"{path}: cannot be read as plain data ({one_line(error)[:300]}). {FIX}") from error
    read = checkpoint(content, path)
    network = build(read.described.network)
    network.load_state_dict(read.weights)
    return read.described, network.eval()


def checkpoint(content: Any, path: Path) -> Checkpoint:
    """Check the content of a checkpoint. The plans.json and dataset.json of its results folder count, else its own.

    Args:
        content: From `read_pickled`.
        path: The file.

    Raises:
        UserError: When it is damaged, or the model is one that we do not know.
    """
    if not is_checkpoint(content):
        raise UserError(f"{path}: is not a checkpoint of nnU-Net 2. {FIX}")
    arguments, mirror = content["init_args"], content.get("inference_allowed_mirroring_axes") or ()
    trainer = str(content.get("trainer_name", "unknown"))[:200]
    plans, dataset = (
        read_mapping(file, FIX, MAX_BYTES) if (file := path.parent.parent / name).is_file() else own
        for name, own in ((PLANS, arguments.get("plans")), (DATASET, arguments.get("dataset_json")))
    )
    if not (isinstance(plans, Mapping) and isinstance(dataset, Mapping) and all(type(axis) is int for axis in mirror)):
        raise UserError(f"{path}: its init_args or mirroring axes are damaged. {FIX}")
    described = describe(plans, dataset, str(arguments.get("configuration")), mirror, path)
    try:
        with on_meta(), limited_modules():
            expected = build(described.network).state_dict()
        weights = _renamed(content[WEIGHTS], expected)
        require_stored(weights.values(), path)
        if name := not_finite(weights):
            raise ValueError(f"tensor {name} has values that are not finite, as after a training that diverged")
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # a constructor may raise anything on wrong arguments
        raise UserError(
            f"{path}: its weights do not fit the network of its plans ({one_line(error)[:300]}). Its trainer, "
            f"{trainer}, may build another network: predict with nnU-Net itself."
        ) from error
    return Checkpoint(described, weights, trainer)


def _renamed(stored: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """nnU-Net's tensors under the names of our network, whose parts register theirs in the same order.

    Args:
        stored: Name to tensor, as in the checkpoint.
        expected: Name to tensor of our network; the shapes count.

    Raises:
        ValueError: When a tensor is missing, left over, no tensor or of another shape.
    """
    theirs, ours = _parts(stored), _parts(expected)
    heads = sum(part.startswith("heads.") for part in theirs)
    renamed: dict[str, Tensor] = {}
    for part, tensors in theirs.items():
        number = part.removeprefix("heads.").rstrip(".")
        # nnU-Net counts the heads from the coarsest.
        names = ours.pop(f"heads.{heads - 1 - int(number)}." if number.isdecimal() else part, {})
        if len(names) != len(tensors):
            raise ValueError(f"{part} has {len(tensors)} tensors there, {len(names)} in the network")
        for name, (theirs_name, value) in zip(names, tensors.items(), strict=True):
            shape = tuple(expected[name].shape)
            if not isinstance(value, Tensor) or value.shape != shape or not value.is_floating_point():
                raise ValueError(f"tensor {theirs_name} should be of shape {shape}")
            renamed[name] = value.float()
    if ours:
        raise ValueError(f"{next(iter(ours))} is missing")
    return renamed


def _parts(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The tensors of each part of a network, ``encoder.stages.0.`` or ``encoder.stem.``, in our words."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        for prefix in WRAPPERS:
            name = name.removeprefix(prefix)
        if any(part in f".{name}" for part in REPEATED):
            continue
        found = re.match(r"(?:encoder|decoder)\.(?:stem|\w+\.\d+)\.|heads\.\d+\.", name)
        part = found[0] if found else name
        for old, new in RENAMED.items():
            part = part.replace(old, new)
        parts.setdefault(part, {})[name] = value
    return parts
