"""What was decided for a data set: how its scans are prepared and cut, and the network that fits them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from segment.errors import UserError, did_you_mean

NORMALIZATIONS = ("zscore", "masked_zscore", "ct", "rescale", "rgb", "percentiles", "none")


@dataclass(frozen=True)
class Intensity:
    """Intensities of one channel within the foreground of the training scans, each scan counting the same.

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
    """How scans are prepared and cut, and the network that fits them: one configuration of a plan file.

    Axes are in array order, z, y, x after orientation to RAS and then after `transpose`; y, x for flat images.

    Attributes:
        spacing: Voxel size in mm that every scan is resampled to. Two numbers where 3D scans are cut into slices
            (nnU-Net's 2d configuration): the slices keep their own distance.
        patch_size: Voxels of a training patch and of an inference window, as many numbers as `spacing`.
        batch_size: Patches a step.
        normalization: One of `NORMALIZATIONS` a channel.
        transpose: For each axis of the scan, which anatomical axis (0: z, 1: y, 2: x) it was: ``(0, 1, 2)`` leaves them
            as they are; nnU-Net puts the coarsest first. Empty: as they are, and as many as `spacing` has.
        intensities: One a channel; needed by ``ct`` alone, may be empty otherwise.
        strides: Step into each stage of the network, one number an axis of the patch.
        kernel_sizes: Kernel of each stage, one number an axis of the patch.
        features: Feature maps of each stage.
        blocks: Convolutions (or residual blocks) of each encoder stage.
        decoder_blocks: Convolutions of each decoder stage, coarsest last as in `blocks`; one fewer.
        batch_dice: Whether the Dice loss counts a batch as one large scan, rather than each patch for itself.
        previous_stage: Configuration whose predictions are this one's further input (a cascade); empty for none.
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
            LookupError: When one of the first four entries is missing.
            TypeError: When an entry is of another kind.
            ValueError: When a number is none.
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
    """Everything that was decided for a data set: the content of a plan file.

    Axes are those of :class:`Plan`: z, y, x after `transpose`; y, x for flat images.

    Attributes:
        dataset: Name of the data set.
        preset: Set of rules that decided, a key of :data:`segment.preprocessing.planner.PRESETS`.
        memory: Memory of the accelerator in GB that patch and batch were chosen for.
        scans: Number of training scans that it was decided from.
        channels: Channel names.
        median_shape: Voxels of the median scan, cropped to what is not 0, at its own spacing.
        median_spacing: Median voxel size in mm.
        transpose: As in :class:`Plan`; empty for flat images.
        intensities: One a channel; empty where no scan has foreground.
        configurations: By name: ``2d``, ``3d_fullres``, ``3d_lowres``, ``3d_cascade_fullres`` or one of the user's own.
        reasons: Why, by ``KEY`` or ``CONFIGURATION.KEY``; not part of what makes two plans equal.
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
            name: Its name; None for ``3d_fullres`` where there is one, else ``2d``.

        Raises:
            UserError: When there is none of that name.
        """
        wanted = name or ("3d_fullres" if "3d_fullres" in self.configurations else "2d")
        if wanted not in self.configurations:
            raise UserError(
                f"plan.configuration={wanted}: the plan of {self.dataset} has none of that name."
                f"{did_you_mean(wanted, self.configurations)} It has: {', '.join(self.configurations)}."
            )
        return self.configurations[wanted]


def shape_at(shape: Sequence[int], spacing: Sequence[float], target: Sequence[float]) -> tuple[int, ...]:
    """Shape of an array at another spacing; at least one voxel an axis.

    Args:
        shape: Voxels.
        spacing: Voxel size in mm along the same axes.
        target: The other voxel size.
    """
    # nnU-Net's order of multiplying, so that halves are rounded alike.
    axes = zip(shape, spacing, target, strict=True)
    return tuple(max(1, round(float(mm) / float(new) * size)) for size, mm, new in axes)
