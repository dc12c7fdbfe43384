"""The largest patch that fits a memory, and how many of them: nnU-Net's search (Isensee et al. 2021, supplement)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segment.errors import UserError
from segment.preprocessing.topology import Topology, count_values, find_topology

BASE_FEATURES = 32
MAX_FEATURES = {2: 512, 3: 320}
BATCH = {2: 12, 3: 2}  # that the reference counts of values were taken at
MIN_BATCH, MAX_BATCH = 2, 1 << 20
START_VOXELS = {2: 2048**2, 3: 256**3}


@dataclass(frozen=True)
class Preset:
    """A network family and the memory that it was measured to fill.

    Attributes:
        memory: GB that `values` correspond to.
        values: Count of feature map values of one patch by number of axes, at the batch size `BATCH`.
        residual: Whether the encoder is built of residual blocks.
        blocks: Blocks of each encoder stage; the last number goes on.
        decoder_blocks: Convolutions of every decoder stage.
        covered: Most voxels of a batch, as a part of the data set's.
        least: Batch size by number of axes that a patch must leave room for.
    """

    memory: float
    values: dict[int, float]
    residual: bool
    blocks: tuple[int, ...]
    decoder_blocks: int
    covered: float
    least: dict[int, int]


def _residual(memory: float, values: dict[int, float]) -> Preset:
    return Preset(memory, values, residual=True, blocks=(1, 3, 4, 6), decoder_blocks=1, covered=1.0, least=BATCH)


PRESETS = {
    "nnunet": Preset(
        8, {2: 85e6, 3: 560e6}, residual=False, blocks=(2,), decoder_blocks=2, covered=0.05, least={2: 2, 3: 2}
    ),
    "resenc_m": _residual(8, {2: 135e6, 3: 680e6}),
    "resenc_l": _residual(24, {2: 380e6, 3: 2.1e9}),
    "resenc_xl": _residual(40, {2: 560e6, 3: 3.6e9}),
}


@dataclass(frozen=True)
class Budget:
    """What patches and batches are chosen for.

    Attributes:
        preset: Network family.
        memory: GB to fill.
        labels: Output channels.
        batch_size: Given number of patches a step; None to decide it.
        where: Put before keys in messages.
    """

    preset: Preset
    memory: float
    labels: int
    batch_size: int | None = None
    where: str = ""

    def values(self, dims: int) -> float:
        """Count of values of one patch that may be, when the batch has `BATCH` patches."""
        return self.preset.values[dims] * (self.memory / self.preset.memory)


@dataclass(frozen=True)
class Fitted:
    """A patch, a batch and the network for them as in :class:`segment.preprocessing.plan.Plan`; reasons by key."""

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
    """Find the largest patch within the median scan that the memory holds, then as many patches as it holds.

    Args:
        budget: The memory and the network family.
        spacing: Voxel size in mm, two or three numbers.
        median: Voxels of the median scan along the same axes; need not be whole.
        voxels: Voxels of the whole data set.
        patch_size: Given voxels of a patch; None to decide them.

    Raises:
        UserError: When no patch is small enough.
    """
    dims = len(spacing)
    shown = " x ".join(f"{size:g}" for size in median)
    if patch_size is not None:
        patch, topology = tuple(patch_size), find_topology(spacing, patch_size, exact=True)
        why = _given_patch(patch, topology, find_topology(spacing, patch_size))
    else:
        patch, topology, shrunk = _largest(budget, spacing, median)
        why = f"the largest that {budget.memory:g} GB hold of" if shrunk else "holds all of"
        whole = any(size < side for size, side in zip(patch, median, strict=True))
        why = f"{'within' if whole and not shrunk else why} the median scan, {shown} voxels at this spacing"
    batch, batch_why = _batch(budget, _values(budget, patch, topology), patch, voxels)
    features, blocks, decoder_blocks = _stages(budget.preset, topology)
    encoder = "residual blocks" if budget.preset.residual else "convolutions"
    reasons = {
        "patch_size": why,
        "batch_size": batch_why,
        "strides": "an axis is halved while it has 8 voxels and a spacing within twice the finest",
        "kernel_sizes": "3 along an axis once its spacing is within twice the finest, 1 before",
        "features": f"doubled at each stage from {BASE_FEATURES} to at most {MAX_FEATURES[dims]} in {dims}D",
        "blocks": f"{encoder} of each encoder stage",
        "decoder_blocks": "convolutions of each decoder stage",
    }
    return Fitted(patch, batch, topology, features, blocks, decoder_blocks, reasons)


def _stages(preset: Preset, topology: Topology) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Features, encoder blocks and decoder blocks of as many stages as the topology has."""
    stages = len(topology.strides)
    most = MAX_FEATURES[len(topology.strides[0])]
    features = tuple(min(most, BASE_FEATURES << stage) for stage in range(stages))
    blocks = tuple(preset.blocks[min(stage, len(preset.blocks) - 1)] for stage in range(stages))
    return features, blocks, (preset.decoder_blocks,) * (stages - 1)


def _values(budget: Budget, patch: Sequence[int], topology: Topology) -> int:
    stages = _stages(budget.preset, topology)
    return count_values(patch, topology.strides, *stages, residual=budget.preset.residual, labels=budget.labels)


def _largest(
    budget: Budget, spacing: Sequence[float], median: Sequence[float]
) -> tuple[tuple[int, ...], Topology, bool]:
    """The patch, its topology, and whether memory made it smaller than at first."""
    dims = len(spacing)
    fineness = 1 / np.array(spacing)
    start = fineness * (START_VOXELS[dims] / np.prod(fineness)) ** (1 / dims)
    sizes = [min(max(1, round(float(size))), side) for size, side in zip(start, median, strict=True)]
    topology = find_topology(spacing, sizes)
    patch, shrunk = topology.padded(sizes), False
    least = budget.batch_size or budget.preset.least[dims]
    while _values(budget, patch, topology) / BATCH[dims] * least > budget.values(dims):
        smaller = _shrunk(spacing, median, patch, topology)
        if smaller is None:
            raise UserError(
                f"{budget.where}memory={budget.memory:g} GB do not hold {least} patches of {list(patch)} voxels. Give "
                f"more memory, a smaller {budget.where}batch_size or a {budget.where}patch_size."
            )
        topology = find_topology(spacing, smaller)
        patch, shrunk = topology.padded(smaller), True
    return patch, topology, shrunk


def _shrunk(
    spacing: Sequence[float], median: Sequence[float], patch: Sequence[int], topology: Topology
) -> tuple[int, ...] | None:
    """A step less along the axis that sees most of the median scan, the last of equal ones; None where none can be."""
    shares = [size / side for size, side in zip(patch, median, strict=True)]
    for axis in sorted(range(len(patch)), key=lambda axis: (shares[axis], axis), reverse=True):
        # The step of the patch that is one step smaller, or valid sizes in between would be skipped.
        smaller = _less(patch, axis, topology.divisor[axis])
        smaller = _less(patch, axis, find_topology(spacing, smaller).divisor[axis])
        if smaller[axis] >= 1:
            return smaller
    return None


def _less(patch: Sequence[int], axis: int, step: int) -> tuple[int, ...]:
    return tuple(size - step * (index == axis) for index, size in enumerate(patch))


def _batch(budget: Budget, values: int, patch: Sequence[int], voxels: float) -> tuple[int, str]:
    """How many patches a step, and why."""
    if budget.batch_size is not None:
        return int(budget.batch_size), "given"
    dims = len(patch)
    held = round(budget.values(dims) / values * BATCH[dims])
    covered = round(voxels * budget.preset.covered / float(math.prod(patch)))
    batch = min(max(min(held, covered), MIN_BATCH), MAX_BATCH)
    if min(held, covered) < MIN_BATCH:
        return batch, f"the least; {budget.memory:g} GB or the data set allow fewer"
    if covered < held:
        return batch, f"{budget.preset.covered:.0%} of the voxels of the data set, more would fit into memory"
    return batch, f"what {budget.memory:g} GB hold"


def _given_patch(patch: Sequence[int], topology: Topology, padded: Topology) -> str:
    if topology.divisor == padded.divisor:
        return "given"
    better = padded.padded(patch)
    return f"given; {list(better)} could be halved more often"
