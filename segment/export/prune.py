"""Structured pruning: whole channels of a network are removed, so that what is left is a smaller dense network.

The channels are those of the smallest weights (the L2 norm over all layers that share a channel; Fang et al. 2023,
"DepGraph: Towards Any Structural Pruning", which the package torch-pruning implements).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.instancenorm import _InstanceNorm

from segment.errors import UserError
from segment.inference.model import Model
from segment.metrics.standard import LEAD
from segment.networks.channels import channel_counts, resize
from segment.networks.describe import describe
from segment.networks.meta import meta_copy
from segment.runs.summary import read_summary
from segment.text import one_line, table

MULTIPLE = 4  # channels are left in multiples of this, which convolutions compute without a remainder


def prune(network: nn.Module, ratio: float, shape: Sequence[int]) -> nn.Module:
    """Remove channels from every layer of a network, except from its outputs.

    Args:
        network: The network with its weights; not changed.
        ratio: The share of each layer's channels that is removed.
        shape: Of one window (1, channel, *window).

    Returns:
        A network of the same modules with fewer channels, with the weights of those that are left. The same network is
        pruned the same way on every machine.

    Raises:
        UserError: When the network cannot be pruned: its layers do not say how their channels depend on each other.
    """
    import torch_pruning

    image = torch.zeros(*shape)
    stand_in = _traceable(network)
    try:
        outputs = _last_layers(stand_in, image)
        pruner = torch_pruning.pruner.BasePruner(
            stand_in,
            image,
            importance=torch_pruning.importance.MagnitudeImportance(p=2),
            pruning_ratio=ratio,
            ignored_layers=outputs,
            round_to=MULTIPLE,
        )
        pruner.step()
        pruned = copy.deepcopy(network)
        resize(pruned, channel_counts(stand_in))
        state = stand_in.state_dict()
        pruned.load_state_dict({name: state[name] for name in pruned.state_dict()})
        with torch.no_grad():
            before, after = (copy.deepcopy(one).eval()(image).shape for one in (network, pruned))
    except Exception as error:  # tracing and the forward pass raise their own kinds
        raise UserError(
            f"prune={ratio:g}: this network cannot be pruned ({one_line(error)[:300]}). Convolutional U-Nets can, such "
            "as unet_small, nnunet_plain and unet_encoder."
        ) from error
    if before != after:
        raise UserError(f"prune={ratio:g}: this network cannot be pruned (its output has another shape then).")
    return pruned


def _traceable(network: nn.Module) -> nn.Module:
    """A copy whose instance norms are batch norms of the same parameters, through which channels can be followed."""
    made = copy.deepcopy(network).float()
    for parent in [*made.modules()]:
        for name, child in parent.named_children():
            if isinstance(child, _InstanceNorm):
                dims = 3 if "3d" in type(child).__name__ else 2
                norm = (nn.BatchNorm3d if dims == 3 else nn.BatchNorm2d)(child.num_features, affine=child.affine)
                if child.affine:
                    norm.weight, norm.bias = child.weight, child.bias
                setattr(parent, name, norm)
    for parameter in made.parameters():
        parameter.requires_grad_(True)
    return made.eval()


def _last_layers(network: nn.Module, image: Tensor) -> list[nn.Module]:
    """The layers that compute the outputs, of every head of a deeply supervised network."""
    heads = getattr(network, "heads", None)
    if isinstance(heads, nn.Module):
        return [layer for layer in heads.modules() if hasattr(layer, "out_channels")]
    with torch.no_grad():
        outputs = network(image).shape[1]
    layers = [layer for layer in network.modules() if getattr(layer, "out_channels", None) == outputs]
    return layers[-1:]


def size_of(network: nn.Module, shape: Sequence[int]) -> dict[str, float]:
    """Number of parameters, and GFLOP of the forward pass of one window (1, channel, *window)."""
    found = describe(meta_copy(network).eval(), len(shape) - 2, shape[2:], shape[1])
    return {"parameters": found.parameters, "gflop": found.operations / 1e9}


def pruned_table(whole: Model, pruned: Model) -> str:
    """The pruned network of a run beside the whole one as text for the terminal: size, and score on the same scans.

    Args:
        whole: The model of the run that was pruned.
        pruned: The model of the run that trained on, which says how it was pruned.
    """
    assert whole.folder is not None
    assert pruned.folder is not None
    assert pruned.pruned is not None
    folders = [whole.folder, pruned.folder]
    found = [read_summary(folder.absolute().parent / "summary.json") for folder in folders]
    means = [summary["foreground"][LEAD.name]["mean"] for summary in found]
    megabytes = [(folder / "weights.safetensors").stat().st_size / 1e6 for folder in folders]
    scans = f"Dice, {found[1]['scans']} {found[1]['protocol']['split']} scan(s)"
    rows = [
        ["parameters", *(f"{count:,}" for count in pruned.pruned.parameters)],
        ["GFLOP a window", *(f"{count:.3g}" for count in pruned.pruned.gflop)],
        ["MB of weights", *(f"{size:.3g}" for size in megabytes)],
        [scans, *("-" if mean is None else f"{mean:.4f}" for mean in means)],
        ["steps after pruning", "", f"{pruned.pruned.steps:,}"],
    ]
    heads = [f"prune={pruned.pruned.ratio:g}", "before", "after"]
    return table(heads, rows, left=heads[:1])
