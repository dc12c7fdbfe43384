"""One training step of nnunet_plain beside nnU-Net's own network: forward, loss at every scale, backward, SGD.

Both get the same images, loss and optimiser, each in a process of its own, in turns. nnU-Net's network runs as its
package gives it: eager, fp32, in torch's default memory layout. Ours runs as ``segment train`` runs it: the precision
that suits the processor, channels last, freed memory kept. The machine's limit, a matrix product in each precision, is
printed too.

nnU-Net's network comes with tests/requirements-no-deps.txt, which ``make test`` installs.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import statistics
import time
from collections.abc import Callable

import torch
from _machine import describe
from monai.losses import DiceCELoss
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from segment.config.build import make
from segment.config.compose import compose
from segment.instruction_set import precision
from segment.losses.deep_supervision import AnyScale
from segment.networks.padding import channels_last, memory_format
from segment.training.memory import keep_freed_memory

HALF = precision("auto", "cpu") == "bf16-mixed"


def theirs(features: list[int]) -> nn.Module:
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    n = len(features)
    return PlainConvUNet(
        *(1, n, features, nn.Conv3d, 3, [1] + [2] * (n - 1), 2, 3, 2, True, nn.InstanceNorm3d),
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
    )


def ours(features: list[int]) -> nn.Module:
    overrides = ["network=nnunet_plain", f"network.encoder.features={features}"]
    overrides.append(f"network.deep_supervision={len(features) - 2}")
    config = compose("train", overrides)
    network = make(config, "network")(spatial_dims=3, in_channels=1, out_channels=3)
    return channels_last(network, 3)


def step(network: nn.Module, image: Tensor, reference: Tensor, half: bool) -> Callable[[], None]:
    loss = AnyScale(DiceCELoss(include_background=False, to_onehot_y=True, softmax=True))
    optimizer = torch.optim.SGD(network.parameters(), 1e-2, momentum=0.99, nesterov=True, weight_decay=3e-5)

    def once() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = network(image)
        loss(logits, reference).backward()
        optimizer.step()

    return once


def seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def product(dtype: torch.dtype) -> float:
    """GFLOP/s of a matrix product of 1024 x 1024."""
    a = torch.randn(1024, 1024).to(dtype)
    return 2 * 1024**3 / min(seconds(lambda: a @ a) for _ in range(3)) / 1e9


def measure(name: str, features: list[int], patch: list[int], batch: int, steps: int) -> tuple[list[float], int]:
    """Seconds of each step after the first, and the operations of one."""
    torch.manual_seed(0)
    image = torch.randn(batch, 1, *patch)
    reference = torch.randint(0, 3, image.shape)
    if name == "segment":
        keep_freed_memory()
        work = step(ours(features), image.contiguous(memory_format=memory_format(3)), reference, HALF)
    else:
        work = step(theirs(features), image, reference, half=False)
    with FlopCounterMode(display=False) as counter:
        work()
    return [seconds(work) for _ in range(steps)], counter.get_total_flops()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument("--patch", type=int, nargs=3, default=[40, 56, 40])
    parser.add_argument("--batch", type=int, default=9)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    describe("bfloat16" if HALF else "float32")
    times: dict[str, list[float]] = {"nnU-Net": [], "segment": []}
    if importlib.util.find_spec("dynamic_network_architectures") is None:
        print("nnU-Net's network is not installed; this file's first lines say how to have it beside ours.")
        del times["nnU-Net"]
    operations = 0
    for _ in range(given.rounds):
        for name, measured in times.items():
            # Forked, so that what is imported is there; this process has computed nothing so far.
            with multiprocessing.get_context("fork").Pool(1) as pool:
                new, operations = pool.apply(measure, (name, given.features, given.patch, given.batch, given.steps))
            measured += new
    limits = ", ".join(f"{str(d)[6:]} {product(d):.0f} GFLOP/s" for d in (torch.float32, torch.bfloat16))
    print(f"{given.batch} x {given.patch}, features {given.features}, {torch.get_num_threads()} threads")
    print(f"matrix product: {limits}")
    for name, measured in times.items():
        median, mode = statistics.median(measured), "bfloat16" if HALF and name == "segment" else "float32"
        print(f"{name:8} {median:7.3f} s a step ({min(measured):.3f} - {max(measured):.3f}), {mode}, "
              f"{operations / median / 1e9:.0f} GFLOP/s")  # fmt: skip
    if "nnU-Net" in times:
        print(f"ratio {statistics.median(times['nnU-Net']) / statistics.median(times['segment']):.2f} x as fast")


if __name__ == "__main__":
    main()
