"""The plan of a data set: preprocessing, patch and batch size, and network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from segment.errors import UserError, did_you_mean

NORMALIZATIONS = ("zscore", "masked_zscore", "ct", "rescale", "rgb", "percentiles", "none")


@dataclass(frozen=True)
class Intensity:
    """Intensities of one channel within the foreground of the training scans, with all scans weighted equally.

    Attributes:
        mean: Mean.
        sd: Standard deviation.
        low: 0.5th percentile.
        high: 99.5th percentile.
    """

    mean: float
    sd: float
    low: float
    high: float


@dataclass(frozen=True)
class Plan:
    """Preprocessing, patch and batch size, and network: one configuration of a plan file.

    Axes are in array order, z, y, x after orientation to RAS and then after `transpose`; y, x for 2D images.

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
    """

    spacing: tuple[float, ...]
    patch_size: tuple[int, ...]
    batch_size: int
    normalization: tuple[str, ...]
    transpose: tuple[int, ...] = ()
    intensities: tuple[Intensity, ...] = ()
    strides: tuple[tuple[int, ...], ...] = ()
    kernel_sizes: tuple[tuple[int, ...], ...] = ()
    features: tuple[int, ...] = ()
    blocks: tuple[int, ...] = ()
    decoder_blocks: tuple[int, ...] = ()
    batch_dice: bool = False
    previous_stage: str = ""

    @property
    def sliced(self) -> bool:
        """Whether 3D scans are cut into slices along their first axis."""
        return len(self.transpose) == 3 and len(self.patch_size) == 2

    def as_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, as written to model.json."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Plan:
        """Inverse of :meth:`as_dict`.

        Raises:
            LookupError: If one of the first four entries is missing.
            TypeError: If an entry has the wrong type.
            ValueError: If a number is invalid.
        """

        def numbers(key: str) -> tuple[int, ...]:
            return tuple(int(number) for number in content.get(key, ()))

        def rows(key: str) -> tuple[tuple[int, ...], ...]:
            return tuple(tuple(int(number) for number in row) for row in content.get(key, ()))

        return cls(
            spacing=tuple(float(mm) for mm in content["spacing"]),
            patch_size=tuple(int(size) for size in content["patch_size"]),
            batch_size=int(content["batch_size"]),
            normalization=tuple(str(name) for name in content["normalization"]),
            transpose=numbers("transpose"),
            intensities=tuple(
                Intensity(**{key: float(row[key]) for key in ("mean", "sd", "low", "high")})
                for row in content.get("intensities", ())
            ),
            strides=rows("strides"),
            kernel_sizes=rows("kernel_sizes"),
            features=numbers("features"),
            blocks=numbers("blocks"),
            decoder_blocks=numbers("decoder_blocks"),
            batch_dice=bool(content.get("batch_dice", False)),
            previous_stage=str(content.get("previous_stage", "")),
        )


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

    dataset: str
    preset: str
    memory: float
    scans: int
    channels: tuple[str, ...]
    median_shape: tuple[int, ...]
    median_spacing: tuple[float, ...]
    transpose: tuple[int, ...]
    intensities: tuple[Intensity, ...]
    configurations: Mapping[str, Plan]
    reasons: Mapping[str, str] = field(default_factory=dict, compare=False)

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
