"""`segment compare` on many runs, whole verb; beside a plain loop over scipy's bootstrap and test, pair by pair.

    python benchmarks/comparing.py                          20 runs x 500 scans x 14 labels
    python benchmarks/comparing.py --runs 5 --scans 50
    python benchmarks/comparing.py --null 2000              claims in so many simulated comparisons of equal methods

No other program does the whole of it. The plain loop does the intervals and tests alone, for the foreground and every
label of one pair, in this process with everything read; its time is multiplied by the number of pairs.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from _machine import describe
from _null import table
from scipy.stats import bootstrap, wilcoxon

from segment.runs.scans import COLUMNS, write_scans


def scan_table(scores: np.ndarray) -> pd.DataFrame:
    """A table of scans of these scores (scans, labels)."""
    scans, labels = (indices.ravel() for indices in np.indices(scores.shape))
    dice = scores.ravel()
    columns = {
        "case": [f"scan_{scan:04d}" for scan in scans], "split": "val", "fold": 0, "label": labels + 1,
        "name": [f"organ_{label}" for label in labels], "dice": dice, "iou": dice / (2 - dice),
        "reference_voxels": 1000, "predicted_voxels": 1000, "status": "ok",
    }  # fmt: skip
    return pd.DataFrame(columns)[list(COLUMNS)]


def make_runs(root: Path, runs: int, scans: int, labels: int) -> list[np.ndarray]:
    """Write finished runs whose scans share their difficulty; return their scores."""
    random = np.random.default_rng(0)
    shared = random.normal(0.85, 0.05, (scans, 1))
    every = [np.clip(shared + random.normal(0.001 * run, 0.03, (scans, labels)), 0, 1) for run in range(runs)]
    for run, scores in enumerate(every):
        folder = root / f"run_{run:02d}"
        folder.mkdir()
        write_scans(folder / "scans.csv", scan_table(scores))
        (folder / "config.yaml").write_text(yaml.safe_dump({"seed": 0, "optimizer": {"lr": run}}))
    return every


def plain_loop(first: np.ndarray, second: np.ndarray) -> float:
    """Processor seconds that scipy takes for one pair: interval and test of the foreground and of every label."""
    start = time.process_time()
    difference = first - second
    for values in (difference.mean(axis=1), *difference.T):
        bootstrap((values,), np.mean, n_resamples=10_000, method="BCa", rng=1)
        wilcoxon(values)
    return time.process_time() - start


def main() -> None:
    """Make the runs, compare them in a process of its own, and time the plain loop on one pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--scans", type=int, default=500)
    parser.add_argument("--labels", type=int, default=14)
    parser.add_argument("--null", type=int, default=0, help="simulate so many comparisons of equal methods")
    given = parser.parse_args()
    describe("float64")
    if given.null:
        print(f"{given.null} simulated comparisons a cell")
        for line in table(given.null):
            print(line, flush=True)
        return
    pairs = len(list(itertools.combinations(range(given.runs), 2)))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        scores = make_runs(root, given.runs, given.scans, given.labels)
        command = [sys.executable, "-m", "segment.cli", "compare", f"runs={root}/run_*", f"output={root / 'out'}"]
        start, before = time.perf_counter(), os.times()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        whole, after = time.perf_counter() - start, os.times()
        rows = len(pd.read_csv(root / "out" / "comparison.csv"))
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    one = min(plain_loop(scores[0], scores[1]) for _ in range(2))
    print(f"{given.runs} runs x {given.scans} scans x {given.labels} labels, 10,000 resamples, {rows} rows")
    print(f"segment compare, from the shell and back: {whole:.1f} s; {processor:.1f} s of processor time")
    loop = pairs * one
    print(f"plain loop, {pairs} x {one:.2f} s of one pair: {loop:.0f} s of processor time, x {loop / processor:.0f}")


if __name__ == "__main__":
    main()
