import pytest
import torch

from segment.augment import intensity

SHAPES = [(3, 2, 24, 20), (3, 1, 12, 10, 14)]
every_shape = pytest.mark.parametrize("shape", SHAPES)


def normalised(shape) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def over_space(image: torch.Tensor, what: str) -> torch.Tensor:
    return getattr(image.flatten(2), what)(dim=2)


@every_shape
def test_noise_has_each_samples_own_deviation_and_generator(shape):
    image = normalised(shape)
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 1, 2)]
    noise = intensity.add_noise(image, torch.tensor([0.5, 0.0, 2.0]), generators) - image
    assert float(noise[0].std()) == pytest.approx(0.5, rel=0.15)
    assert not noise[1].any()
    assert float(noise[2].std()) == pytest.approx(2.0, rel=0.15)
    for row, deviation, seed in ((0, 0.5, 1), (2, 2.0, 2)):
        alone = image[row : row + 1]
        again = intensity.add_noise(alone, torch.tensor([deviation]), [torch.Generator().manual_seed(seed)])
        torch.testing.assert_close((again - alone)[0], noise[row])
    assert len({round(float(channel.sum()), 3) for channel in noise[2]}) == shape[1]  # channels differ


@every_shape
def test_brightness_multiplies(shape):
    image = normalised(shape)
    changed = intensity.scale_brightness(image, torch.tensor([0.5, 1.0, 2.0]))
    for i, factor in enumerate((0.5, 1.0, 2.0)):
        torch.testing.assert_close(changed[i], image[i] * factor)


@every_shape
def test_contrast_stretches_about_the_mean_and_stays_within_the_range(shape):
    image = normalised(shape) + 5
    changed = intensity.scale_contrast(image, torch.tensor([0.5, 1.0, 2.0]))
    mean = over_space(image, "mean")
    torch.testing.assert_close(over_space(changed, "mean")[:2], mean[:2])
    torch.testing.assert_close(over_space(changed, "std")[0], over_space(image, "std")[0] / 2)
    torch.testing.assert_close(changed[1], image[1])
    assert (over_space(changed, "amax") <= over_space(image, "amax")).all()
    assert (over_space(changed, "amin") >= over_space(image, "amin")).all()
    assert (over_space(changed, "std")[2] > 1.3 * over_space(image, "std")[2]).all()


@every_shape
def test_gamma_bends_monotonously_and_keeps_mean_and_deviation(shape):
    image = normalised(shape) * 3 + 1
    changed = intensity.gamma(image, torch.tensor([0.5, 1.0, 2.0]))
    torch.testing.assert_close(over_space(changed, "mean"), over_space(image, "mean"), rtol=0, atol=1e-3)
    torch.testing.assert_close(over_space(changed, "std"), over_space(image, "std"), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(changed[1], image[1], rtol=0, atol=1e-3)
    assert not torch.allclose(changed[2], image[2], atol=0.1)
    for before, after in zip(image.flatten(2).flatten(0, 1), changed.flatten(2).flatten(0, 1), strict=True):
        assert (after[before.argsort()].diff() >= -1e-4).all()
    # An exponent above 1 darkens the middle relative to the bright end, one below 1 brightens it.
    middle = (over_space(changed, "amax") + over_space(changed, "amin")) / 2
    bent = (over_space(changed, "mean") - middle).sign()
    assert (bent[0] > 0).all()
    assert (bent[2] < 0).all()


@pytest.mark.parametrize("change", [intensity.scale_contrast, intensity.gamma, intensity.scale_brightness])
def test_a_constant_patch_stays_finite(change):
    image = torch.full((1, 1, 4, 4, 4), 0.7)
    assert torch.isfinite(change(image, torch.tensor([1.3]))).all()


@every_shape
def test_inputs_stay_as_they_are(shape):
    image = normalised(shape)
    before, factor = image.clone(), torch.tensor([0.5, 1.5, 2.0])
    intensity.add_noise(image, factor, [torch.Generator() for _ in range(3)])
    for change in (intensity.scale_brightness, intensity.scale_contrast, intensity.gamma):
        change(image, factor)
    assert torch.equal(image, before)
