import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
# The smallest work of each file, and the last figures that it prints; DATA is a small data set.
SMALLEST = {
    "augmentation": ("--patch 16 16 16 --samples 2", r"segment +\d+\.\d \+- \d+\.\d ms a sample"),
    "comparing": ("--runs 2 --scans 6 --labels 1", r"plain loop, 1 x \d+\.\d\d s of one pair"),
    "memory_and_waiting": (
        "--sets 10x16 --patch 16 --steps 2",
        r"10 scans of 16\^3: peak \d+ MB, .* waiting \d+\.\d+%",
    ),
    "network_step": ("--features 2 4 8 --patch 8 8 8 --batch 1 --steps 1 --rounds 1", r"segment +\d+\.\d+ s a step"),
    "patch_reading": ("--small 16 16 16 --large 24 16 16 --patches 8 8 8", r"whole \.npy +\d+\.\d+ ms .* x \d+\.\d+"),
    "precision_survey": ("--quick --only layer.norm", r"\nall +2 +0 +0 +\d+\.\d"),
    "preparing": ("DATA --rounds 1", r"round 1  segment +\d+\.\d s  \(check .*, plan .*, prepare .*\)"),
    "training_step": ("--features 2 4 8 --patch 8 8 8 --batch 1 --steps 1", r"segment \d+\.\d+ s a step   ratio \d"),
    "whole_scan_memory": ("--sets 48:none --classes 2", r"48\^3, 2 classes, mirror none: .* segment \d+ MB, ratio \d"),
}


@pytest.mark.parametrize("name", sorted(file.stem for file in FOLDER.glob("[!_]*.py")))
def test_it_starts_and_prints_its_figures(name, make_dataset, tmp_path):
    assert name in SMALLEST, f"benchmarks/{name}.py: say here which arguments make its smallest work"
    arguments, figures = SMALLEST[name]
    if "DATA" in arguments:
        arguments = arguments.replace("DATA", str(make_dataset(tmp_path / "data", n=2)))
    command = [sys.executable, FOLDER / f"{name}.py", *arguments.split()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(figures, done.stdout), done.stdout
    assert re.search(r"AVX|SSE|none|DEFAULT", done.stdout), f"no instruction set in {done.stdout}"
    assert re.search(r"precision (float|bf|32)|bf16", done.stdout), f"no precision in {done.stdout}"
