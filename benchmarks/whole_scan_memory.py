"""Peak memory of whole-scan inference: segment's windows beside MONAI's inferer with probabilities averaged plainly.

    python benchmarks/whole_scan_memory.py            192^3 voxels, 14 classes, eight mirrored passes; 256^3 without
    python benchmarks/whole_scan_memory.py --sets 64:all 96:none    SIDE:MIRROR, one or more

A pointwise network, so that the memory is that of the scan and not of a network; each way in a process of its own.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from typing import TYPE_CHECKING

import torch
from _machine import describe
from torch import Tensor, nn

if TYPE_CHECKING:
    from segment.inference.windows import SlidingWindows

WINDOW = (48, 48, 48)


def plain(windows: SlidingWindows, network: nn.Module, image: Tensor) -> Tensor:
    """The same numbers in five lines."""
    from monai.inferers import SlidingWindowInferer

    inferer = SlidingWindowInferer(WINDOW, windows.batch_size, windows.overlap, mode="gaussian")
    total: Tensor | float = 0.0
    for axes in windows.flips(3):
        probabilities = torch.softmax(inferer(torch.flip(image[None], axes), network), dim=1)
        total = total + torch.flip(probabilities, axes)
    return total[0] / len(windows.flips(3))


def measure(way: str, side: int, classes: int, mirror: str) -> float:
    """MB above the start, of one way in this process."""
    # Here, since it brings MONAI, which the process that only asks can do without.
    from segment.inference.windows import SlidingWindows

    torch.manual_seed(0)
    network, image = nn.Conv3d(1, classes, 1).eval(), torch.randn(1, side, side, side)
    windows = SlidingWindows(mirror=mirror or ())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with torch.inference_mode():
        _ = windows(network, image, WINDOW) if way == "segment" else plain(windows, network, image)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e6


def main() -> None:
    """Measure both ways in turns and print them beside what the result itself takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=["192:all", "256:none"], metavar="SIDE:MIRROR")
    parser.add_argument("--classes", type=int, default=14)
    parser.add_argument("--one", nargs=4, metavar=("WAY", "SIDE", "CLASSES", "MIRROR"), help="measure in this process")
    given = parser.parse_args()
    if given.one:
        way, side, classes, mirror = given.one
        print(measure(way, int(side), int(classes), mirror))
        return
    describe("float32")
    command, classes = [sys.executable, __file__, "--one"], given.classes
    for one in given.sets:
        side, mirror = int(one.partition(":")[0]), one.partition(":")[2].replace("none", "")
        peer, ours = (
            float(subprocess.check_output([*command, way, str(side), str(classes), mirror], text=True))
            for way in ("plain", "segment")
        )
        case = f"{side}^3, {classes} classes, mirror {mirror or 'none'}: result {side**3 * classes * 4 / 1e6:.0f} MB"
        print(f"{case}; plain {peer:.0f} MB, segment {ours:.0f} MB, ratio {peer / max(ours, 1):.2f}", flush=True)


if __name__ == "__main__":
    main()
