"""Many small scans in one data set: does the time of each command grow only as fast as their number?

    python benchmarks/many_scans.py                             1,000, 2,000, 5,000 and 10,000 scans
    python benchmarks/many_scans.py --sizes 1000 2000 --labels 3
    python benchmarks/many_scans.py --tables --sizes 1000 5000 --labels 100   summary and page alone

The scans are 8x8x8 voxels, so what is measured is everything but voxels: listing, hashing, splits, tables, pages.
`start` is `train debug=fast_dev_run` until its end (every scan prepared, one step, one scan validated), `again` the
same with everything prepared. `page` is the run page without pictures, `open` the shortest of five times that Chromium
takes to draw it, if there is one. `compare` reads two runs of so many validation scans. No peer does the same.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import shutil
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
from playwright.sync_api import sync_playwright

from segment.report.run_page import write_page
from segment.runs.scans import read_scans
from segment.runs.summary import summarise, write_summary

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
    table = read_scans(folder / "runs" / "run_00" / "scans.csv")
    yield from of_one_run(folder / "runs" / "run_00", table)
    yield "compare", timed(folder, "compare", f"runs={folder}/runs/run_*", f"output={folder / 'out'}")


def of_one_run(run: Path, table: pd.DataFrame) -> Iterator[tuple[str, Times]]:
    """Times of the summary of a table of scans, of its page, and of opening that in Chromium if there is one."""
    start, before = time.perf_counter(), time.process_time()
    summary = summarise(table, {"split": "val"})
    yield "summary", (time.perf_counter() - start, time.process_time() - before)
    write_summary(run / "summary.json", summary)
    (run / "provenance.json").write_text("{}")
    start, before = time.perf_counter(), time.process_time()
    logging.disable()  # that there are no scans to draw
    write_page(run)
    yield "page", (time.perf_counter() - start, time.process_time() - before)
    print(f"page of {table['case'].nunique()} scans: {(run / 'report.html').stat().st_size / 1e6:.1f} MB", flush=True)
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        return
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page, times = opened.new_page(), []
        for _ in range(5):
            start = time.perf_counter()
            page.goto((run / "report.html").as_uri())
            page.evaluate("() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
            times.append(time.perf_counter() - start)
        opened.close()
    yield "open", (min(times), min(times))


def main() -> None:
    """Measure every size, and print how the seconds grow from the first to the last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 2000, 5000, 10_000])
    parser.add_argument("--labels", type=int, default=2)
    parser.add_argument("--tables", action="store_true", help="summary and page of that many rows alone")
    given = parser.parse_args()
    describe("float64")
    found: dict[int, dict[str, Times]] = {}
    if given.tables:
        for count in given.sizes:
            with tempfile.TemporaryDirectory() as folder:
                make_runs(Path(folder), 1, count, given.labels)
                table = read_scans(Path(folder) / "run_00" / "scans.csv")
                parts = dict(of_one_run(Path(folder) / "run_00", table))
            line = "  ".join(f"{part} {spent:.2f} s ({busy:.2f})" for part, (spent, busy) in parts.items())
            print(f"{count} scans x {given.labels} labels, seconds (of processors): {line}", flush=True)
        return
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
