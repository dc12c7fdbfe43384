"""Planes that are finished while later windows are still to come equal the plain method, in bounded memory."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import SlidingWindowInferer
from plain_windows import plain
from torch import Tensor, nn

from segment.inference.tiling import Pass, best_axis, schedule
from segment.inference.windows import SlidingWindows, assembled

MIRRORS = ["all", [], [0], [1, 0]]


class Shifts(nn.Module):
    """Logits from neighbouring voxels: not symmetric, and computed elementwise, so a batch changes no bit."""

    def __init__(self, outputs: int = 3, shift: int = 1) -> None:
        super().__init__()
        self.outputs, self.shift = outputs, shift

    def forward(self, windows: Tensor) -> Tensor:
        first = windows[:, :1]
        moved = [first * 0.7, *(first.roll(self.shift, axis) * 1.3 for axis in range(2, windows.ndim))]
        return torch.cat(
            [moved[number % len(moved)] - moved[number % 2] * windows[:, -1:] for number in range(self.outputs)], 1
        )


@st.composite
def scans(draw):
    dims = draw(st.sampled_from([2, 3]))
    shape = draw(st.tuples(*[st.integers(1, 12)] * draw(st.sampled_from([dims, 3]))))
    image = torch.randn(2, *shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 9))))
    air = draw(st.tuples(*[st.integers(0, size) for size in shape]))
    image[(slice(None), *(slice(0, end) for end in air))] = draw(st.sampled_from([0.0, -1.5]))
    return image, draw(st.tuples(*[st.integers(2, 7)] * dims))


@settings(max_examples=40, deadline=None)
@given(scans(), st.data())
def test_planes_equal_the_plain_method_bit_for_bit(scan, data):
    image, window = scan
    windows = SlidingWindows(
        overlap=data.draw(st.sampled_from([0, 0.25, 0.5, 0.7])),
        batch_size=data.draw(st.integers(1, 5)),
        mirror=data.draw(st.sampled_from(MIRRORS)),
        average=data.draw(st.sampled_from(["probabilities", "logits"])),
        layout=data.draw(st.sampled_from(["contiguous", "channels_last"])),
    )
    regions, whole = data.draw(st.booleans()), data.draw(st.booleans())
    networks = [Shifts(), Shifts(shift=2)][: data.draw(st.integers(1, 2))]
    axis = data.draw(st.integers(0, image.ndim - 2)) if image.ndim == 4 else 0
    planes = windows.planes(networks, image, window, regions, axis, whole)
    expected = plain(windows, networks, image, window, regions, axis)
    assert torch.equal(assembled(planes, image.shape[1:], axis), expected)


@pytest.mark.parametrize(("shape", "window"), [((23, 17, 9), (8, 8, 8)), ((30, 20), (8, 12))])
def test_logits_of_one_pass_agree_with_monai(shape, window):
    torch.manual_seed(0)
    network = (nn.Conv3d if len(shape) == 3 else nn.Conv2d)(2, 3, 3, padding=1).eval()
    image = torch.randn(2, *shape)
    with torch.inference_mode():
        logits = SlidingWindowInferer(window, 4, 0.5, mode="gaussian")(image[None], network)[0]
    found = SlidingWindows()(network, image, window)
    torch.testing.assert_close(found, logits.softmax(dim=0), rtol=0, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("passes", [[()], list(itertools.chain([()], [(0,)], [(0, 2)]))])
def test_planes_held_do_not_depend_on_the_length_of_the_scan(axis, passes):
    held = []
    for length in (40, 80, 160):
        size = [20, 20, 20]
        size[axis] = length
        order = schedule(size, (8, 8, 8), 0.5, axis, [Pass(0, flipped) for flipped in passes], batch_size=3)
        assert not (order.in_turn and len(passes) > 1)
        assert all(planes <= 8 + 4 + 4 for planes in order.held)  # a window, its step, and that of a mirrored one
        held.append(sum(order.held))
    assert held[0] == held[1] == held[2]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 9, 50])
def test_one_pass_holds_a_window_and_a_batch_does_not_reach_into_the_next_row(batch_size):
    order = schedule((40, 16, 16), (8, 8, 8), 0.5, 0, [Pass(0, ())], batch_size)
    sizes = [len(step.windows) for step in order.steps]
    assert sum(sizes) == 9 * 9
    if batch_size <= 9:
        assert order.held == (8,)
        assert max(sizes) == batch_size
    else:
        assert sizes == [50, 31]


def test_short_scans_run_one_mirrored_pass_after_the_other():
    passes = [Pass(0, flipped) for flipped in ((), (0,), (1,), (0, 1))]
    assert schedule((10, 9, 9), (8, 8, 8), 0.5, 0, passes, 2).in_turn
    assert not schedule((90, 9, 9), (8, 8, 8), 0.5, 0, passes, 2).in_turn
    assert schedule((90, 9, 9), (8, 8, 8), 0.5, 0, passes, 2, whole=True).in_turn


def test_a_plane_comes_before_the_windows_that_do_not_touch_it():
    calls: list[int] = []
    network = Shifts()
    network.register_forward_hook(lambda module, inputs, output: calls.append(len(inputs[0])))
    planes = SlidingWindows(batch_size=1).planes(network, torch.randn(2, 40, 8, 8), (8, 8, 8))
    next(planes)
    assert len(calls) == 1  # planes 0 to 3 are complete before the window at 4
    assert len(list(planes)) == 39
    assert len(calls) == 9


@pytest.mark.parametrize(
    ("size", "window", "axis"),
    [
        ((80, 40, 40), (8, 8, 8), 0),
        ((20, 64, 64), (16, 32, 32), 1),
        ((20, 40, 80), (16, 32, 32), 2),
        ((30, 33, 33), (8, 8, 8), 0),
    ],
)
def test_windows_are_sorted_along_the_axis_that_holds_the_least(size, window, axis):
    assert best_axis(size, window) == axis


@pytest.mark.parametrize(("mirror", "passes"), [([], 1), ([0, 2], 4)])
def test_windows_of_one_value_are_computed_once(mirror, passes):
    image = torch.full((2, 24, 8, 8), -1.0)
    image[1] = 3
    image[:, 18:, 2, 2] = 5  # only the last of five windows holds more than air
    seen: list[Tensor] = []
    network = Shifts()
    network.register_forward_hook(lambda module, inputs, output: seen.extend(inputs[0]))
    windows = SlidingWindows(mirror=mirror)
    found = windows(network, image, (8, 8, 8))
    assert len(seen) == 1 + 2 * passes  # the windows at 12 and 16
    assert torch.equal(found, plain(windows, [network], image, (8, 8, 8)))
