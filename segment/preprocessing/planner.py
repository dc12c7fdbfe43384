"""From a fingerprint to a plan: nnU-Net's rules, each decision with its reason.

The rules are those of Isensee et al. 2021 (https://doi.org/10.1038/s41592-020-01008-z, supplement, "rule-based
parameters") and for the residual encoder presets of Isensee et al. 2024 (https://arxiv.org/abs/2404.09556), as
implemented in version 2.8.1 of nnU-Net.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from segment.errors import UserError, did_you_mean
from segment.preprocessing.fingerprint import Fingerprint
from segment.preprocessing.patches import MAX_BATCH, PRESETS, Budget, Fitted, fit
from segment.preprocessing.plan import NORMALIZATIONS, DatasetPlan, Intensity, Plan, shape_at

ANISOTROPIC = 3  # times coarser than the other axes
LOWRES_BELOW = 0.25  # fraction of the median scan that a patch of 3d_fullres should cover
CROPPED_BELOW = 0.75  # fraction of a scan that remains after cropping zeros
_BY_CHANNEL = {"ct": "ct", "nonorm": "none", "rescale_to_0_1": "rescale", "rgb_to_0_1": "rgb"}
_AXES = "zyx"


@dataclass(frozen=True)
class Overrides:
    """Settings by the user; None leaves them to the rules.

    Attributes:
        spacing: Voxel size in mm along z, y, x (y, x for 2D images), before the plan's transpose, for the 3D
            configurations; the 2d one uses it within slices.
        patch_size: Voxels along the same axes for the 3D configurations. Two numbers apply to the 2d one, whose
            axes are the last two after the transpose.
        batch_size: Patches per step; the patch size is then chosen for this number.
        normalization: One of :data:`NORMALIZATIONS` for all channels, or a list with one per channel.
    """

    spacing: Sequence[float] | None = None
    patch_size: Sequence[int] | None = None
    batch_size: int | None = None
    normalization: str | Sequence[str] | None = None

    def check(self, dims: int, channels: int, where: str) -> None:
        """Refuse settings that do not match the data.

        Args:
            dims: Spatial axes of the scans.
            channels: Image channels.
            where: Prefix of keys in messages, such as ``plan.``.

        Raises:
            UserError: Naming the key.
        """
        sizes = {dims} if dims == 2 else {2, 3}
        if self.spacing is not None and not _positive(self.spacing, {dims}):
            raise UserError(
                f"{where}spacing={self.spacing} does not match: the scans are {dims}D, so give {dims} positive numbers."
            )
        if self.patch_size is not None and not (
            _positive(self.patch_size, sizes) and all(size == int(size) for size in self.patch_size)
        ):
            raise UserError(
                f"{where}patch_size={self.patch_size} does not match: the scans are {dims}D, so give "
                f"{' or '.join(map(str, sorted(sizes)))} positive integers."
            )
        if self.batch_size is not None and not (isinstance(self.batch_size, int) and 1 <= self.batch_size <= MAX_BATCH):
            raise UserError(f"{where}batch_size={self.batch_size} is invalid: give a positive integer.")
        if self.normalization is None:
            return
        single = isinstance(self.normalization, str)
        names = [self.normalization] if single else self.normalization
        listed = isinstance(names, Sequence) and (single or len(names) == channels)
        if not listed or not all(name in NORMALIZATIONS for name in names):
            wrong = next((str(name) for name in names if name not in NORMALIZATIONS), "") if listed else ""
            raise UserError(
                f"{where}normalization={self.normalization} is invalid: give one of {', '.join(NORMALIZATIONS)} "
                f"for all channels, or a list of {channels}.{did_you_mean(wrong, NORMALIZATIONS)}"
            )


def plan_dataset(
    fingerprint: Fingerprint,
    dataset: str = "",
    preset: str = "nnunet",
    memory: float | None = None,
    overrides: Overrides | None = None,
    where: str = "",
) -> DatasetPlan:
    """Plan every configuration that the rules define for a data set.

    Args:
        fingerprint: Properties of the training scans.
        dataset: Name of the data set.
        preset: A key of :data:`PRESETS`.
        memory: GB of accelerator memory to fill; None for the preset's reference.
        overrides: Settings by the user.
        where: Prefix of keys in messages, such as ``plan.``.

    Returns:
        ``2d`` always; ``3d_fullres`` unless the median scan is 2D; ``3d_lowres`` and ``3d_cascade_fullres`` if a patch
        of ``3d_fullres`` covers less than a quarter of the median scan.

    Raises:
        UserError: If an argument is invalid, or memory cannot hold even the smallest patch.
    """
    overrides = overrides or Overrides()
    memory = _memory(preset, memory, where)
    overrides.check(fingerprint.dims, len(fingerprint.channels), where)
    budget = Budget(PRESETS[preset], memory, fingerprint.labels, overrides.batch_size, where)
    reasons: dict[str, str] = {}
    spacing, reasons["spacing"] = target_spacing(fingerprint, overrides)
    transpose, why = _transpose(spacing, np.median(fingerprint.shapes, axis=0))
    order = transpose or (0, 1)
    normalization, reasons["normalization"] = _normalization(fingerprint, overrides, where)
    shapes = [shape_at(*scan, spacing) for scan in zip(fingerprint.shapes, fingerprint.spacings, strict=True)]
    common = _Common(
        spacing=tuple(spacing[axis] for axis in order),
        median=tuple(float(np.median(shapes, axis=0)[axis]) for axis in order),
        scans=fingerprint.scans,
        budget=budget,
        patches=_patches(overrides, order),
    )
    fitted = _configurations(common)
    intensities = tuple(_rounded(intensity) for intensity in fingerprint.intensities)
    plain = Plan((), (), 0, normalization, transpose, intensities if "ct" in normalization else ())
    texts = {name: reasons | found.reasons | extra for name, (_, found, extra) in fitted.items()}
    return DatasetPlan(
        dataset=dataset,
        preset=preset,
        memory=float(memory),
        scans=fingerprint.scans,
        channels=fingerprint.channels,
        median_shape=tuple(round(float(np.median(fingerprint.shapes, axis=0)[axis])) for axis in order),
        median_spacing=tuple(_short(float(np.median(fingerprint.spacings, axis=0)[axis])) for axis in order),
        transpose=transpose,
        intensities=intensities,
        configurations={name: _filled(plain, name, *fitted[name][:2], "3d_lowres" in fitted) for name in fitted},
        reasons={"transpose": why} | {f"{name}.{key}": text for name in fitted for key, text in texts[name].items()},
    )


def _memory(preset: str, memory: float | None, where: str) -> float:
    """GB to fill; the preset's reference by default."""
    if preset not in PRESETS:
        raise UserError(
            f"{where}preset={preset} does not exist.{did_you_mean(str(preset), PRESETS)} "
            f"The presets are: {', '.join(PRESETS)}."
        )
    if memory is None:
        return PRESETS[preset].memory
    if not isinstance(memory, int | float) or not 1e-6 <= memory <= 1e4:
        raise UserError(f"{where}memory={memory} is invalid: give the memory of one accelerator in GB, such as 8.")
    return memory


def _filled(plain: Plan, name: str, spacing: Sequence[float], found: Fitted, lowres: bool) -> Plan:
    """One configuration's plan."""
    return replace(
        plain,
        spacing=tuple(_short(mm) for mm in spacing),
        patch_size=found.patch,
        batch_size=found.batch,
        strides=found.topology.strides,
        kernel_sizes=found.topology.kernel_sizes,
        features=found.features,
        blocks=found.blocks,
        decoder_blocks=found.decoder_blocks,
        batch_dice=name == "2d" or (name != "3d_lowres" and lowres),
        previous_stage="3d_lowres" if name == "3d_cascade_fullres" else "",
    )


def target_spacing(fingerprint: Fingerprint, overrides: Overrides | None = None) -> tuple[tuple[float, ...], str]:
    """The voxel size that scans are resampled to at full resolution.

    Args:
        fingerprint: Properties of the training scans.
        overrides: A spacing given here is used unchanged.

    Returns:
        mm along z, y, x (y, x for 2D images), and the reason.
    """
    if overrides is not None and overrides.spacing is not None:
        return tuple(float(mm) for mm in overrides.spacing), "set by the user"
    spacings = np.array(fingerprint.spacings)
    target, size = np.percentile(spacings, 50, axis=0), np.percentile(fingerprint.shapes, 50, axis=0)
    why = f"median of {fingerprint.scans} scans"
    if fingerprint.dims == 2:
        return tuple(target.tolist()), why
    coarse = int(np.argmax(target))
    others = [axis for axis in range(3) if axis != coarse]
    widest = max(target[others])
    if target[coarse] > ANISOTROPIC * widest and size[coarse] * ANISOTROPIC < min(size[others]):
        tenth = np.percentile(spacings[:, coarse], 10)
        target[coarse] = tenth if tenth >= widest else widest + 1e-5
        why += (
            f"; along {_AXES[coarse]} the 10th percentile, because the axis is over {ANISOTROPIC} times coarser and "
            f"has under 1/{ANISOTROPIC} of the voxels of the others"
        )
    return tuple(target.tolist()), why


def _transpose(spacing: Sequence[float], size: np.ndarray) -> tuple[tuple[int, ...], str]:
    """Put the coarsest axis first, so that slices have the highest resolution; an axis of a single slice before it."""
    if len(spacing) == 2:
        return (), ""
    coarse = int(np.argmax(spacing))
    if size[coarse] > 1 and (single := np.flatnonzero(size == 1)).size:
        first = int(single[0])
        return (
            first,
            *(axis for axis in range(3) if axis != first),
        ), f"the scans are single slices along {_AXES[first]}"
    order = (coarse, *(axis for axis in range(3) if axis != coarse))
    return (
        order,
        "z is the coarsest axis, or equally coarse"
        if coarse == 0
        else f"{_AXES[coarse]} is the coarsest axis, so it comes first",
    )


def _normalization(fingerprint: Fingerprint, overrides: Overrides, where: str) -> tuple[tuple[str, ...], str]:
    """One method per channel, by the channel's name."""
    channels = fingerprint.channels
    if overrides.normalization is not None:
        names = overrides.normalization
        chosen, why = ((names,) * len(channels) if isinstance(names, str) else tuple(names)), "set by the user"
    else:
        masked = fingerprint.relative_size < CROPPED_BELOW
        zscore = "masked_zscore" if masked else "zscore"
        chosen = tuple(_BY_CHANNEL.get(name.casefold(), zscore) for name in channels)
        why = "by channel name"
        if masked and zscore in chosen:
            why += f"; over nonzero voxels, since cropping keeps {fingerprint.relative_size:.0%} of the median scan"
    if "ct" in chosen and not fingerprint.intensities:
        raise UserError(
            f"{where}normalization: ct needs the intensities within the labels, but no scan has a labelled voxel. "
            f"Check the labels, or give {where}normalization=zscore."
        )
    return chosen, why


@dataclass(frozen=True)
class _Common:
    """Common input of the configurations of a data set; axes after the transpose."""

    spacing: tuple[float, ...]
    median: tuple[float, ...]
    scans: int
    budget: Budget
    patches: dict[int, tuple[int, ...]]

    def fit(self, spacing: Sequence[float], median: Sequence[float], voxels: float) -> Fitted:
        return fit(self.budget, spacing, median, voxels, self.patches.get(len(spacing)))


def _patches(overrides: Overrides, order: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """The user's patch size by number of axes; a 3D one is reordered to the transposed axes."""
    if overrides.patch_size is None:
        return {}
    size = tuple(int(side) for side in overrides.patch_size)
    return {3: tuple(size[axis] for axis in order)} if len(size) == 3 else {2: size}


def _configurations(common: _Common) -> dict[str, tuple[Sequence[float], Fitted, dict[str, str]]]:
    """Spacing, patch and network, and additional reasons, by configuration."""
    spacing, median = common.spacing, common.median
    voxels = math.prod(median) * common.scans
    flat = common.fit(spacing[-2:], median[-2:], voxels)
    slice_reason = {"batch_dice": "many slices lack labels that other slices of the batch contain"}
    found: dict[str, tuple[Sequence[float], Fitted, dict[str, str]]] = {"2d": (spacing[-2:], flat, slice_reason)}
    if len(spacing) == 2 or median[0] == 1:
        return found
    full = common.fit(spacing, median, voxels)
    lowres = _lowres(common, full)
    patch_reason = {"batch_dice": "a patch covers much of a scan"}
    if lowres is None:
        return found | {"3d_fullres": (spacing, full, patch_reason)}
    coverage = f"a patch covers {math.prod(full.patch) / math.prod(median):.2g} of the median scan"
    coarser = f"that of 3d_fullres, coarsened until a patch covers {LOWRES_BELOW:g} of the median scan"
    return found | {
        "3d_lowres": (lowres[0], lowres[1], {"spacing": coarser} | patch_reason),
        "3d_fullres": (spacing, full, {"batch_dice": coverage}),
        "3d_cascade_fullres": (spacing, full, {"batch_dice": coverage, "previous_stage": f"in 3d_fullres {coverage}"}),
    }


def _lowres(common: _Common, full: Fitted) -> tuple[Sequence[float], Fitted] | None:
    """Coarser spacing, in steps of 3 %, at which a patch covers a quarter of the scan; None if it gains little."""
    spacing, found = np.array(common.spacing), full
    before = voxels = math.prod(common.median)
    while math.prod(found.patch) / voxels < LOWRES_BELOW:
        fine = max(spacing) / spacing > 2  # finer axes first, until all are within a factor of 2
        spacing[fine if fine.any() else slice(None)] *= 1.03
        median = [float(size) for size in np.array(common.spacing) / spacing * np.array(common.median)]
        voxels = math.prod(median)
        found = common.fit(spacing.tolist(), [max(1, round(size)) for size in median], voxels * common.scans)
    return None if before / voxels < 2 else (spacing.tolist(), found)


def _positive(value: object, lengths: set[int]) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and len(value) in lengths
        and all(isinstance(number, int | float) and 0 < number < math.inf for number in value)
    )


def _short(number: float) -> float:
    """Round to seven digits, the single precision of headers: 0.7812501 instead of 0.7812501192092896."""
    return float(f"{number:.7g}")


def _rounded(intensity: Intensity) -> Intensity:
    return replace(intensity, **{key: _short(value) for key, value in vars(intensity).items()})
