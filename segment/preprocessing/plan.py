"""The plan of a data set: preprocessing, patch and batch size, and network."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, TypeVar

from pydantic import Field, StrictBool

from segment.errors import UserError, did_you_mean
from segment.preprocessing.patches import MAX_BATCH, PRESETS
from segment.validation import Number, matching, one_of, short, whole

RAS, STORED = ORIENTATIONS = ("ras", "stored")
NORMALIZATIONS = ("zscore", "masked_zscore", "ct", "rescale", "rgb", "percentiles", "none")
MAX_CHANNELS = 1024
MAX_STAGES = 16
MAX_VOXELS = 1 << 30  # of a patch

# Ranges are checked where a plan is read from a file.
T = TypeVar("T")
PerAxis = Annotated[tuple[T, ...], Field(min_length=2, max_length=3)]
PerStage = Annotated[tuple[T, ...], Field(max_length=MAX_STAGES)]
Name = Annotated[str, Field(max_length=1000)]
ConfigurationName = Annotated[str, matching(r"\w{1,64}", "letters, digits and _ only")]
Millimetres = Annotated[Number, Field(ge=1e-9, le=1e6)]
Transpose = Annotated[tuple[Annotated[int, whole(0, 2)], ...], Field(max_length=3)]
Real = Annotated[Number, Field(ge=-1e38, le=1e38)]  # float32


@dataclass(frozen=True)
class Intensity:
    """Intensities of one channel within the foreground of the training scans, with all scans weighted equally.

    Attributes:
        mean: Mean.
        sd: Standard deviation.
        low: 0.5th percentile.
        high: 99.5th percentile.
    """

    mean: Real
    sd: Annotated[Real, Field(ge=0)]
    low: Real
    high: Real


@dataclass(frozen=True)
class Plan:
    """Preprocessing, patch and batch size, and network: one configuration of a plan file.

    Axes are in array order, z, y, x after `orientation` and then after `transpose`; y, x for 2D images.

    Attributes:
        spacing: Voxel size in mm that every scan is resampled to. Two numbers where 3D scans are cut into slices
            (nnU-Net's 2d configuration): the slice spacing is kept.
        patch_size: Voxels of a training patch and of an inference window, one number per number in `spacing`.
        batch_size: Patches per step.
        normalization: One of `NORMALIZATIONS` per channel.
        transpose: For each axis of the prepared scan, its anatomical axis (0: z, 1: y, 2: x): ``(0, 1, 2)`` keeps the
            order; nnU-Net puts the coarsest first. Empty: order kept, with as many axes as `spacing` has.
        intensities: One per channel; required by ``ct`` only, may be empty otherwise.
        strides: Stride of each stage of the network, one number per axis of the patch.
        kernel_sizes: Kernel size of each stage, one number per axis of the patch.
        features: Feature maps of each stage.
        blocks: Convolutions (or residual blocks) per encoder stage.
        decoder_blocks: Convolutions per decoder stage, coarsest last as in `blocks`; one stage fewer.
        batch_dice: Whether the Dice loss is computed over the whole batch instead of per patch.
        previous_stage: Configuration whose predictions are an additional input (cascade); empty for none.
        orientation: ``ras``: scans are turned to anatomical axes; ``stored``: they stay as their files store them, as
            nnU-Net's usual readers leave them.
    """

    spacing: PerAxis[Millimetres]
    patch_size: PerAxis[Annotated[int, whole(1, 1 << 16)]]
    batch_size: Annotated[int, whole(1, MAX_BATCH)]
    normalization: tuple[Annotated[str, one_of(NORMALIZATIONS)], ...]
    transpose: Transpose = ()
    intensities: tuple[Intensity, ...] = ()
    strides: PerStage[PerAxis[Annotated[int, whole(1, 8)]]] = ()
    kernel_sizes: PerStage[PerAxis[Annotated[int, whole(1, 15)]]] = ()
    features: PerStage[Annotated[int, whole(1, 1 << 13)]] = ()
    blocks: PerStage[Annotated[int, whole(1, 64)]] = ()
    decoder_blocks: PerStage[Annotated[int, whole(1, 64)]] = ()
    batch_dice: StrictBool = False
    previous_stage: str = ""
    orientation: Annotated[str, one_of(ORIENTATIONS)] = RAS

    @property
    def sliced(self) -> bool:
        """Whether 3D scans are cut into slices along their first axis."""
        return len(self.transpose) == 3 and len(self.patch_size) == 2

    def as_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, as written to model.json; `segment.validation.read_as` reads them."""
        return json.loads(json.dumps(asdict(self)))

    def check(self, channels: int) -> None:
        """Check that the values fit together and fit the number of channels.

        Raises:
            ValueError: If they do not; begins with the key.
        """
        axes = len(self.patch_size)
        _expect("spacing", self.spacing, axes, "axes of patch_size")
        orders = ([], [0, 1, 2]) if axes == 3 else ([], [0, 1], [0, 1, 2])
        if sorted(self.transpose) not in orders:
            raise ValueError(f"transpose: {list(self.transpose)} is not an order of the axes. Give each axis once.")
        if math.prod(self.patch_size) > MAX_VOXELS:
            raise ValueError(f"patch_size: has over {MAX_VOXELS} voxels. Give a smaller size.")
        _expect("normalization", self.normalization, channels, "channels")
        if "ct" in self.normalization and not self.intensities:
            raise ValueError("normalization: ct needs intensities, which the plan lacks. Add them or use zscore.")
        _expect("intensities", self.intensities, channels if self.intensities else 0, "channels")

    def check_stages(self) -> None:
        """Check that the stages of the network fit each other and the patch.

        Raises:
            ValueError: If they do not; begins with the key.
        """
        axes, stages = len(self.patch_size), len(self.strides)
        if not stages:
            raise ValueError("strides: is missing. Give the strides of each stage.")
        for name in ("strides", "kernel_sizes"):
            for index, numbers in enumerate(getattr(self, name)):
                _expect(f"{name}[{index}]", numbers, axes, "axes of patch_size")
        for name in ("kernel_sizes", "features", "blocks"):
            _expect(name, getattr(self, name), stages, "stages in strides")
        _expect("decoder_blocks", self.decoder_blocks, stages - 1, "decoder stages, one fewer than strides")
        even = next((size for sizes in self.kernel_sizes for size in sizes if size % 2 == 0), None)
        if even is not None:
            raise ValueError(f"kernel_sizes: {even} is even, so the kernel has no centre. Give odd numbers.")
        divisor = [math.prod(strides) for strides in zip(*self.strides, strict=True)]
        nearest = [math.ceil(size / by) * by for size, by in zip(self.patch_size, divisor, strict=True)]
        if nearest != list(self.patch_size):
            raise ValueError(
                f"patch_size: {list(self.patch_size)} is not divisible by {divisor}, the product of strides. "
                f"Give {nearest}, or change strides."
            )


def _expect(key: str, values: Sequence[Any], count: int, what: str) -> None:
    if len(values) != count:
        raise ValueError(f"{key}: has {len(values)} entries for {count} {what}. Give {count}.")


@dataclass(frozen=True)
class DatasetPlan:
    """All decisions for a data set: the content of a plan file.

    Axes are those of :class:`Plan`: z, y, x after `transpose`; y, x for 2D images.

    Attributes:
        dataset: Name of the data set.
        preset: Rules used, a key of :data:`segment.preprocessing.planner.PRESETS`.
        memory: Accelerator memory in GB that patch and batch size were chosen for.
        scans: Number of training scans that the plan is based on.
        channels: Channel names.
        median_shape: Voxels of the median scan, cropped to nonzero voxels, at its own spacing.
        median_spacing: Median voxel size in mm.
        transpose: As in :class:`Plan`; empty for 2D images.
        intensities: One per channel; empty if no scan has foreground.
        configurations: By name: ``2d``, ``3d_fullres``, ``3d_lowres``, ``3d_cascade_fullres`` or a custom one.
        reasons: Reasons by ``KEY`` or ``CONFIGURATION.KEY``; ignored when comparing plans.
    """

    dataset: Name
    preset: Annotated[str, one_of(PRESETS)]
    memory: Annotated[Number, Field(ge=1e-6, le=1e4)]
    scans: Annotated[int, whole(1, 10**9)]
    channels: Annotated[tuple[Name, ...], Field(min_length=1, max_length=MAX_CHANNELS)]
    median_shape: PerAxis[Annotated[int, whole(1, 1 << 31)]]
    median_spacing: PerAxis[Millimetres]
    transpose: Transpose
    intensities: tuple[Intensity, ...]
    configurations: Annotated[Mapping[ConfigurationName, Plan], Field(min_length=1, max_length=64)]
    reasons: Mapping[str, str] = field(default_factory=dict, compare=False)

    def check(self) -> None:
        """Check that the values fit together.

        Raises:
            ValueError: If they do not; begins with the key.
        """
        axes = 3 if self.transpose else 2
        if sorted(self.transpose) not in ([], [0, 1, 2]):
            raise ValueError(f"transpose: {list(self.transpose)} does not contain 0, 1 and 2 once each.")
        _expect("median_shape", self.median_shape, axes, "axes of the scans")
        _expect("median_spacing", self.median_spacing, axes, "axes of the scans")
        _expect("intensities", self.intensities, len(self.channels) if self.intensities else 0, "channels")
        for index, channel in enumerate(self.intensities):
            if channel.low > channel.high:
                raise ValueError(
                    f"intensities[{index}].low: {channel.low:g} is above high, {channel.high:g}. Swap them."
                )
        for name in self.configurations:
            try:
                self._check_configuration(name, axes)
            except ValueError as error:
                raise ValueError(f"configurations.{name}.{error}") from None

    def _check_configuration(self, name: str, axes: int) -> None:
        plan = self.configurations[name]
        if len(plan.patch_size) > axes:
            raise ValueError(f"patch_size: has {len(plan.patch_size)} entries, but the scans have {axes} axes.")
        plan.check(len(self.channels))
        plan.check_stages()
        others = self.configurations.keys() - {name}
        if plan.previous_stage and plan.previous_stage not in others:
            hint = did_you_mean(plan.previous_stage[:100], others)
            raise ValueError(f"previous_stage: {short(plan.previous_stage)} is not another configuration.{hint}")

    def pick(self, name: str | None = None) -> Plan:
        """One configuration.

        Args:
            name: Its name; None for ``3d_fullres`` if it exists, else ``2d``.

        Raises:
            UserError: If there is no such configuration.
        """
        wanted = name or ("3d_fullres" if "3d_fullres" in self.configurations else "2d")
        if wanted not in self.configurations:
            raise UserError(
                f"plan.configuration={wanted}: the plan of {self.dataset} has no such configuration."
                f"{did_you_mean(wanted, self.configurations)} It has: {', '.join(self.configurations)}."
            )
        return self.configurations[wanted]


def shape_at(shape: Sequence[int], spacing: Sequence[float], target: Sequence[float]) -> tuple[int, ...]:
    """Shape of an array at another spacing; at least one voxel per axis.

    Args:
        shape: Voxels.
        spacing: Voxel size in mm along the same axes.
        target: The new voxel size in mm.
    """
    # nnU-Net's order of multiplication, so that halves are rounded identically.
    axes = zip(shape, spacing, target, strict=True)
    return tuple(max(1, round(float(mm) / float(new) * size)) for size, mm, new in axes)
