"""nnU-Net's augmentation as `augment=nnunet` does it, beside batchgeneratorsv2 with the same recipe, on the same cores.

Both get the boxes they ask for from one volume in memory: the peer always nnU-Net's larger source patch, ours a larger
one only for samples that move. Cutting is timed for both. The peer is no dependency; to have it beside ours:

    pip install --no-deps --target PEER batchgeneratorsv2==0.3.6 scikit-image lazy_loader imageio tifffile
    PYTHONPATH=PEER python benchmarks/augmentation.py [--patch 128 128 128] [--batch 2] [--samples 200] [--threads 1]
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable

import numpy as np
import torch
from _machine import describe

from segment.config.build import make
from segment.config.compose import compose

Sample = Callable[[int], None]


def volume(size: list[int], classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A normalised image and nested balls as reference, larger than any box that is asked for."""
    shape = [int(2.25 * n) + 1 for n in size]
    axes = torch.meshgrid(*[torch.linspace(-1, 1, n) for n in shape], indexing="ij")
    radius = torch.stack(axes).norm(dim=0)
    reference = (classes * (1 - radius / 0.8)).clamp(0, classes - 1).ceil().to(torch.uint8)
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(0)), reference[None]


def middle(part: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """A copy of the box in the middle, as a loader makes one."""
    corner = [(n - s) // 2 for n, s in zip(part.shape[1:], size, strict=True)]
    return part[(slice(None), *(slice(c, c + s) for c, s in zip(corner, size, strict=True)))].clone()


def our_batches(patch: list[int], batch: int, image: torch.Tensor, reference: torch.Tensor) -> Sample:
    config = compose("train", ["augment=nnunet"])
    recipe = make(config, "augment")
    spacing = [1.0] * len(patch)

    def one(number: int) -> None:
        samples = range(number * batch, (number + 1) * batch)
        boxes = [recipe.extent(sample, patch, spacing) for sample in samples]
        images, references = ([middle(part, box) for box in boxes] for part in (image, reference))
        recipe(images, references, samples, spacing, patch)

    return one


def peer_batches(patch: list[int], batch: int, image: torch.Tensor, reference: torch.Tensor) -> Sample:
    """nnU-Net 2.8.1's transforms, without its loss's downsampling."""
    from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
    from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
    from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
    from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
    from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
    from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
    from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
    from batchgeneratorsv2.transforms.utils.pseudo2d import Convert2DTo3DTransform, Convert3DTo2DTransform
    from batchgeneratorsv2.transforms.utils.random import RandomTransform
    from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTansform

    flat = len(patch) == 3 and max(patch) > 3 * patch[0]
    degrees = 180 if flat or len(patch) == 2 else 30
    angle, factor = np.deg2rad(degrees), BGContrast((0.75, 1.25))
    spatial = SpatialTransform(
        patch[1:] if flat else patch, 0, False, p_rotation=0.2, rotation=(-angle, angle), p_scaling=0.2,
        scaling=(0.7, 1.4), p_synchronize_scaling_across_axes=1, bg_style_seg_sampling=False,
        border_mode_seg="constant", padding_value_seg=-1,
    )  # fmt: skip
    chances = [
        (GaussianNoiseTransform((0, 0.1), 1, True), 0.1),
        (GaussianBlurTransform((0.5, 1.0), False, False, 0.5, benchmark=True), 0.2),
        (MultiplicativeBrightnessTransform(factor, False, 1), 0.15),
        (ContrastTransform(factor, True, False, 1), 0.15),
        (SimulateLowResolutionTransform((0.5, 1), False, True, (0,) if flat else None, None, 0.5), 0.25),
        (GammaTransform(BGContrast((0.7, 1.5)), 1, False, 1, 1), 0.1),
        (GammaTransform(BGContrast((0.7, 1.5)), 0, False, 1, 1), 0.3),
    ]
    transforms = ComposeTransforms(
        [
            *([Convert3DTo2DTransform(), spatial, Convert2DTo3DTransform()] if flat else [spatial]),
            *(RandomTransform(transform, chance) for transform, chance in chances),
            MirrorTransform(tuple(range(len(patch)))),
            RemoveLabelTansform(-1, 0),
        ]
    )
    box = source_patch(patch, degrees, flat)
    signed = reference.to(torch.int16)  # nnU-Net's type, with -1 for what lies outside

    def one(number: int) -> None:
        torch.manual_seed(number)
        np.random.seed(number)  # noqa: NPY002
        images = torch.empty(batch, 1, *patch)
        references = torch.empty(batch, 1, *patch, dtype=torch.int16)
        for i in range(batch):
            changed = transforms(image=middle(image, box), segmentation=middle(signed, box))
            images[i], references[i] = changed["image"], changed["segmentation"]

    return one


def source_patch(patch: list[int], degrees: float, flat: bool) -> tuple[int, ...]:
    """nnU-Net's larger patch: the farthest that one rotation at a time takes a corner, over 0.85."""
    angle = np.deg2rad(min(degrees, 90))
    sizes = np.array(patch, float)
    largest = sizes.copy()
    for i in range(len(patch)):
        for j in range(len(patch)):
            if i != j:
                largest[i] = max(largest[i], sizes[i] * np.cos(angle) + sizes[j] * np.sin(angle))
    result = [int(n / 0.85) for n in largest]
    return (patch[0], *result[1:]) if flat else tuple(result)


def seconds(makers: dict[str, Sample], batches: int) -> dict[str, np.ndarray]:
    """Seconds of each batch, after a few that are not counted; in turns, so that a busy machine is busy for all."""
    times: dict[str, list[float]] = {name: [] for name in makers}
    for number in range(-5, batches):
        for name, one in makers.items():
            started = time.perf_counter()
            one(number % batches)
            if number >= 0:
                times[name].append(time.perf_counter() - started)
    return {name: np.array(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patch", type=int, nargs="+", default=[128, 128, 128])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    data = volume(given.patch, given.classes)
    batches = given.samples // given.batch
    describe("float32")
    print(f"{given.threads} threads, {batches} x {given.batch} x 1 x {given.patch}, {given.classes} classes")
    makers = {"segment": our_batches(given.patch, given.batch, *data)}
    if importlib.util.find_spec("batchgeneratorsv2"):
        makers["batchgeneratorsv2"] = peer_batches(given.patch, given.batch, *data)
    else:
        print("batchgeneratorsv2 is not installed; this file's first lines say how to have it beside ours.")
    cost = {}
    for name, times in seconds(makers, batches).items():
        per_sample = 1000 * times / given.batch
        cost[name] = per_sample.mean()
        error = per_sample.std() / np.sqrt(batches)
        print(
            f"{name:<18} {cost[name]:6.1f} +- {error:.1f} ms a sample (median of batches {np.median(per_sample):.1f})"
        )
    if len(cost) == 2:
        print(f"ratio {cost['batchgeneratorsv2'] / cost['segment']:.2f} x as fast")


if __name__ == "__main__":
    main()
