import json
import math
from pathlib import Path

import pytest
import torch

from segment.augment import intensity

SHAPES = [(24, 20), (12, 10, 14)]
every_shape = pytest.mark.parametrize("shape", SHAPES)
# What batchgeneratorsv2 0.3.6's transforms make of WAVES with the parameters that the keys name.
PEER = json.loads((Path(__file__).parent / "batchgeneratorsv2.json").read_text())
WAVES = torch.sin(torch.arange(72.0) * 0.7).view(8, 9) + torch.linspace(0, 1, 9)


def normalised(shape) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def changed(change, image: torch.Tensor, *numbers) -> torch.Tensor:
    result = image.clone()
    change(result, *numbers)
    return result


@pytest.mark.parametrize(
    ("key", "change", "numbers"),
    [
        ("contrast 1.2", intensity.contrast, (1.2,)),
        ("free contrast 1.2", intensity.contrast, (1.2, False)),
        ("gamma 1.3", intensity.gamma, (1.3,)),
        ("inverted gamma 0.8", intensity.gamma, (0.8, True)),
        ("blur 0.55 0.95", intensity.blur, ((0.55, 0.95),)),
        ("resolution 0.6", intensity.low_resolution, ((0.6, 0.6),)),
    ],
)
def test_the_result_is_that_of_batchgeneratorsv2(key, change, numbers):
    expected = torch.tensor(PEER[key]).view(8, 9)
    torch.testing.assert_close(changed(change, WAVES, *numbers), expected, rtol=0, atol=2e-5)


@every_shape
def test_noise_has_the_deviation_and_comes_from_the_generator(shape):
    image = normalised(shape)
    noise = changed(intensity.noise, image, 0.5, torch.Generator().manual_seed(1)) - image
    assert float(noise.std()) == pytest.approx(0.5, rel=0.1)
    assert abs(float(noise.mean())) < 4 * 0.5 / math.sqrt(image.numel())
    again = changed(intensity.noise, image, 0.5, torch.Generator().manual_seed(1)) - image
    assert torch.equal(noise, again)
    other = changed(intensity.noise, image, 0.5, torch.Generator().manual_seed(2)) - image
    assert not torch.equal(noise, other)


@every_shape
def test_blur_keeps_a_constant_and_spreads_a_point_by_sigma_along_each_axis(shape):
    constant = torch.full(shape, 0.7)
    torch.testing.assert_close(changed(intensity.blur, constant, [1.0] * len(shape)), constant)
    sigmas = [0.8, 1.5, 1.1][: len(shape)]
    point = torch.zeros([21] * len(shape))
    point[(10,) * len(shape)] = 1
    spread = changed(intensity.blur, point, sigmas)
    assert float(spread.sum()) == pytest.approx(1, abs=1e-5)
    for axis, sigma in enumerate(sigmas):
        others = tuple(a for a in range(len(shape)) if a != axis)
        profile = spread.sum(dim=others)
        variance = float((profile * (torch.arange(21) - 10) ** 2).sum())
        assert math.sqrt(variance) == pytest.approx(sigma, rel=0.05)  # the tails are cut off


@pytest.mark.parametrize("shape", [(1, 9), (2, 3), (1, 2, 5)])
def test_axes_shorter_than_the_kernel_are_blurred_too(shape):
    image = normalised(shape)
    blurred = changed(intensity.blur, image, [2.0] * len(shape))
    assert torch.isfinite(blurred).all()
    assert blurred.min() >= image.min()
    assert blurred.max() <= image.max()


def test_brightness_multiplies_and_shift_adds():
    image = normalised((5, 6))
    torch.testing.assert_close(changed(intensity.brightness, image, 1.5), image * 1.5)
    torch.testing.assert_close(changed(intensity.shift, image, -0.5), image - 0.5)


@every_shape
def test_contrast_stretches_about_the_mean_and_stays_within_the_range(shape):
    image = normalised(shape) + 5
    less, more = (changed(intensity.contrast, image, factor) for factor in (0.5, 2.0))
    torch.testing.assert_close(less.mean(), image.mean())
    torch.testing.assert_close(less.std(), image.std() / 2)
    assert more.max() <= image.max()
    assert more.min() >= image.min()
    assert more.std() > 1.3 * image.std()
    torch.testing.assert_close(changed(intensity.contrast, image, 2.0, False).std(), image.std() * 2)


@every_shape
@pytest.mark.parametrize("inverted", [False, True])
def test_gamma_bends_monotonously_and_keeps_mean_and_deviation(shape, inverted):
    image = normalised(shape) * 3 + 100  # a mean far from 0 costs accuracy in single precision
    bent = changed(intensity.gamma, image, 2.0, inverted)
    torch.testing.assert_close(bent.mean(), image.mean(), rtol=0, atol=1e-3)
    torch.testing.assert_close(bent.std(), image.std(), rtol=1e-3, atol=0)
    assert (bent.flatten()[image.flatten().argsort()].diff() >= -1e-4).all()
    torch.testing.assert_close(changed(intensity.gamma, image, 1.0, inverted), image, rtol=0, atol=1e-3)
    # An exponent above 1 darkens the middle relative to the ends; of the negative, it brightens it.
    middle = (bent.max() + bent.min()) / 2
    assert (bent.mean() > middle) == inverted


@every_shape
def test_low_resolution_uses_image_values_and_factor_one_changes_nothing(shape):
    image = normalised(shape)
    assert torch.equal(changed(intensity.low_resolution, image, [1.0] * len(shape)), image)
    coarse = changed(intensity.low_resolution, image, [0.5] * len(shape))
    assert coarse.std() < 0.9 * image.std()
    only_last = changed(intensity.low_resolution, image, [*[1.0] * (len(shape) - 1), 0.5])
    alone = changed(intensity.low_resolution, image[:1].clone(), [*[1.0] * (len(shape) - 1), 0.5])
    torch.testing.assert_close(only_last[:1], alone)  # rows do not mix


def test_blank_fills_boxes_with_the_mean():
    image = normalised((6, 7))
    result = changed(intensity.blank, image, [(slice(0, 2), slice(1, 3))])
    torch.testing.assert_close(result[:2, 1:3], image.mean().expand(2, 2))
    assert int((result != image).sum()) == 4


@pytest.mark.parametrize(
    ("change", "numbers"),
    [
        (intensity.contrast, (1.3,)),
        (intensity.gamma, (1.3,)),
        (intensity.gamma, (0.7, True)),
        (intensity.blur, ((1.0,) * 3,)),
        (intensity.low_resolution, ((0.5,) * 3,)),
    ],
)
def test_constant_patch_stays_unchanged(change, numbers):
    image = torch.full((4, 5, 6), 0.7)
    torch.testing.assert_close(changed(change, image, *numbers), image)
