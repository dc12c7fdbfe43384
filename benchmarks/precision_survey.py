"""What is wrong in bf16 on this processor with this torch: every kind of layer at small extents, beside fp32.

    python benchmarks/precision_survey.py               every case, a few minutes
    python benchmarks/precision_survey.py --quick       fewer extents and layouts, half a minute
    python benchmarks/precision_survey.py --only 'conv3d k3 .* 2x4x4'
    python benchmarks/precision_survey.py --mended      with segment/networks/bf16_convolution.py in effect

Each case runs forward and backward three times, each time with other values in the memory that was freed before, so
that a read of freed memory shows. Both precisions start from the same numbers, rounded to bf16. Wrong is what is not
finite, differs between the three times, or is off by more than a share of the largest value (``--tolerance``). Needs
torch alone. A survey, no test: the exit code is 0 whatever it finds.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import ctypes
import functools
import os
import platform
import re
import signal
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # so that two threads wait for each other without taking a core

import torch
from torch import Tensor, nn
from torch.nn import functional

FLAGS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16")
SIZES = [size for size in (16, 64, 256, 1024, 4096, 16384, 65536, 110592, 262144) for _ in range(4)]
PERTURB, TRIM_THRESHOLD, MMAP_THRESHOLD = -6, -1, -3  # of glibc's mallopt
EXTENT = 4  # along the axes that are not varied
BATCH = 2
OUTPUTS = ("forward", "input grad", "weight grad", "bias grad")


@dataclass(frozen=True)
class Layer:
    """A kind of layer: how to make it, over how many axes, for which channels.

    Attributes:
        name: As printed.
        axes: Axes that vary; 0 for layers over tokens, whose channels come last.
        make: Takes input and output channels.
        channels: Pairs of them.
        plain: Whether it also runs on bf16 tensors without autocast.
    """

    name: str
    axes: int
    make: Callable[[int, int], nn.Module]
    channels: tuple[tuple[int, int], ...] = ((32, 32),)
    plain: bool = False


@dataclass(frozen=True)
class Case:
    """One layer with its channels, extents, memory layout, number of threads and way of computing in bf16."""

    layer: Layer
    channels: tuple[int, int]
    extents: tuple[int, ...]
    last: bool
    threads: int
    plain: bool

    def __str__(self) -> str:
        layout = "channels-last" if self.last else "contiguous"
        way = "bf16 tensors" if self.plain else "autocast"
        channels, extents = ">".join(map(str, self.channels)), "x".join(map(str, self.extents))
        return f"{self.layer.name:<32} {channels:<6} {extents:<7} {layout:<13} {self.threads} thread(s) {way:<12}"


class Attention(nn.Module):
    """Attention of two heads, queries, keys and values being thirds of the channels."""

    def forward(self, tokens: Tensor) -> Tensor:
        parts = tokens.unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        return functional.scaled_dot_product_attention(parts[0], parts[1], parts[2])


def convolutions(axes: int) -> Iterator[Layer]:
    """Convolutions over two or three axes, transposed ones included."""
    plain, transposed = (nn.Conv2d, nn.ConvTranspose2d) if axes == 2 else (nn.Conv3d, nn.ConvTranspose3d)
    usual = ((16, 32), (64, 64))

    def layer(name: str, channels: tuple[tuple[int, int], ...] = usual, kind: type = plain, **more: object) -> Layer:
        if "depthwise" in name:
            return Layer(f"conv{axes}d {name}", axes, lambda a, b: kind(a, b, groups=a, **more), channels, True)
        start = "conv" if kind is plain else "transposed"
        return Layer(f"{start}{axes}d {name}", axes, functools.partial(kind, **more), channels, True)

    yield layer("k3", ((1, 32), *usual), kernel_size=3, padding=1)
    if axes == 3:
        yield layer("k(1,3,3)", kernel_size=(1, 3, 3), padding=(0, 1, 1))
    yield layer("k5", ((16, 32),), kernel_size=5, padding=2)
    yield layer("k7", ((16, 16),), kernel_size=7, padding=3)
    yield layer("k1", ((32, 3), *usual), kernel_size=1)
    yield layer("k3 stride 2", kernel_size=3, padding=1, stride=2)
    yield layer("k3 stride 3", kernel_size=3, padding=1, stride=3)
    yield layer("k2 stride 2 unpadded", ((16, 32),), kernel_size=2, stride=2)
    yield layer("k3 dilation 2", ((16, 32),), kernel_size=3, padding=2, dilation=2)
    yield layer("k3 groups 4", ((32, 32), (64, 64)), kernel_size=3, padding=1, groups=4)
    yield layer("depthwise k3", ((32, 32), (64, 64)), kernel_size=3, padding=1)
    yield layer("depthwise k5", ((32, 32),), kernel_size=5, padding=2)
    yield layer("k2 stride 2", ((32, 16), (64, 64)), transposed, kernel_size=2, stride=2)
    yield layer("k3 stride 2", ((32, 16), (64, 64)), transposed, kernel_size=3, stride=2, padding=1, output_padding=1)


def others(axes: int) -> Iterator[Layer]:
    """Normalisation, interpolation and pooling over two or three axes."""
    of: Callable[[str], type] = lambda name: getattr(nn, f"{name}{axes}d")  # noqa: E731
    yield Layer(f"instance norm {axes}d", axes, lambda a, _: of("InstanceNorm")(a, affine=True))
    yield Layer(f"batch norm {axes}d", axes, lambda a, _: of("BatchNorm")(a))
    yield Layer(f"group norm {axes}d", axes, lambda a, _: nn.GroupNorm(4, a))
    for mode in ("nearest", "bilinear" if axes == 2 else "trilinear"):
        yield Layer(f"interpolation {axes}d {mode}", axes, lambda *_, mode=mode: nn.Upsample(scale_factor=2, mode=mode))
    yield Layer(f"max pooling {axes}d k2", axes, lambda *_: of("MaxPool")(2))
    yield Layer(f"max pooling {axes}d k3 stride 2", axes, lambda *_: of("MaxPool")(3, 2, 1))
    yield Layer(f"average pooling {axes}d k2", axes, lambda *_: of("AvgPool")(2))
    yield Layer(f"average pooling {axes}d to 1", axes, lambda *_: of("AdaptiveAvgPool")(1))


def layers() -> Iterator[Layer]:
    """Every kind of layer that the networks use."""
    for axes in (3, 2):
        yield from convolutions(axes)
        yield from others(axes)
    yield Layer("linear", 0, nn.Linear, ((16, 32), (64, 3), (64, 64)), True)
    yield Layer("layer norm", 0, lambda a, _: nn.LayerNorm(a), ((32, 32), (64, 64)))
    yield Layer("attention", 0, lambda *_: Attention(), ((96, 32), (192, 64)), True)


def shapes(axes: int, quick: bool) -> list[tuple[int, ...]]:
    """Each axis from 1 to 6 with the others fixed, then all equal."""
    if not axes:
        return [(tokens,) for tokens in ((1, 3) if quick else (1, 2, 3, 4, 5, 6, 27))]
    sizes = (1, 2, 3) if quick else range(1, 7)
    varied = [tuple(n if i == axis else EXTENT for i in range(axes)) for axis in range(axes) for n in sizes]
    if quick:
        varied = [shape for shape in varied if shape[0] < EXTENT]
    return list(dict.fromkeys([*varied, *((n,) * axes for n in ((2,) if quick else sizes))]))


def ways(layer: Layer, quick: bool) -> Iterator[tuple[tuple[int, int], bool, int, bool]]:
    """Channels, whether they come last in memory, threads, whether bf16 without autocast: not every combination.

    Every pair of channels runs the usual way, the widest one, which is the last, in the others too.
    """
    for channels in layer.channels[-1:] if quick else layer.channels:
        yield channels, False, 1, False
    if quick:
        return
    if layer.axes:
        yield layer.channels[-1], True, 1, False
    yield layer.channels[-1], False, 2, False
    if layer.plain:
        yield layer.channels[-1], False, 1, True
    if layer.plain and layer.axes:
        yield layer.channels[-1], True, 2, False


def cases(quick: bool, only: str) -> list[Case]:
    """The cases that were asked for, those of one layer together."""
    found = [
        Case(layer, channels, extents, last, threads, plain)
        for layer in layers()
        for channels, last, threads, plain in ways(layer, quick)
        for extents in shapes(layer.axes, quick)
    ]
    return [case for case in found if re.search(only, re.sub(" +", " ", str(case)))]


def mallopt(option: int, value: int) -> bool:
    """Set an option of glibc's allocator; False where there is no such allocator."""
    try:
        return bool(ctypes.CDLL(None).mallopt(option, value))
    except (AttributeError, OSError, TypeError):
        return False


@contextlib.contextmanager
def filled(way: int) -> Iterator[Callable[[], None]]:
    """Yield what fills the memory that is free now: with 1e30, with NaN, and whatever is handed out with 1.2e30.

    Args:
        way: 0, 1 or 2.
    """
    value = float("nan") if way == 1 else 1e30

    def fill() -> None:
        for tensor in [torch.full((size,), value) for size in SIZES]:
            del tensor

    if way == 2 and mallopt(PERTURB, 0x8E):  # glibc hands memory out filled with the complement, 0x71
        try:
            yield lambda: None
        finally:
            mallopt(PERTURB, 0)
    else:
        yield fill


def compute(case: Case, module: nn.Module, image: Tensor, upstream: Tensor | None, way: int | None) -> list[Tensor]:
    """The output and the gradients of the input, the weights and the bias.

    Args:
        case: What to run.
        module: Its layer; fp32.
        image: Its input; fp32.
        upstream: Gradient of the output; None for ones.
        way: How freed memory is filled, or None for the reference in fp32.
    """
    half = way is not None
    module, image = copy.deepcopy(module), image.detach()
    if half and case.plain:
        module, image = module.bfloat16(), image.bfloat16()
    image = image.clone().requires_grad_()  # keeps the layout
    with filled(way) if half else contextlib.nullcontext(lambda: None) as fill:
        fill()
        with torch.autocast("cpu", torch.bfloat16, enabled=half and not case.plain):
            output = module(image)
        fill()
        output.backward(torch.ones_like(output) if upstream is None else upstream.to(output.dtype))
    parameters = [parameter.grad for parameter in module.parameters()]
    return [part.detach().float() for part in (output, image.grad, *parameters)]


def made(case: Case) -> tuple[nn.Module, Tensor]:
    """The layer and its input, fp32 numbers that bf16 can hold, the same at every call."""
    torch.manual_seed(zlib.crc32(str(case).encode()))
    module, first = case.layer.make(*case.channels), case.channels[0]
    shape = (BATCH, first, *case.extents) if case.layer.axes else (BATCH, *case.extents, first)
    image = torch.randn(shape).bfloat16().float()
    for parameter in module.parameters():
        parameter.data = parameter.data.bfloat16().float()
    if case.last:
        layout = torch.channels_last if case.layer.axes == 2 else torch.channels_last_3d
        module, image = module.to(memory_format=layout), image.contiguous(memory_format=layout)
    return module, image


def verdicts(case: Case, tolerance: float) -> list[tuple[str, str]] | None:
    """What is wrong with a case, as (output, how); None where the layer refuses these extents in fp32 too."""
    module, image = made(case)
    try:
        upstream = torch.randn_like(compute(case, module, image, None, None)[0]).bfloat16().float()
        reference = compute(case, module, image, upstream, None)
    except (RuntimeError, ValueError):
        return None
    try:
        found = [compute(case, module, image, upstream, way) for way in range(3)]
    except RuntimeError as error:
        return [("forward", f"raises: {str(error).splitlines()[0][:80]}")]
    wrong = []
    for name, right, *repeated in zip(OUTPUTS, reference, *found, strict=False):
        problem = describe_problem(right, repeated, scale(case, right, upstream), tolerance)
        if problem:
            wrong.append((name, problem))
    return wrong


def scale(case: Case, right: Tensor, upstream: Tensor) -> float:
    """What an error is measured against: the largest value, of a norm at least what comes in.

    The gradient through a norm over one or two values is next to nothing, a difference of large numbers.
    """
    floor = upstream.abs().max() if "norm" in case.layer.name else torch.tensor(1e-30)
    return float(torch.maximum(right.abs().max(), floor))


def describe_problem(right: Tensor, repeated: list[Tensor], largest: float, tolerance: float) -> str:
    """What is wrong with a tensor; empty where nothing is."""
    error = max(float((tensor - right).abs().max()) for tensor in repeated) / largest
    problems = []
    if not all(bool(tensor.isfinite().all()) for tensor in repeated):
        problems.append("not finite")
    elif error > tolerance:
        problems.append(f"off by {error:.3g}")
    if not all(torch.equal(tensor, repeated[0]) for tensor in repeated) and problems != ["not finite"]:
        problems.append("differs between repetitions")
    return ", ".join(problems)


def of_onednn() -> str:
    """What oneDNN says of itself: its version and the instruction set it uses."""
    said = ""
    with tempfile.TemporaryFile("w+") as file, contextlib.suppress(RuntimeError, AssertionError):
        kept = os.dup(1)
        os.dup2(file.fileno(), 1)
        try:
            with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
                functional.conv2d(torch.ones(1, 32, 32, 32), torch.ones(32, 32, 3, 3))
        finally:
            os.dup2(kept, 1)
            os.close(kept)
        file.seek(0)
        said = file.read()
    version = re.search(r"oneDNN (v\S+)", said) or re.search(r"MKL-DNN (v\S+)", torch.__config__.show())
    used = re.search(r"cpu,isa:(.*)", said)
    return f"{version[1] if version else 'none'}, uses {used[1] if used else 'it does not say'}"


def processor() -> tuple[str, str]:
    """Its name, and its flags of interest as the process finds them, emulated ones included."""
    name, flags = platform.processor() or platform.machine(), set()
    with contextlib.suppress(OSError):
        described = Path("/proc/cpuinfo").read_text()
        name = next(iter(re.findall(r"model name\s*: (.*)", described)), name)
        flags = set(next(iter(re.findall(r"flags\s*: (.*)", described)), "").split())
    if hasattr(torch.cpu, "get_capabilities"):  # asks the processor, which an emulator answers for
        has = {flag.replace("avx512_f", "avx512f") for flag, value in torch.cpu.get_capabilities().items() if value}
        flags = has or flags
    return name, " ".join(flag for flag in FLAGS if flag in flags) or "none"


def describe(given: argparse.Namespace) -> None:
    """Print on what the survey runs."""
    name, flags = processor()
    print(f"torch      {torch.__version__}, finds {torch.backends.cpu.get_cpu_capability()}")
    print(f"oneDNN     {of_onednn()}; ONEDNN_MAX_CPU_ISA={os.environ.get('ONEDNN_MAX_CPU_ISA', '(not set)')}")
    print(f"processor  {name}; of {', '.join(FLAGS)} it has: {flags}")
    print(f"threads    {torch.get_num_threads()} at the start, {os.cpu_count()} cores")
    print(
        f"wrong      not finite, differing, or off by more than {given.tolerance}; mended: {given.mended}\n", flush=True
    )


def survey(chosen: list[Case], tolerance: float) -> None:
    """Run the cases, print a row for each wrong output, and how many cases of each layer are wrong."""
    totals: dict[str, list[float]] = {}
    print(
        f"{'layer':<32} {'chan.':<6} {'extents':<7} {'layout':<13} {'threads':<11} {'way':<12} which, how", flush=True
    )
    try:
        for case in chosen:
            started = time.perf_counter()
            torch.set_num_threads(case.threads)
            wrong = verdicts(case, tolerance)
            for name, problem in wrong or ():
                print(f"{case} {name}: {problem}", flush=True)
            new = (wrong is not None, bool(wrong), wrong is None, time.perf_counter() - started)
            total = totals.setdefault(case.layer.name, [0, 0, 0, 0.0])
            totals[case.layer.name] = [before + more for before, more in zip(total, new, strict=True)]
    finally:  # also of what a time limit cut short
        summarise(totals)


def summarise(totals: dict[str, list[float]]) -> None:
    """Print cases, wrong ones, those that fp32 refuses too and seconds of each layer and of all."""
    print(f"\n{'layer':<32} {'cases':>6} {'wrong':>6} {'refused':>8} {'seconds':>8}")
    for name, (count, wrong, refused, seconds) in totals.items():
        print(f"{name:<32} {count:6.0f} {wrong:6.0f} {refused:8.0f} {seconds:8.1f}")
    count, wrong, refused, seconds = (sum(total[i] for total in totals.values()) for i in range(4))
    print(f"{'all':<32} {count:6.0f} {wrong:6.0f} {refused:8.0f} {seconds:8.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer extents, one layout, one thread")
    parser.add_argument("--only", default="", metavar="REGEX", help="cases whose row (single spaces) it is found in")
    parser.add_argument("--tolerance", type=float, default=0.05, help="share of the largest value (default 0.05)")
    parser.add_argument("--mended", action="store_true", help="install segment.networks.bf16_convolution first")
    given = parser.parse_args()
    if given.mended:
        from segment.networks import bf16_convolution

        bf16_convolution.install()
    for option in (MMAP_THRESHOLD, TRIM_THRESHOLD):  # freed memory is reused, not returned to the system
        mallopt(option, 1 << 30)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    describe(given)
    chosen = cases(given.quick, given.only)
    if chosen:
        survey(chosen, given.tolerance)
    else:
        print(f"no case matches {given.only!r}")


if __name__ == "__main__":
    main()
