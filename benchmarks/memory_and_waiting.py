"""Peak memory of training over the number and size of scans, and the share of a step that waits for data.

    python benchmarks/memory_and_waiting.py            20 and 400 fake scans of 96^3; and one size larger
    python benchmarks/memory_and_waiting.py --large    also 512 x 512 x 512 scans (minutes, some 20 GB of disk)
    python benchmarks/memory_and_waiting.py --sets 10x96 --steps 10    SCANSxSIDE, one or more

Each run is `segment train` in a process of its own on a fake set (conf/data/fake.yaml): checked, planned and prepared
in a first run, so that the second one's peak memory is that of training. No peer: the claim is that the figures do not
grow with the data set.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from _machine import describe

from segment.instruction_set import precision


def train(work: Path, scans: int, side: int, name: str, patch: int, steps: int) -> dict[str, float]:
    """Peak resident memory in MB and the cost recorded in summary.json."""
    folder = work / f"{name}-{scans}-{side}"
    command = [
        sys.executable, "-m", "segment.cli", "train", "data=fake", f"data.root={work / f'data-{scans}-{side}'}",
        f"data.scans={scans}", f"data.shape={[side] * 3}", "data.compressed=false", f"cache={work / 'cache'}",
        f"output={folder}", "plan.spacing=[1,1,1]", f"plan.patch_size={[patch] * 3}", f"trainer.max_steps={steps}",
        f"sampler.steps_per_epoch={steps}", "trainer.check_val_every_n_epoch=1000", "inference.mirror=[]",
        "folds=10", "augment=nnunet",
    ]  # fmt: skip
    done = subprocess.Popen(
        [part.replace(" ", "") for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output, _ = done.communicate()
    if done.returncode:
        sys.exit(output.decode()[-3000:])
    summary = json.loads((folder / "summary.json").read_text())
    record = json.loads((folder / "provenance.json").read_text())
    return {"peak_mb": record["peak_memory_mb"], **summary["cost"]}


def main() -> None:
    """Train twice on each set and print the second run's figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--sets", nargs="+", default=["20x96", "400x96", "20x192"], metavar="SCANSxSIDE")
    parser.add_argument("--patch", type=int, default=48, help="voxels along each axis")
    parser.add_argument("--steps", type=int, default=40)
    given = parser.parse_args()
    describe(precision("auto", "cpu"))
    print(f"patches of {given.patch}^3, batch 2, {given.steps} steps, augment=nnunet")
    work = Path(tempfile.mkdtemp(prefix="memory-"))
    try:
        for one in [*given.sets, *(["4x512"] if given.large else [])]:
            scans, side = map(int, one.split("x"))
            for name in ("first", "second"):
                figures = train(work, scans, side, name, given.patch, given.steps)
            figures_text = f"peak {figures['peak_mb']:.0f} MB, step {figures['seconds_per_step']:.3f} s"
            print(f"{scans:4d} scans of {side}^3: {figures_text}, waiting {figures['waiting_share']:.2%}", flush=True)
            shutil.rmtree(work / f"data-{scans}-{side}")
            shutil.rmtree(work / "cache")
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
