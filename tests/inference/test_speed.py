import contextlib

import pytest
import torch
from torch import nn

from segment.inference import speed
from segment.inference.speed import WORTH, Timer, fastest
from segment.inference.windows import SlidingWindows

CPU = torch.device("cpu")
OPEN = SlidingWindows(batch_size="auto", layout="auto")


def choose(windows, monkeypatch, seconds, count=None):
    monkeypatch.setattr(speed.Timer, "seconds", lambda self, way, warm=True: seconds[way])
    found = fastest(windows, nn.Conv3d(1, 2, 3), (1, 8, 8, 8), CPU, contextlib.nullcontext, count)
    return found.batch_size, found.layout


def times(**faster):
    every = {(size, layout): 1.0 for size in (1, 2, 4) for layout in ("contiguous", "channels_last")}
    return every | {(int(name[-1]), name[:-1].strip("_")): value for name, value in faster.items()}


def test_the_fastest_way_is_chosen_if_it_is_clearly_faster(monkeypatch):
    assert choose(OPEN, monkeypatch, times(contiguous_1=0.5)) == (1, "contiguous")
    assert choose(OPEN, monkeypatch, times(channels_last_2=0.5, contiguous_1=0.6)) == (2, "channels_last")
    assert choose(OPEN, monkeypatch, times(channels_last_2=0.97)) == (4, "contiguous")


def test_what_was_asked_for_is_kept(monkeypatch):
    seconds = times(contiguous_1=0.1, channels_last_2=0.5)
    assert choose(SlidingWindows(), monkeypatch, seconds) == (4, "channels_last")
    assert choose(SlidingWindows(batch_size=2, layout="auto"), monkeypatch, seconds) == (2, "channels_last")
    assert choose(SlidingWindows(batch_size="auto", layout="channels_last"), monkeypatch, seconds) == (
        2,
        "channels_last",
    )


def test_few_windows_are_not_worth_a_measurement(monkeypatch):
    assert choose(OPEN, monkeypatch, {}, count=WORTH - 1) == (4, "contiguous")
    assert choose(OPEN, monkeypatch, times(contiguous_1=0.5), count=WORTH) == (1, "contiguous")
    assert OPEN.batch_size == OPEN.layout == "auto"


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_windows_are_timed_in_their_layout_and_precision(layout):
    seen = []
    network = nn.Conv3d(2, 3, 3, padding=1).eval()
    network.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output.dtype)))
    timer = Timer(network, (2, 8, 8, 8), CPU, lambda: torch.autocast("cpu", torch.bfloat16))
    assert timer.seconds((3, layout), warm=False) > 0
    assert len(seen) == 2
    windows, dtype = seen[0]
    assert windows.shape == (3, 2, 8, 8, 8)
    assert dtype == torch.bfloat16
    assert windows.is_contiguous(memory_format=torch.channels_last_3d) == (layout == "channels_last")
    assert network.weight.is_contiguous() == (layout == "contiguous")
