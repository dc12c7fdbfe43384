"""How often `segment monitor` raises a false alarm, and which shifts of simulated scans it finds.

    python benchmarks/monitoring.py                      500 simulations, a few minutes
    python benchmarks/monitoring.py --simulations 50

A small network learns an organ in simulated scans (`segment train`), and `segment serve` with
log_more=[encoder,quality] predicts new ones, without a shift and with each of six. A simulation draws a reference of 60
scans and 30 others from the log, without repetition within it, and tests them as `segment monitor` does. Of each shift,
the share of simulations is told in which any test raises an alarm, and in which the classifier, that of the encoder's
features, and the chart of the expected Dice do.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import httpx
import nibabel as nib
import numpy as np
from _machine import describe

from segment.runs.summary import read_summary
from segment.serving.log import Seen, read_log
from segment.serving.monitor import as_sample, common_features
from segment.statistics.drift import CHART, CLASSIFIER, ENCODER, drifts

SHIFTS = ("contrast", "noise", "resolution", "other anatomy", "flipped axes", "wrong units")
REFERENCE, SEEN = 60, 30  # scans of a simulation
LEVELS = (0.01, 0.05)
TRAIN = (
    "network=unet_small",
    "network.encoder.features=[8,16]",
    "plan.patch_size=[12,20,20]",
    "optimizer.lr=0.01",
    "name=organ",
)


def scan(draw: np.random.Generator, kind: str = "") -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """A scan with an organ, as another scanner or patient would show it, and its mask."""
    shape, spacing = np.array((12, 20, 20)), np.array((3.0, 1.0, 1.0))
    centre = np.array((0.6, 0.35, 0.4)) + draw.normal(0, 0.02, 3)
    radius = 0.2 * draw.normal(1, 0.05) * (0.6 if kind == "other anatomy" else 1)
    if kind == "resolution":
        shape, spacing = shape * (1, 2, 2), spacing / (1, 2, 2)
    axes = np.meshgrid(*[(np.arange(size) + 0.5) / size for size in shape], indexing="ij")
    inside = sum(((axis - place) / radius) ** 2 for axis, place in zip(axes, centre, strict=True)) < 1
    image = 100 + 60 * inside + draw.normal(0, 25 if kind == "noise" else 8, shape)
    image = image * 1.5 + 30 if kind == "contrast" else image
    if kind == "flipped axes":
        image, inside = image[::-1, ::-1], inside[::-1, ::-1]
    if kind == "wrong units":
        spacing = spacing / 10
    affine = np.diag([*spacing[::-1], 1.0])
    arrays = np.ascontiguousarray(image.T, np.float32), np.ascontiguousarray(inside.T, np.uint8)
    return nib.Nifti1Image(arrays[0], affine), nib.Nifti1Image(arrays[1], affine)


def segment(*words: str) -> list[str]:
    """The command of a verb."""
    return [sys.executable, "-m", "segment.cli", *words]


def trained(folder: Path, steps: int) -> Path:
    """The run of a network that has learnt the organ."""
    for number in range(20):
        for kind, image in zip(("images", "labels"), scan(np.random.default_rng(number)), strict=True):
            (folder / "data" / kind).mkdir(parents=True, exist_ok=True)
            nib.save(image, folder / "data" / kind / f"scan{number:02d}.nii.gz")
    given = (
        f"trainer.max_steps={steps}",
        f"data.root={folder / 'data'}",
        f"output={folder / 'run'}",
        f"cache={folder / 'cache'}",
    )
    subprocess.run(segment("train", "data=auto", *TRAIN, *given), check=True, stdout=subprocess.DEVNULL)
    return folder / "run"


def served(run: Path, folder: Path, counts: Sequence[int]) -> dict[str, list[Seen]]:
    """The log's lines of so many scans without a shift (the empty name) and with each."""
    log = folder / "seen.jsonl"
    words = (f"model={run}", "port=0", f"log={log}", "log_more=[encoder,quality]")
    kinds = [""] * counts[0] + [kind for kind in SHIFTS for _ in range(counts[1])]
    server = subprocess.Popen(segment("serve", *words), stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = re.search(r"http://\S+:\d+", server.stdout.readline())[0]  # type: ignore[index]
        with httpx.Client(base_url=url, trust_env=False, timeout=300) as client:
            for number, kind in enumerate(kinds):
                image, _ = scan(np.random.default_rng(1000 + number), kind)
                client.post("/predict", content=image.to_bytes()).raise_for_status()
    finally:
        server.terminate()
        server.wait(60)
    lines = read_log(log)
    assert len(lines) == len(kinds)
    return {
        kind: [line for line, own in zip(lines, kinds, strict=True) if own == kind] for kind in dict.fromkeys(kinds)
    }


def smallest(same: Sequence[Seen], shifted: Sequence[Seen] | None, seed: int) -> dict[str, float]:
    """The corrected p of each kind of test in one simulation."""
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(same))
    ours = [same[index] for index in order[:REFERENCE]]
    if shifted is None:
        seen = [same[index] for index in order[REFERENCE : REFERENCE + SEEN]]
    else:
        seen = [shifted[index] for index in draw.permutation(len(shifted))[:SEEN]]
    names = common_features(ours, seen)
    tests = drifts(names, as_sample(ours, names), as_sample(seen, names), seed)
    found = {"any": min(test.p_holm for test in tests)}
    return found | {test.feature: test.p_holm for test in tests if test.feature in (CLASSIFIER, ENCODER, CHART)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=500)
    parser.add_argument("--steps", type=int, default=300, help="of the training")
    parser.add_argument("--same", type=int, default=300, help="scans without a shift")
    parser.add_argument("--shifted", type=int, default=60, help="scans with each shift")
    given = parser.parse_args()
    describe("32-true")
    with tempfile.TemporaryDirectory() as folder:
        run = trained(Path(folder), given.steps)
        dice = read_summary(run / "summary.json")["foreground"]["dice"]["mean"]
        print(f"the network: Dice {dice:.3f} on scans that it was not trained on")
        logs = served(run, Path(folder), (given.same, given.shifted))
    same = logs.pop("")
    found = [smallest(same, None, seed) for seed in range(given.simulations)]
    for level in LEVELS:
        rate = np.mean([one["any"] < level for one in found])
        print(
            f"without a shift: {rate:.1%} of {given.simulations} simulations raise an alarm at level {level}",
            flush=True,
        )
    repeats = max(1, given.simulations // 10)
    for kind, lines in logs.items():
        found = [smallest(same, lines, seed) for seed in range(repeats)]
        shares = {name: np.mean([one[name] < LEVELS[0] for one in found]) for name in found[0]}
        told = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
        print(f"{kind}: found at level {LEVELS[0]} in {repeats} simulations by {told}", flush=True)


if __name__ == "__main__":
    main()
