"""Checking, planning and preparing a data set, beside nnU-Net's `plan_and_preprocess --verify_dataset_integrity`.

    python benchmarks/preparing.py data.root=FOLDER --nnunet PYTHON

FOLDER is a Medical Segmentation Decathlon set, PYTHON an interpreter with nnunetv2 (2.8.1; install torch==2.13.0 first,
then nnunetv2 with torchvision==0.28.0). Each runs from a shell's start to its end, with an empty cache, in turns; ours
as three commands, with what each imports: `segment check`, `segment plan`, and what `segment train` does before its
first step. Without --nnunet only ours is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _machine import describe

OURS = """
import sys
from segment.config.compose import compose_command
from segment.config.experiment import read_experiment
from segment.workflow.prepare import planned_store, prepare_cases
root, work = sys.argv[1:]
experiment = read_experiment(*compose_command("train", ["data=auto", f"data.root={root}", f"cache={work}/cache",
                                                        f"plan={work}/plan.yaml"]))
store, _ = planned_store(experiment.data, experiment.plan)
prepare_cases(store, store.dataset.cases)
"""
THEIRS = """
import sys
from nnunetv2.experiment_planning.plan_and_preprocess_entrypoints import plan_and_preprocess_entry
sys.argv = ["nnUNetv2_plan_and_preprocess", "-d", "4", "-c", "3d_fullres", "--verify_dataset_integrity", *sys.argv[1:]]
if __name__ == "__main__":
    plan_and_preprocess_entry()
"""


def ours(root: Path, work: Path) -> dict[str, float]:
    """Seconds of each of our commands."""
    cache = f"cache={work / 'cache'}"
    about = ["data=auto", f"data.root={root}", cache]
    segment = [sys.executable, "-m", "segment.cli"]
    commands = {
        "check": [*segment, "check", *about],
        "plan": [*segment, "plan", *about, f"output={work / 'plan.yaml'}"],
        "prepare": [sys.executable, "-c", OURS, str(root), str(work)],
    }
    return {name: seconds(command) for name, command in commands.items()}


def theirs(root: Path, work: Path, python: Path, workers: int) -> dict[str, float]:
    """Seconds of nnU-Net's command on the same scans in its own layout."""
    raw = work / "raw" / "Dataset004_Task"
    to_nnunet(root, raw)
    script = work / "theirs.py"  # a file, since its processes import it
    script.write_text(THEIRS)
    places = {f"nnUNet_{name}": str(work / name) for name in ("raw", "preprocessed", "results")}
    command = [str(python), str(script), "-npfp", str(workers), "-np", str(workers)]
    return {"plan_and_preprocess": seconds(command, os.environ | places)}


def to_nnunet(root: Path, raw: Path) -> None:
    """The same files under nnU-Net's names."""
    described = json.loads((root / "dataset.json").read_text())
    for entry in described["training"]:
        name = Path(entry["label"]).name.removesuffix(".nii.gz")
        for folder, file, end in (("imagesTr", entry["image"], "_0000"), ("labelsTr", entry["label"], "")):
            (raw / folder).mkdir(parents=True, exist_ok=True)
            (raw / folder / f"{name}{end}.nii.gz").symlink_to((root / file).resolve())
    labels = {name: int(value) for value, name in described["labels"].items()}
    content = {
        "channel_names": described["modality"],
        "labels": labels,
        "numTraining": len(described["training"]),
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(content))


def seconds(command: list[str], environment: dict[str, str] | None = None) -> float:
    """Wall time of a command that must succeed."""
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.perf_counter() - start


def main() -> None:
    """Time both in turns and print the ratio of the sums of the best."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", help="data.root=FOLDER")
    parser.add_argument("--nnunet", type=Path, help="interpreter with nnunetv2")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes of nnU-Net")
    given = parser.parse_args()
    root = Path(given.root.removeprefix("data.root=")).resolve()
    describe("float32")
    if not given.nnunet:
        print("nnU-Net is not measured: --nnunet names no interpreter that has it.", flush=True)
    best: dict[str, float] = {}
    for turn in range(given.rounds):
        for name in ("segment", "nnU-Net") if given.nnunet else ("segment",):
            work = Path(tempfile.mkdtemp(prefix="preparing-"))
            try:
                parts = ours(root, work) if name == "segment" else theirs(root, work, given.nnunet, given.workers)
            finally:
                shutil.rmtree(work)
            total = sum(parts.values())
            said = ", ".join(f"{part} {value:.1f}" for part, value in parts.items())
            print(f"round {turn + 1}  {name:<8} {total:6.1f} s  ({said})", flush=True)
            best[name] = min(total, best.get(name, total))
    if "nnU-Net" in best:
        print(f"segment takes 1 / {best['nnU-Net'] / best['segment']:.2f} of nnU-Net's time")


if __name__ == "__main__":
    main()
