"""What a training patch costs to read, by the size of its scan; beside a mapped .npy file and reading the whole scan.

Every time is the median of reads at random places with the files in the page cache, opening included. On Linux also the
read calls of a patch and their bytes, which take long on a network file system; a mapped file is read by page faults.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from _machine import describe

from segment.data.synthetic.fake import fake_dataset
from segment.files import hash_files
from segment.preprocessing.plan import Intensity, Plan
from segment.preprocessing.store import Store
from segment.provenance import peak_memory_mb

FOREGROUND = Intensity(mean=50, sd=60, low=-200, high=600)
SPACING = (1.0, 0.8, 0.8)
PLANNED = (1.1, 0.9, 0.9)  # another one, so that scans are resampled


def milliseconds(
    name: str, read: Callable[[tuple[slice, ...]], np.ndarray], shape: tuple[int, ...], patch: tuple[int, ...]
) -> float:
    """Median of 21 reads of a patch at random places; says how many calls one takes."""
    random, times = np.random.default_rng(0), []
    for turn in range(22):
        if turn == 1:
            before = calls()
        corner = [int(random.integers(0, max(0, size - extent) + 1)) for size, extent in zip(shape, patch, strict=True)]
        box = tuple(slice(start, start + extent) for start, extent in zip(corner, patch, strict=True))
        start = time.perf_counter()
        read(box)
        times.append(time.perf_counter() - start)
    if before:
        count, size = ((after - early) / 21 for early, after in zip(before, calls(), strict=True))
        print(f"  {name:14} {count:8.0f} read calls and {size / 1e6:6.1f} MB a patch")
    return 1000 * float(np.median(times[1:]))


def calls() -> tuple[int, ...]:
    """Read calls of this process and their bytes; empty where the system does not count them."""
    counted = Path("/proc/self/io")
    if not counted.exists():
        return ()
    values = dict(line.split(": ") for line in counted.read_text().splitlines())
    return int(values["syscr"]), int(values["rchar"])


def measure(folder: Path, shape: tuple[int, ...], patch: tuple[int, ...], dtype: str) -> dict[str, float]:
    """Prepare one scan, whose prepared shape is about ``shape``, and read patches of it."""
    source = [max(8, round(n * mm / own)) for n, mm, own in zip(shape, PLANNED, SPACING, strict=True)]
    dataset = fake_dataset(folder / "scans", 1, source, SPACING)
    case = dataset.cases[0]
    assert case.label is not None
    plan = Plan(PLANNED, patch, 2, ("ct",), intensities=(FOREGROUND,))
    store = Store(folder / "store", dataset, plan, hash_files([*case.images, case.label]), dtype=dtype)
    start = time.perf_counter()
    store.prepare([case])
    prepared = time.perf_counter() - start
    file = store.path(case) / "image.b2nd"
    file.read_bytes()
    scan = store.load(case)
    spatial = scan.image.shape[1:]
    np.save(folder / "raw.npy", scan.image[...])
    (folder / "raw.npy").read_bytes()
    print(
        f"{' x '.join(map(str, spatial))} voxels: prepared in {prepared:.1f} s; {file.stat().st_size / 1e6:.0f} MB, "
        f"raw {4 * np.prod(spatial) / 1e6:.0f} MB"
    )
    ways: dict[str, Callable[[tuple[slice, ...]], np.ndarray]] = {
        "chunked store": lambda box: store.load(case).image[(..., *box)],
        "mapped .npy": lambda box: np.array(np.load(folder / "raw.npy", mmap_mode="r")[(..., *box)]),
        "whole .npy": lambda box: np.load(folder / "raw.npy")[(..., *box)],
    }
    return {name: milliseconds(name, read, spatial, patch) for name, read in ways.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, nargs=3, default=[128, 128, 128])
    parser.add_argument("--large", type=int, nargs=3, default=[1000, 512, 512])
    parser.add_argument(
        "--patches", type=int, nargs="+", default=[128, 128, 128, 40, 56, 40], help="three numbers each"
    )
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="of the chunked store")
    given = parser.parse_args()
    describe(given.dtype)
    patches = [tuple(given.patches[i : i + 3]) for i in range(0, len(given.patches), 3)]
    for patch in patches:
        with tempfile.TemporaryDirectory() as small, tempfile.TemporaryDirectory() as large:
            times = [
                measure(Path(folder), tuple(shape), patch, given.dtype)
                for folder, shape in ((small, given.small), (large, given.large))
            ]
        print(f"patch of {' x '.join(map(str, patch))}:")
        for way in times[0]:
            few, many = times[0][way], times[1][way]
            print(f"  {way:14} {few:8.2f} ms from the small scan, {many:8.2f} ms from the large: x {many / few:.2f}")
    print(f"peak memory of the whole benchmark {peak_memory_mb() / 1000:.1f} GB")


if __name__ == "__main__":
    main()
