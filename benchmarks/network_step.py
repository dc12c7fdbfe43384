"""One training step of nnunet_plain beside nnU-Net's own network: forward, loss at every scale, backward, SGD.

Both get the same images, loss and optimiser. nnU-Net's network runs as its package gives it: eager, fp32, in torch's
default memory layout. Ours runs as ``segment train`` runs it: the precision that suits the processor, channels last.
The machine's limit, a matrix product in each precision, is printed beside them.

Needs tests/requirements-no-deps.txt, which ``make test`` installs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from monai.losses import DiceCELoss
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from segment import cli
from segment.losses.deep_supervision import AnyScale
from segment.networks.padding import channels_last, memory_format
from segment.run import configure
from segment.run.folder import precision


def theirs(features: list[int]) -> nn.Module:
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
    config = configure.compose("train", overrides, cli.config_folders())
    network = configure.make(config, "network")(spatial_dims=3, in_channels=1, out_channels=3)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument("--patch", type=int, nargs=3, default=[40, 56, 40])
    parser.add_argument("--batch", type=int, default=9)
    parser.add_argument("--steps", type=int, default=5)
    given = parser.parse_args()
    half = precision("auto", "cpu") == "bf16-mixed"
    torch.manual_seed(0)
    image = torch.randn(given.batch, 1, *given.patch)
    reference = torch.randint(0, 3, image.shape)
    networks = {"nnU-Net's": theirs(given.features), "segment's": ours(given.features)}
    works = {
        "nnU-Net's": step(networks["nnU-Net's"], image, reference, half=False),
        "segment's": step(networks["segment's"], image.contiguous(memory_format=memory_format(3)), reference, half),
    }
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(given.steps + 1):
        for name, work in works.items():
            times[name].append(seconds(work))
    with FlopCounterMode(display=False) as counter:
        works["nnU-Net's"]()
    operations = counter.get_total_flops()
    limits = {dtype: product(dtype) for dtype in (torch.float32, torch.bfloat16)}
    print(f"{given.batch} x {given.patch}, features {given.features}, {torch.get_num_threads()} threads")
    print("matrix product: " + ", ".join(f"{str(d)[6:]} {limit:.0f} GFLOP/s" for d, limit in limits.items()))
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    for name, median in medians.items():
        mode = "bfloat16, channels last" if half and name == "segment's" else "float32"
        print(f"{name:10} {median:7.3f} s a step, {operations / median / 1e9:.0f} GFLOP/s ({mode})")
    print(f"ratio {medians['nnU-Net' + chr(39) + 's'] / medians['segment' + chr(39) + 's']:.2f} x as fast")


if __name__ == "__main__":
    main()
