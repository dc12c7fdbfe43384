"""Whole scans, window by window: segment beside MONAI's inferer and nnU-Net's predictor, and the machine's limit.

    python benchmarks/inference.py                    seconds from a scan of 128^3 in memory to its labels
    python benchmarks/inference.py --nnunet PYTHON    nnU-Net's predictor too, by an interpreter with nnunetv2 (2.8.1)
    python benchmarks/inference.py --memory 192x192x192:14:all 800x320x320:117:none     peak MB, SIZE:CLASSES:MIRROR

All get the same weights of nnU-Net's plain network, the same windows and the same Gaussian weights, each in a process
of its own, in turns. MONAI's inferer and nnU-Net's predictor run as their packages give them, the former with one and
with four windows at a time; ours as ``segment predict`` runs it after it measured batch and layout, and with
``inference.engine=openvino`` (extra ``export``). The limit is what
the windows would take at the fastest rate found for a matrix product or a convolution.

For memory the network is pointwise, so that the memory is that of the scan; MONAI's is measured where it fits.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _machine import describe
from torch import Tensor, nn
from torch.nn import functional

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
NNUNET = """
import sys, time, types
import numpy as np, torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
folder, classes, window = sys.argv[1], int(sys.argv[2]), [int(size) for size in sys.argv[3].split("x")]
cpu = torch.device("cpu")
predictor = nnUNetPredictor(0.5, True, False, False, cpu, False, False, False)
predictor.network = torch.jit.load(f"{folder}/network.pt").eval()
predictor.configuration_manager = types.SimpleNamespace(patch_size=window)
predictor.label_manager = types.SimpleNamespace(num_segmentation_heads=classes)
predictor.allowed_mirroring_axes = None
image = torch.from_numpy(np.load(f"{folder}/image.npy"))
print("{}", flush=True)
for line in sys.stdin:
    start = time.perf_counter()
    labels = predictor.predict_sliding_window_return_logits(image).argmax(0)
    print(time.perf_counter() - start, flush=True)
    np.save(f"{folder}/nnU-Net.npy", labels.numpy().astype(np.uint8))
"""


def sizes(text: str) -> list[int]:
    """Numbers of a shape written as 128x128x128."""
    return [int(size) for size in text.split("x")]


def plain_network(features: list[int], classes: int) -> nn.Module:
    """nnU-Net's plain network with random weights, the same in every process."""
    from segment.config.build import make
    from segment.config.compose import compose

    torch.manual_seed(0)
    overrides = ["network=nnunet_plain", f"network.encoder.features={features}", "network.deep_supervision=0"]
    network: nn.Module = make(compose("train", overrides), "network")(
        spatial_dims=3, in_channels=1, out_channels=classes
    )
    return network.eval()


def autocast(precision: str) -> Callable[[], contextlib.AbstractContextManager]:
    if precision == "fp32":
        return contextlib.nullcontext
    return lambda: torch.autocast("cpu", TYPES[precision])


def segment_way(given: argparse.Namespace, network: nn.Module, image: Tensor) -> tuple[Callable[[], Tensor], str]:
    """Predicts labels as `segment predict` does, in the fastest batch and layout."""
    from segment.inference.speed import fastest
    from segment.inference.windows import SlidingWindows
    from segment.networks.padding import laid_out
    from segment.training.memory import keep_freed_memory

    keep_freed_memory()
    window = sizes(given.window)
    open_ = SlidingWindows(batch_size="auto", layout="auto")
    windows = fastest(open_, network, (1, *window), torch.device("cpu"), autocast(given.precision))
    laid_out(network, 3, windows.used_layout)
    return planes_way(given, network, image, int(windows.batch_size), windows.layout)


def planes_way(
    given: argparse.Namespace, network: nn.Module, image: Tensor, batch: int, layout: str
) -> tuple[Callable[[], Tensor], str]:
    """Predicts labels plane by plane, in a batch and a layout."""
    from segment.inference.windows import SlidingWindows

    windows, window = SlidingWindows(batch_size=batch, layout=layout), sizes(given.window)

    def predict() -> Tensor:
        with autocast(given.precision)():
            planes = [plane.argmax(dim=0) for _, plane in windows.planes(network, image, window)]
        return torch.stack(planes)

    return predict, f"{batch} at once, {layout}"


def openvino_way(given: argparse.Namespace, network: nn.Module, image: Tensor) -> tuple[Callable[[], Tensor], str]:
    """Predicts labels as `segment predict inference.engine=openvino` does."""
    from segment.inference.exported import convert

    window = sizes(given.window)
    precision = {"fp32": "32-true", "bf16": "bf16-mixed"}[given.precision]
    engine = convert(network, "openvino", precision, (1, 1, *window), (1, given.classes, *window))
    return planes_way(given, engine, image, 1, "contiguous")


def monai_way(given: argparse.Namespace, network: nn.Module, image: Tensor, batch: int) -> Callable[[], Tensor]:
    """Predicts labels by MONAI's inferer."""
    from monai.inferers import SlidingWindowInferer

    inferer = SlidingWindowInferer(sizes(given.window), batch, 0.5, mode="gaussian")

    def predict() -> Tensor:
        with torch.inference_mode(), autocast(given.precision)():
            logits = inferer(image[None], network)
        assert isinstance(logits, Tensor)
        return logits[0].argmax(dim=0)

    return predict


OURS = {"segment": segment_way, "OpenVINO": openvino_way}


def work(given: argparse.Namespace) -> None:
    """Be one of the processes that are measured: predict once for each line of the input."""
    torch.set_num_threads(given.threads)
    network, image = plain_network(given.features, given.classes), torch.from_numpy(np.load(given.folder / "image.npy"))
    if given.worker in OURS:
        predict, note = OURS[given.worker](given, network, image)
    else:
        predict, note = monai_way(given, network, image, int(given.worker.split()[1])), "contiguous"
    print(json.dumps({"note": note}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        labels = predict()
        print(time.perf_counter() - start, flush=True)
        np.save(given.folder / f"{given.worker}.npy", labels.numpy().astype(np.uint8))


class Worker:
    """A process that predicts when it is told to."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.note = str(json.loads(self._line()).get("note", ""))

    def seconds(self) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self._line())

    def end(self) -> None:
        self.process.communicate()

    def _line(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{") or line.strip().replace(".", "").isdigit():  # libraries print too
                return line
        sys.exit(f"{' '.join(self.process.args)[:200]} ended")  # type: ignore[arg-type]


def rate(precision: str) -> float:
    """GFLOP/s of the faster of a matrix product of 2048 and a convolution of 128 channels over 32^3 voxels."""
    a = torch.randn(2048, 2048).to(TYPES[precision])
    image, weight = (torch.randn(*shape).to(TYPES[precision]) for shape in ((1, 128, 32, 32, 32), (128, 128, 3, 3, 3)))
    found = []
    for operations, kernel in (
        (2 * 2048**3, lambda: a @ a),
        (2 * 128 * 128 * 27 * 32**3, lambda: functional.conv3d(image, weight, padding=1)),
    ):
        for _ in range(3):
            start = time.perf_counter()
            kernel()
            found.append(operations / (time.perf_counter() - start) / 1e9)
    return max(found)


def speed(given: argparse.Namespace, precision: str) -> None:
    """Measure all ways in turns and print the table of a precision."""
    from torch.utils.flop_counter import FlopCounterMode

    from segment.inference.windows import SlidingWindows

    describe(str(TYPES[precision]).removeprefix("torch."))
    shape, window = sizes(given.size), sizes(given.window)
    network = plain_network(given.features, given.classes)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, 1, *window))
    windows = SlidingWindows().count(shape, window)
    operations = counter.get_total_flops() * windows / 1e9
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "image.npy", np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32))
        settings = ["--window", given.window, "--classes", str(given.classes), "--threads", str(given.threads)]
        settings += ["--features", *map(str, given.features), "--precision", precision, "--folder", folder]
        names = ["segment", "MONAI 1", "MONAI 4"]
        if importlib.util.find_spec("openvino"):
            names.insert(1, "OpenVINO")
        commands = {name: [sys.executable, __file__, "--worker", name, *settings] for name in names}
        if given.nnunet and precision == "fp32":  # on a processor it knows nothing else
            torch.jit.trace(network, torch.zeros(1, 1, *window)).save(f"{folder}/network.pt")
            commands["nnU-Net"] = [str(given.nnunet), "-c", NNUNET, folder, str(given.classes), given.window]
        os.environ["OMP_NUM_THREADS"] = str(given.threads)
        workers = {name: Worker(command) for name, command in commands.items()}
        times: dict[str, list[float]] = {name: [] for name in workers}
        rates = []
        for turn in range(given.rounds + 1):
            for name, worker in workers.items():
                seconds = worker.seconds()
                if turn:  # the first prepares kernels
                    times[name].append(seconds)
            rates.append(rate(precision))
        for worker in workers.values():
            worker.end()
        masks = {name: np.load(f"{folder}/{name}.npy") for name in workers}
    ours = times["segment"]
    print(f"{given.size}, {windows} windows of {given.window}, {operations / windows:.1f} GFLOP each, {precision}, "
          f"{given.threads} threads, load {os.getloadavg()[0]:.1f}, medians of {given.rounds}")  # fmt: skip
    for name, some in times.items():
        paired = statistics.median(theirs / own for theirs, own in zip(some, ours, strict=True))
        median = statistics.median(some)
        print(f"{name:8} {median:8.3f} s  {operations / median:6.0f} GFLOP/s  {paired:5.2f} x the time of segment, "
              f"labels as segment's {(masks[name] == masks['segment']).mean():.5f}  {workers[name].note}")  # fmt: skip
    limit = operations / max(rates)
    print(f"limit    {limit:8.3f} s  {max(rates):6.0f} GFLOP/s  {limit / statistics.median(ours):5.2f} x", flush=True)


def measure_memory(way: str, text: str, overlap: float) -> float:
    """MB above the start, of one way in this process."""
    # Here, since it brings MONAI, which the process that only asks can do without.
    from monai.inferers import SlidingWindowInferer

    from segment.data.labels import Labels
    from segment.inference.predictor import Predictor
    from segment.inference.windows import SlidingWindows
    from segment.io.geometry import Grid
    from segment.preprocessing.plan import Plan
    from segment.preprocessing.prepare import Placement
    from segment.training.memory import keep_freed_memory

    shape, classes, mirror = case(text)
    window = (64, 64, 64) if min(shape) >= 64 else (8, 8, 8)
    torch.manual_seed(0)
    network, image = nn.Conv3d(1, classes, 1).eval(), torch.randn(1, *shape)
    windows = SlidingWindows(overlap, mirror=mirror, layout="contiguous")
    labels = Labels({"background": 0} | {f"label {value}": value for value in range(1, classes)})
    plan = Plan((1.0, 1.0, 1.0), window, 1, ("none",))
    predictor = Predictor(network, plan, windows, labels)
    placement = Placement(Grid(tuple(shape), np.eye(4)), tuple((0, size) for size in shape))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if way == "segment":
        keep_freed_memory()
        predictor.mask(image, placement)
    else:
        inferer = SlidingWindowInferer(window, 4, overlap, mode="gaussian")
        total: Any = 0.0
        with torch.inference_mode():
            for axes in windows.flips(3):
                there = [axis + 2 for axis in axes]
                logits: Any = inferer(torch.flip(image[None], there), network)
                total = total + torch.flip(torch.softmax(logits, dim=1), there)
            total[0].argmax(dim=0)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e6


def case(text: str) -> tuple[list[int], int, Any]:
    """Shape, classes and mirrored axes of SIZE:CLASSES:MIRROR."""
    size, classes, mirror = text.split(":")
    return sizes(size), int(classes), mirror.replace("none", "") or []


def memory(given: argparse.Namespace) -> None:
    """Measure each scan in processes of their own and print it beside what its probabilities take."""
    describe("float32")
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for text in given.memory:
        shape, classes, _ = case(text)
        result = float(np.prod(shape)) * classes * 4
        found = {}
        for way in ("segment", "MONAI"):
            if way == "MONAI" and 4 * result > free:
                continue
            command = [sys.executable, __file__, "--measure", way, "--memory", text, "--overlap", str(given.overlap)]
            start = time.perf_counter()
            found[way] = float(subprocess.check_output(command, text=True).splitlines()[-1])
            print(f"  {way} {time.perf_counter() - start:.0f} s", file=sys.stderr)
        peer = f"{found['MONAI']:.0f} MB" if "MONAI" in found else "not measured, does not fit"
        ours = f"segment {found['segment']:.0f} MB"
        print(f"{text}: probabilities {result / 1e6:.0f} MB; {ours}; MONAI {peer}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="128x128x128")
    parser.add_argument("--window", default="64x64x64")
    parser.add_argument("--features", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], choices=[*TYPES])
    parser.add_argument("--nnunet", type=Path, help="interpreter with nnunetv2")
    parser.add_argument("--overlap", type=float, default=0.5, help="of windows whose memory is measured")
    parser.add_argument("--memory", nargs="+", metavar="SIZE:CLASSES:MIRROR", help="measure memory instead")
    for hidden in ("--worker", "--precision", "--measure"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.worker:
        work(given)
    elif given.measure:
        print(measure_memory(given.measure, given.memory[0], given.overlap))
    elif given.memory:
        memory(given)
    else:
        if not given.nnunet:
            print("nnU-Net is not measured: --nnunet names no interpreter that has it.", flush=True)
        for precision in given.precisions:
            speed(given, precision)


if __name__ == "__main__":
    main()
