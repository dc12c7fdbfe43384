"""Many small scans in one data set: does the time of each command grow only as fast as their number?

    python benchmarks/many_scans.py                             1,000, 2,000, 5,000 and 10,000 scans
    python benchmarks/many_scans.py --sizes 1000 2000 --labels 3

The scans are 8x8x8 voxels, so what is measured is everything but voxels: listing, hashing, splits, tables, pages.
`start` is `train debug=fast_dev_run` until its end (every scan prepared, one step, one scan validated), `again` the
same with everything prepared. `compare` reads two runs of so many validation scans. No peer does the same.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from _machine import describe
from comparing import make_runs

from segment.runs.summary import summarise

TRAIN = ("network=unet_small", "network.encoder.features=[4,8]", "plan.patch_size=[8,8,8]", "trainer.precision=32-true",
         "debug=fast_dev_run", "name=x")  # fmt: skip


def make_scans(root: Path, count: int, labels: int) -> None:
    """Write a data set in the layout of the Medical Segmentation Decathlon."""
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    random = np.random.default_rng(0)
    mask = np.zeros((8, 8, 8), np.uint8)
    for value in range(1, labels + 1):
        mask[1:7, 1:7, value % 6 + 1] = value
    training = []
    for number in range(count):
        names = [f"{folder}/scan_{number:05d}.nii.gz" for folder in ("imagesTr", "labelsTr")]
        image = (mask * 20 + random.integers(0, 10, mask.shape)).astype(np.int16)
        for name, voxels in zip(names, (image, mask), strict=True):
            nib.save(nib.Nifti1Image(voxels, np.eye(4)), root / name)
        training.append(dict(zip(("image", "label"), names, strict=True)))
    names = {"0": "background"} | {str(value): f"organ_{value}" for value in range(1, labels + 1)}
    described = {"modality": {"0": "CT"}, "labels": names, "training": training, "test": []}
    (root / "dataset.json").write_text(json.dumps(described))


Times = tuple[float, float]  # seconds on the clock, and of processors


def timed(folder: Path, *words: str) -> Times:
    """Times of a command, from the shell and back."""
    start, before = time.perf_counter(), os.times()
    command = [sys.executable, "-m", "segment.cli", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)}\n{done.stderr[-3000:]}")
    spent, after = time.perf_counter() - start, os.times()
    return spent, after.children_user + after.children_system - before.children_user - before.children_system


def measured(folder: Path, count: int, labels: int) -> Iterator[tuple[str, Times]]:
    """Name and times of each part of the work, with so many scans."""
    make_scans(folder / "data", count, labels)
    given = ("data=auto", f"data.root={folder / 'data'}", f"cache={folder / 'cache'}")
    yield "check", timed(folder, "check", *given)
    yield "plan", timed(folder, "plan", *given, f"output={folder / 'plan.yaml'}")
    for part in ("start", "again"):
        yield part, timed(folder, "train", *given, *TRAIN, f"output={folder / 'run'}")
    (folder / "runs").mkdir()
    make_runs(folder / "runs", 2, count, labels)
    table = pd.read_csv(folder / "runs" / "run_00" / "scans.csv", dtype={"case": str})
    start, before = time.perf_counter(), time.process_time()
    summarise(table, {"split": "val"})
    yield "summary", (time.perf_counter() - start, time.process_time() - before)
    yield "compare", timed(folder, "compare", f"runs={folder}/runs/run_*", f"output={folder / 'out'}")


def main() -> None:
    """Measure every size, and print how the seconds grow from the first to the last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 2000, 5000, 10_000])
    parser.add_argument("--labels", type=int, default=2)
    given = parser.parse_args()
    describe("float64")
    found: dict[int, dict[str, Times]] = {}
    for count in given.sizes:
        with tempfile.TemporaryDirectory() as folder:
            found[count] = dict(measured(Path(folder), count, given.labels))
        line = "  ".join(f"{part} {spent:.1f} s ({busy:.1f})" for part, (spent, busy) in found[count].items())
        print(f"{count} scans, seconds (of processors): {line}", flush=True)
    first, last = min(found), max(found)
    growth = "  ".join(f"{part} x {found[last][part][1] / found[first][part][1]:.1f}" for part in found[last])
    print(f"{last / first:.1f} times the scans, processor seconds: {growth}")
    print(f"peak memory of one command {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
