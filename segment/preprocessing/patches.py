"""The largest patch and batch size that fit into memory: nnU-Net's search (Isensee et al. 2021, supplement)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segment.errors import UserError
from segment.preprocessing.topology import Topology, count_values, find_topology

BASE_FEATURES = 32
MAX_FEATURES = {2: 512, 3: 320}
BATCH = {2: 12, 3: 2}  # batch sizes of the reference counts of values
MIN_BATCH, MAX_BATCH = 2, 1 << 20
START_VOXELS = {2: 2048**2, 3: 256**3}


@dataclass(frozen=True)
class Preset:
    """A network family and its reference memory.

    Attributes:
        memory: GB of memory that `values` correspond to.
        values: Number of feature map values of one patch by number of axes, at the batch size `BATCH`.
        residual: Whether the encoder uses residual blocks.
        blocks: Blocks per encoder stage; the last number repeats.
        decoder_blocks: Convolutions per decoder stage.
        max_coverage: Maximum voxels of a batch, as a fraction of the data set's.
        min_batch: Minimum batch size that must fit into memory, by number of axes.
    """

    memory: float
    values: dict[int, float]
    residual: bool
    blocks: tuple[int, ...]
    decoder_blocks: int
    max_coverage: float
    min_batch: dict[int, int]


def _residual(memory: float, values: dict[int, float]) -> Preset:
    return Preset(
        memory, values, residual=True, blocks=(1, 3, 4, 6), decoder_blocks=1, max_coverage=1.0, min_batch=BATCH
    )


PRESETS = {
    "nnunet": Preset(
        8, {2: 85e6, 3: 560e6}, residual=False, blocks=(2,), decoder_blocks=2, max_coverage=0.05, min_batch={2: 2, 3: 2}
    ),
    "resenc_m": _residual(8, {2: 135e6, 3: 680e6}),
    "resenc_l": _residual(24, {2: 380e6, 3: 2.1e9}),
    "resenc_xl": _residual(40, {2: 560e6, 3: 3.6e9}),
}


@dataclass(frozen=True)
class Budget:
    """Constraints on patch and batch size.

    Attributes:
        preset: Network family.
        memory: GB of memory to fill.
        labels: Output channels.
        batch_size: Given number of patches per step; None to choose it.
        where: Prefix of keys in messages.
    """

    preset: Preset
    memory: float
    labels: int
    batch_size: int | None = None
    where: str = ""

    def values(self, dims: int) -> float:
        """Maximum number of values of one patch at the batch size `BATCH`."""
        return self.preset.values[dims] * (self.memory / self.preset.memory)


@dataclass(frozen=True)
class Fitted:
    """Patch size, batch size and network as in :class:`segment.preprocessing.plan.Plan`, with reasons by key."""

    patch: tuple[int, ...]
    batch: int
    topology: Topology
    features: tuple[int, ...]
    blocks: tuple[int, ...]
    decoder_blocks: tuple[int, ...]
    reasons: dict[str, str]


def fit(
    budget: Budget,
    spacing: Sequence[float],
    median: Sequence[float],
    voxels: float,
    patch_size: Sequence[int] | None = None,
) -> Fitted:
    """Find the largest patch within the median scan that fits into memory, then the largest batch size.

    Args:
        budget: The memory and the network family.
        spacing: Voxel size in mm, two or three numbers.
        median: Voxels of the median scan along the same axes; may be fractional.
        voxels: Voxels of the whole data set.
        patch_size: Given patch size in voxels; None to choose it.

    Raises:
        UserError: If no patch is small enough.
    """
    dims = len(spacing)
    shown = " x ".join(f"{size:g}" for size in median)
    if patch_size is not None:
        patch, topology = tuple(patch_size), find_topology(spacing, patch_size, exact=True)
        why = _given_patch(patch, topology, find_topology(spacing, patch_size))
    else:
        patch, topology, shrunk = _largest(budget, spacing, median)
        why = f"the largest for {budget.memory:g} GB within" if shrunk else "covers"
        partial = any(size < side for size, side in zip(patch, median, strict=True))
        why = f"{'within' if partial and not shrunk else why} the median scan, {shown} voxels at this spacing"
    batch, batch_why = _batch(budget, _values(budget, patch, topology), patch, voxels)
    features, blocks, decoder_blocks = _stages(budget.preset, topology)
    encoder = "residual blocks" if budget.preset.residual else "convolutions"
    reasons = {
        "patch_size": why,
        "batch_size": batch_why,
        "strides": "an axis is halved while it has at least 8 voxels and a spacing within twice the finest",
        "kernel_sizes": "3 along an axis once its spacing is within twice the finest, else 1",
        "features": f"doubled at each stage from {BASE_FEATURES} to at most {MAX_FEATURES[dims]} in {dims}D",
        "blocks": f"{encoder} per encoder stage",
        "decoder_blocks": "convolutions per decoder stage",
    }
    return Fitted(patch, batch, topology, features, blocks, decoder_blocks, reasons)


def _stages(preset: Preset, topology: Topology) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Features, encoder blocks and decoder blocks of each stage of the topology."""
    stages = len(topology.strides)
    max_features = MAX_FEATURES[len(topology.strides[0])]
    features = tuple(min(max_features, BASE_FEATURES << stage) for stage in range(stages))
    blocks = tuple(preset.blocks[min(stage, len(preset.blocks) - 1)] for stage in range(stages))
    return features, blocks, (preset.decoder_blocks,) * (stages - 1)


def _values(budget: Budget, patch: Sequence[int], topology: Topology) -> int:
    stages = _stages(budget.preset, topology)
    return count_values(patch, topology.strides, *stages, residual=budget.preset.residual, labels=budget.labels)


def _largest(
    budget: Budget, spacing: Sequence[float], median: Sequence[float]
) -> tuple[tuple[int, ...], Topology, bool]:
    """The patch, its topology, and whether it was reduced to fit into memory."""
    dims = len(spacing)
    fineness = 1 / np.array(spacing)
    start = fineness * (START_VOXELS[dims] / np.prod(fineness)) ** (1 / dims)
    sizes = [min(max(1, round(float(size))), side) for size, side in zip(start, median, strict=True)]
    topology = find_topology(spacing, sizes)
    patch, shrunk = topology.padded(sizes), False
    min_batch = budget.batch_size or budget.preset.min_batch[dims]
    while _values(budget, patch, topology) / BATCH[dims] * min_batch > budget.values(dims):
        smaller = _shrunk(spacing, median, patch, topology)
        if smaller is None:
            raise UserError(
                f"{budget.where}memory={budget.memory:g} GB cannot hold {min_batch} patches of {list(patch)} voxels. "
                f"Give more memory, a smaller {budget.where}batch_size or a {budget.where}patch_size."
            )
        topology = find_topology(spacing, smaller)
        patch, shrunk = topology.padded(smaller), True
    return patch, topology, shrunk


def _shrunk(
    spacing: Sequence[float], median: Sequence[float], patch: Sequence[int], topology: Topology
) -> tuple[int, ...] | None:
    """Reduce the axis that covers most of the median scan (the last of equal ones) by one step; None if impossible."""
    shares = [size / side for size, side in zip(patch, median, strict=True)]
    for axis in sorted(range(len(patch)), key=lambda axis: (shares[axis], axis), reverse=True):
        # Use the step of the smaller patch, otherwise valid sizes in between would be skipped.
        smaller = _reduced(patch, axis, topology.divisor[axis])
        smaller = _reduced(patch, axis, find_topology(spacing, smaller).divisor[axis])
        if smaller[axis] >= 1:
            return smaller
    return None


def _reduced(patch: Sequence[int], axis: int, step: int) -> tuple[int, ...]:
    return tuple(size - step * (index == axis) for index, size in enumerate(patch))


def _batch(budget: Budget, values: int, patch: Sequence[int], voxels: float) -> tuple[int, str]:
    """Patches per step, and the reason."""
    if budget.batch_size is not None:
        return int(budget.batch_size), "set by the user"
    dims = len(patch)
    fitting = round(budget.values(dims) / values * BATCH[dims])
    covered = round(voxels * budget.preset.max_coverage / float(math.prod(patch)))
    batch = min(max(min(fitting, covered), MIN_BATCH), MAX_BATCH)
    if min(fitting, covered) < MIN_BATCH:
        return batch, f"the minimum; {budget.memory:g} GB or the data set would allow fewer"
    if covered < fitting:
        return batch, f"{budget.preset.max_coverage:.0%} of the voxels of the data set; more would fit into memory"
    return batch, f"what fits into {budget.memory:g} GB"


def _given_patch(patch: Sequence[int], topology: Topology, padded: Topology) -> str:
    if topology.divisor == padded.divisor:
        return "set by the user"
    better = padded.padded(patch)
    return f"set by the user; {list(better)} could be halved more often"
