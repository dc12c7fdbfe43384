"""Every program in benchmarks/ starts and prints its figures."""

import re
import runpy
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from forked import Forked

FOLDER = Path(__file__).parents[2] / "benchmarks"
# The smallest work of each file, and the last figures that it prints; DATA is a small data set, RUN a small run.
SMALLEST = {
    "augmentation": ("--patch 16 16 16 --samples 2", r"segment +\d+\.\d \+- \d+\.\d ms a sample"),
    "comparing": ("--runs 2 --scans 6 --labels 1", r"plain loop, 1 x \d+\.\d\d s of one pair"),
    "edge": (
        "data=auto data.root=DATA plan.patch_size=[32,32,64] sampler.steps_per_epoch=1 inference=plain metrics=null "
        "--steps 1 --finetune 1 --scans 1 --rounds 1 --output FOLDER",
        r"mobilenet_v2 U-Net +pruned, int8 +[01]\.\d{4} +\d\.\d\d +\d+ ",
    ),
    "engines": (
        "RUN --scans 1 --rounds 1 --exports openvino-int8",
        r"openvino-int8 +0\.\d+ +\d+\.\d\d +\d+\.\d\d +\d+\.\d\d",
    ),
    "inference": (
        "--size 10x8x8 --window 8x8x8 --features 2 4 8 --rounds 1 --precisions fp32 --threads 1",
        r"\nMONAI 4 +\d+\.\d+ s .* labels as segment's [01]\.\d+ .*\nlimit ",
    ),
    "many_scans": ("--sizes 4 8", r"2\.0 times the scans, processor seconds: check x \d"),
    "memory_and_waiting": (
        "--sets 10x16 --patch 16 --steps 2",
        r"10 scans of 16\^3: peak \d+ MB, .* waiting \d+\.\d+%",
    ),
    "metrics": ("--size 12 --whole 0 --rounds 1", r"surface-distance +\d+\.\d ms +ratio \d"),
    "monitoring": (
        "--simulations 2 --steps 4 --same 90 --shifted 30",
        r"(?s)without a shift: \d+\.\d% of 2 simulations .*\nwrong units: found at level 0\.01 in 1 simulations",
    ),
    "network_step": ("--features 2 4 8 --patch 8 8 8 --batch 1 --steps 1 --rounds 1", r"segment +\d+\.\d+ s a step"),
    "patch_reading": ("--small 16 16 16 --large 24 16 16 --patches 8 8 8", r"whole \.npy +\d+\.\d+ ms .* x \d+\.\d+"),
    "precision_survey": ("--quick --only layer.norm", r"\nall +2 +0 +0 +\d+\.\d"),
    "preparing": ("DATA --rounds 1", r"round 1  segment +\d+\.\d s  \(check .*, plan .*, prepare .*\)"),
    "serving": ("RUN DATA/imagesTr --requests 4 --long 8", r"0\.?\d* of segment predict; answers: 4 right;"),
    "training_step": ("--features 2 4 8 --patch 8 8 8 --batch 1 --steps 1", r"segment \d+\.\d+ s a step   ratio \d"),
}


def started(file: Path, arguments: list[str], folder: Path) -> tuple[int, str]:
    """Exit code and output of a program."""

    def program() -> None:
        sys.path.insert(0, str(file.parent))
        sys.argv = [str(file), *arguments]
        runpy.run_path(str(file), run_name="__main__")

    # Chromium's sockets need a short path.
    with tempfile.TemporaryDirectory() as short:
        environment = {"OMP_NUM_THREADS": "1", "TMPDIR": short, "HOME": str(folder)}
        done = Forked(program, folder, folder / "output.txt", environment)
        return done.wait(), done.printed + done.errors


def finished_run(folder: Path) -> Path:
    """A small run whose scans are where it says."""
    old = Path(__file__).parents[1] / "fixtures" / "runs_of_november_2026"
    shutil.copytree(old / "seed0", folder)
    record = (folder / "provenance.json").read_text()
    (folder / "provenance.json").write_text(record.replace("/data/scans", str(old / "scans")))
    return folder


# Processes of their own, each of which imports MONAI.
PROGRAMS = [
    pytest.param(
        name,
        marks=[pytest.mark.slow]
        * (name in ("edge", "inference", "many_scans", "memory_and_waiting", "monitoring", "preparing", "serving")),
    )
    for name in sorted(file.stem for file in FOLDER.glob("[!_]*.py"))
]


@pytest.mark.parametrize("name", PROGRAMS)
def test_benchmark_runs_and_prints_its_figures(name, make_dataset, tmp_path):
    assert name in SMALLEST, f"benchmarks/{name}.py: say here which arguments make its smallest work"
    arguments, figures = SMALLEST[name]
    if "DATA" in arguments:
        arguments = arguments.replace("DATA", str(make_dataset(tmp_path / "data", n=5 if name == "edge" else 2)))
    arguments = arguments.replace("FOLDER", str(tmp_path / "made"))
    if "RUN" in arguments:
        arguments = arguments.replace("RUN", str(finished_run(tmp_path / "run")))
    code, printed = started(FOLDER / f"{name}.py", arguments.split(), tmp_path)
    assert code == 0, printed[-2000:]
    assert re.search(figures, printed), printed
    assert re.search(r"AVX|SSE|none|DEFAULT", printed), f"no instruction set in {printed}"
    assert re.search(r"precision (float|bf|32)|bf16", printed), f"no precision in {printed}"
