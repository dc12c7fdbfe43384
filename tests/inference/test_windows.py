from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from segment.config.build import make
from segment.config.compose import compose
from segment.inference.windows import SlidingWindows

FOLDER = Path(__file__).parents[2] / "conf" / "inference"


def convolution(dims: int, size: int = 1) -> nn.Module:
    """A network of one convolution: pointwise it knows no neighbours, larger it is not symmetric."""
    kind = nn.Conv3d if dims == 3 else nn.Conv2d
    torch.manual_seed(0)
    return kind(2, 3, size, padding="same").eval()


def image_of(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))


def whole(network: nn.Module, image: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.softmax(network(image[None])[0], dim=0)


def counting(network: nn.Module, seen: list[tuple[int, ...]]) -> nn.Module:
    network.register_forward_hook(lambda module, inputs, output: seen.append(tuple(inputs[0].shape)))
    return network


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_windows_of_a_pointwise_network_equal_the_whole_scan(data):
    dims = data.draw(st.sampled_from([2, 3]))
    shape = data.draw(st.tuples(*[st.integers(1, 20)] * dims))
    window = data.draw(st.tuples(*[st.integers(2, 12)] * dims))
    windows = SlidingWindows(
        overlap=data.draw(st.sampled_from([0, 0.25, 0.5, 0.7])),
        batch_size=data.draw(st.integers(1, 5)),
        mirror=data.draw(st.sampled_from(["all", [], [0], [1, 0]])),
    )
    network, image = convolution(dims), image_of(shape)
    probabilities = windows(network, image, window)
    assert probabilities.dtype == torch.float32
    torch.testing.assert_close(probabilities, whole(network, image), rtol=0, atol=1e-5)
    torch.testing.assert_close(probabilities.sum(dim=0), torch.ones(shape), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(9, 10), (6, 7, 8)])
@pytest.mark.parametrize("mirror", ["all", [1], [0, 1]])
def test_mirrored_passes_are_averaged_as_probabilities(shape, mirror):
    dims = len(shape)
    network, image = convolution(dims, 3), image_of(shape)
    axes = list(range(dims)) if mirror == "all" else mirror
    views = []
    for chosen in product([False, True], repeat=len(axes)):
        flipped = [axis + 1 for axis, flip in zip(axes, chosen, strict=True) if flip]
        views.append(torch.flip(whole(network, torch.flip(image, flipped)), flipped))
    by_hand = torch.stack(views).mean(dim=0)
    assert not torch.allclose(by_hand, views[0], atol=1e-3)
    torch.testing.assert_close(SlidingWindows(mirror=mirror)(network, image, shape), by_hand, rtol=0, atol=1e-5)


@pytest.mark.parametrize("regions", [False, True])
def test_mirrored_passes_are_averaged_as_logits_where_asked(regions):
    network, image = convolution(2, 3), image_of((9, 10))
    with torch.inference_mode():
        views = [torch.flip(network(torch.flip(image, axes)[None])[0], axes) for axes in ([], [1], [2], [1, 2])]
    logits = torch.stack(views).mean(dim=0)
    by_hand = torch.sigmoid(logits) if regions else torch.softmax(logits, dim=0)
    windows = SlidingWindows(mirror="all", average="logits")
    found = windows(network, image, (9, 10), regions)
    torch.testing.assert_close(found, by_hand, rtol=0, atol=1e-5)
    assert not torch.allclose(found, SlidingWindows(mirror="all")(network, image, (9, 10), regions), atol=1e-4)
    assert windows.describe()["test_time_augmentation"] == "mirror all of logits"
    with pytest.raises(ValueError, match="average=mean must be one of probabilities, logits"):
        SlidingWindows(average="mean")


@pytest.mark.parametrize(
    ("mirror", "dims", "flips"),
    [
        ([], 3, [()]),
        ([1], 2, [(), (1,)]),
        ("all", 2, [(), (0,), (1,), (0, 1)]),
        ("all", 3, [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]),
    ],
)
def test_every_combination_of_axes_is_flipped_once(mirror, dims, flips):
    assert SlidingWindows(mirror=mirror).flips(dims) == flips


@pytest.mark.parametrize(
    ("shape", "overlap", "count"),
    [
        ((16, 16), 0.5, 1),
        ((5, 16), 0.5, 1),
        ((24, 16), 0.5, 2),
        ((17, 24), 0.5, 4),
        ((25, 16), 0.5, 3),  # at 0, 8 and 9
        ((32, 16), 0, 2),
        ((16, 24, 33), 0.5, 8),  # at 0 and 8; at 0, 8, 16 and 17
    ],
)
def test_windows_overlap_as_requested_and_run_in_batches(shape, overlap, count):
    seen = []
    network = counting(convolution(len(shape)), seen)
    SlidingWindows(overlap=overlap, batch_size=2)(network, image_of(shape), (16,) * len(shape))
    assert {shape[2:] for shape in seen} == {(16,) * len(shape)}
    assert [shape[0] for shape in seen] == [2] * (count // 2) + [1] * (count % 2)


@pytest.mark.parametrize("shape", [(5, 8), (4, 3), (3, 6, 4)])
def test_a_scan_smaller_than_the_window_is_padded_with_zeros_about_it(shape):
    network, image = convolution(len(shape), 3), image_of(shape)
    missing = [max(0, 8 - size) for size in reversed(shape)]
    around = [part for gap in missing for part in (gap // 2, gap - gap // 2)]
    padded = whole(network, functional.pad(image, around))
    inside = tuple(slice(max(0, 8 - size) // 2, max(0, 8 - size) // 2 + size) for size in shape)
    probabilities = SlidingWindows()(network, image, (8,) * len(shape))
    torch.testing.assert_close(probabilities, padded[(slice(None), *inside)], rtol=0, atol=1e-5)


class MeanOfWindow(nn.Module):
    """Logits 0 and, the same everywhere in a window, the mean of its image."""

    def forward(self, windows: Tensor) -> Tensor:
        mean = windows.mean(dim=(1, 2, 3), keepdim=True).expand(-1, 1, *windows.shape[2:])
        return torch.cat((torch.zeros_like(mean), mean), dim=1)


def test_logits_of_neighbouring_windows_are_blended_by_a_gaussian():
    image = torch.linspace(-3, 3, 12).view(1, 1, 12)
    first, second = float(image[..., :8].mean()), float(image[..., 4:].mean())
    probabilities = SlidingWindows(overlap=0.5, sigma=0.25)(MeanOfWindow(), image, (1, 8))
    x = np.arange(4, 8)
    weights = [np.exp(-((x - centre) ** 2) / (2 * 2.0**2)) for centre in (3.5, 7.5)]
    logits = (weights[0] * first + weights[1] * second) / sum(weights)
    np.testing.assert_allclose(probabilities[1, 0, 4:8], 1 / (1 + np.exp(-logits)), atol=1e-3)
    np.testing.assert_allclose(probabilities[1, 0, :4], 1 / (1 + np.exp(-first)), atol=1e-5)


def test_no_gradients_are_recorded_and_the_image_is_unchanged():
    image = image_of((8, 8)).requires_grad_()
    before = image.detach().clone()
    probabilities = SlidingWindows(mirror="all")(convolution(2), image, (8, 8))
    assert not probabilities.requires_grad
    assert torch.equal(image, before)


@pytest.mark.parametrize("wrong", [{"overlap": 1.0}, {"overlap": -0.1}])
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SlidingWindows(**wrong)


def test_describe_gives_overlap_and_augmentation():
    assert SlidingWindows(overlap=0.25).describe() == {"overlap": 0.25, "test_time_augmentation": "none"}
    assert SlidingWindows(mirror="all").describe()["test_time_augmentation"] == "mirror all"
    assert SlidingWindows(mirror=(0, 2)).describe()["test_time_augmentation"] == "mirror [0, 2]"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yaml")))
@pytest.mark.parametrize("shape", [(9, 12), (5, 6, 9)])
def test_every_configured_inference_works(name, shape):
    windows = make(compose("train", [f"inference={name}"]), "inference")
    network, image = convolution(len(shape)), image_of(shape)
    torch.testing.assert_close(windows(network, image, (4,) * len(shape)), whole(network, image), rtol=0, atol=1e-5)


def test_half_precision_logits_are_averaged_in_fp32():
    network, image = convolution(2), image_of((9, 12))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        probabilities = SlidingWindows(mirror="all")(network, image, (6, 6))
    assert probabilities.dtype == torch.float32
    torch.testing.assert_close(probabilities.sum(dim=0), torch.ones(9, 12), rtol=0, atol=1e-5)
    torch.testing.assert_close(probabilities, whole(network, image), rtol=0, atol=0.02)


@pytest.mark.parametrize("regions", [False, True])
def test_slices_of_a_3d_scan_are_predicted_one_by_one(regions):
    network, image = convolution(2, size=3), image_of((5, 12, 14))
    windows = SlidingWindows(mirror=[0], overlap=0.25)
    together = windows(network, image, (8, 8), regions)
    one_by_one = torch.stack([windows(network, image[:, z], (8, 8), regions) for z in range(5)], dim=1)
    torch.testing.assert_close(together, one_by_one)
    assert together.shape == (3, 5, 12, 14)
