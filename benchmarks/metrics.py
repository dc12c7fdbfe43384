"""Scoring whole scans: overlap and surface metrics, each beside the programs that compute the same.

    python benchmarks/metrics.py                          14 classes at 128^3, 3 labels, 117 classes at 300x512x512
    python benchmarks/metrics.py --size 64 --whole 0      smaller, without the last

Every program scores the same masks in this process, one after the other, the quickest of so many rounds.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _machine import describe
from monai import metrics as monai
from scipy.ndimage import binary_erosion, distance_transform_edt

from segment.metrics.hausdorff import HausdorffDistance
from segment.metrics.metric import Metric
from segment.metrics.scan import score_scan
from segment.metrics.surface_dice import SurfaceDice
from segment.metrics.surface_distance import AverageSymmetricSurfaceDistance

SPACING = (1.5, 0.8, 0.8)
SURFACES: tuple[Metric, ...] = (HausdorffDistance(), AverageSymmetricSurfaceDistance(), SurfaceDice(2))


def ellipsoids(shape: tuple[int, ...], classes: int, largest: float) -> tuple[np.ndarray, np.ndarray]:
    """Prediction and reference (*shape) uint8 of so many ellipsoids with half axes up to `largest` voxels."""
    random = np.random.default_rng(0)
    reference = np.zeros(shape, np.uint8)
    for index in range(1, classes):
        radii = random.uniform(0.3, 1, 3) * largest
        centre = np.array([random.uniform(min(r, s / 2), max(s - r, s / 2)) for r, s in zip(radii, shape, strict=True)])
        low = np.maximum(0, centre - radii).astype(int)
        high = np.minimum(shape, centre + radii + 1).astype(int)
        box = tuple(slice(start, stop) for start, stop in zip(low, high, strict=True))
        grid = np.ogrid[box]
        away = sum(((axis - c) / r) ** 2 for axis, c, r in zip(grid, centre, radii, strict=True))
        reference[box][away < 1] = index
    return np.roll(reference, (1, 2, -1), (0, 1, 2)), reference


def quickest(function: Callable[[], Any], rounds: int) -> float:
    """Seconds of the quickest of so many rounds, after one that does not count."""
    function()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def compare(ours: float, peers: dict[str, float]) -> None:
    """Print the times in milliseconds and how often ours fits into each."""
    print(f"  segment {1000 * ours:9.1f} ms")
    for name, theirs in peers.items():
        print(f"  {name:16} {1000 * theirs:9.1f} ms   ratio {theirs / ours:.1f}")


def overlap(size: int, rounds: int) -> None:
    """Dice and IoU of 14 classes."""
    prediction, reference = ellipsoids((size,) * 3, 14, size / 4)
    structures = {str(index): [index] for index in range(1, 14)}
    print(f"Dice and IoU of 14 classes, {size}^3")
    ours = quickest(lambda: score_scan(prediction, reference, structures, 14), rounds)

    def with_monai() -> None:
        masks = [torch.from_numpy(mask)[None, None].long() for mask in (prediction, reference)]
        one_hot = [torch.zeros(1, 14, size, size, size).scatter_(1, mask, 1) for mask in masks]
        monai.DiceMetric(include_background=False)(*one_hot)
        monai.MeanIoU(include_background=False)(*one_hot)

    compare(ours, {"MONAI": quickest(with_monai, rounds)})


def surfaces(size: int, rounds: int) -> None:
    """HD95, ASSD and NSD of 3 labels."""
    prediction, reference = ellipsoids((size,) * 3, 4, size / 4)
    structures = {str(index): [index] for index in range(1, 4)}
    print(f"HD95, ASSD and NSD of 3 labels, {size}^3, spacing {SPACING}")

    peers: dict[str, Callable[[np.ndarray, np.ndarray], Any]] = {
        "MONAI": with_monai, "scipy, whole": with_scipy, **optional_peers()
    }  # fmt: skip
    times = {}
    for name, peer in peers.items():

        def every_label(peer: Callable[[np.ndarray, np.ndarray], Any] = peer) -> None:
            for index in range(1, 4):
                peer(prediction == index, reference == index)

        times[name] = quickest(every_label, rounds)
    ours = quickest(lambda: score_scan(prediction, reference, structures, 4, None, SURFACES, SPACING), rounds)
    compare(ours, times)


def with_monai(prediction: np.ndarray, reference: np.ndarray) -> None:
    """MONAI's functions; NSD over areas, as ours."""
    masks = [torch.from_numpy(mask)[None, None] for mask in (prediction, reference)]
    spacing = list(SPACING)
    monai.compute_hausdorff_distance(*masks, True, percentile=95, spacing=spacing)
    monai.compute_average_surface_distance(*masks, True, symmetric=True, spacing=spacing)
    monai.compute_surface_dice(*masks, [2.0], True, spacing=spacing, use_subvoxels=True)


def with_scipy(prediction: np.ndarray, reference: np.ndarray) -> None:
    """Distance transforms of the whole volume: HD95 and ASSD only."""
    edges = [mask & ~binary_erosion(mask) for mask in (prediction, reference)]
    there, back = (distance_transform_edt(~second, sampling=SPACING)[first] for first, second in (edges, edges[::-1]))
    max(np.percentile(there, 95), np.percentile(back, 95))
    np.concatenate([there, back]).mean()


def optional_peers() -> dict[str, Callable[[np.ndarray, np.ndarray], Any]]:
    """surface-distance and MedPy, where they are installed (tests/requirements-no-deps.txt)."""
    found: dict[str, Callable[[np.ndarray, np.ndarray], Any]] = {}
    try:
        import surface_distance
        from medpy.metric import binary
    except ImportError as error:
        print(f"  ({error.name} is not installed)")
        return found

    def with_surface_distance(prediction: np.ndarray, reference: np.ndarray) -> None:
        distances = surface_distance.compute_surface_distances(reference, prediction, SPACING)
        surface_distance.compute_robust_hausdorff(distances, 95)
        surface_distance.compute_average_surface_distance(distances)
        surface_distance.compute_surface_dice_at_tolerance(distances, 2)

    def with_medpy(prediction: np.ndarray, reference: np.ndarray) -> None:
        binary.hd95(prediction, reference, SPACING)
        binary.assd(prediction, reference, SPACING)

    return {"surface-distance": with_surface_distance, "MedPy, no NSD": with_medpy}


def whole_body(shape: tuple[int, int, int]) -> None:
    """117 classes of a scan of the whole body, beside reading both masks once."""
    prediction, reference = ellipsoids(shape, 117, min(shape) / 8)
    structures = {str(index): [index] for index in range(1, 117)}
    reading = quickest(lambda: (prediction.sum(), reference.sum()), 2)
    counting = quickest(lambda: score_scan(prediction, reference, structures, 117), 1)
    start = time.perf_counter()
    score_scan(prediction, reference, structures, 117, None, SURFACES, SPACING)
    print(f"117 classes, {'x'.join(map(str, shape))}")
    print(f"  reading both masks once {reading:.3f} s; Dice and IoU {counting:.3f} s, ratio {counting / reading:.1f}")
    print(f"  HD95, ASSD and NSD {time.perf_counter() - start:.1f} s")


def main() -> None:
    """Score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=128, help="extent of the cubes")
    parser.add_argument("--whole", type=int, nargs="+", default=(300, 512, 512), help="extents of the body; 0 for none")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    describe("float64")
    print(f"{torch.get_num_threads()} threads of torch")
    overlap(given.size, given.rounds)
    surfaces(given.size, given.rounds)
    if len(given.whole) == 3:
        whole_body(tuple(given.whole))


if __name__ == "__main__":
    main()
