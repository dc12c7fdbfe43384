import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segment.preprocessing.normalize import normalize
from segment.preprocessing.plan import Intensity, Plan


def normalized(image: np.ndarray, *names: str, intensities: tuple[Intensity, ...] = ()) -> np.ndarray:
    result = image.astype(np.float32)
    normalize(result, Plan((1.0,) * 3, (8,) * 3, 1, names, intensities=intensities))
    return result


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.integers(1, 7)] * 3), st.floats(0.1, 1e4), st.floats(-1e4, 1e4))
def test_zscore_gives_mean_zero_and_deviation_one_for_each_channel(shape, deviation, mean):
    image = np.random.default_rng(1).normal(size=(2, *shape))
    image[1] = image[1] * deviation + mean
    out = normalized(image, "zscore", "zscore")
    if np.prod(shape) > 1:
        np.testing.assert_allclose(out.mean(axis=(1, 2, 3)), 0, atol=0.02)
        np.testing.assert_allclose(out.std(axis=(1, 2, 3)), 1, atol=0.02)


@pytest.mark.parametrize("name", ["zscore", "percentiles", "rescale"])
@pytest.mark.parametrize("value", [0.0, 0.1, 1000.1, -3e7])
def test_a_constant_image_becomes_zero(name, value):
    # Not its rounding error divided by its rounding error, which is 1 everywhere.
    np.testing.assert_array_equal(normalized(np.full((1, 21, 33, 17), value, np.float32), name), 0)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["zscore", "masked_zscore", "percentiles", "rescale", "ct"]), st.integers(-12, 12))
def test_the_unit_of_the_values_does_not_matter(name, power):
    image = np.random.default_rng(3).normal(1.0, 0.3, (1, 6, 7, 8)).astype(np.float32)
    image[0, 0] = 0
    ours, scaled = (
        normalized(image * np.float32(unit), name, intensities=(Intensity(unit, 0.3 * unit, 0.2 * unit, 1.8 * unit),))
        for unit in (1.0, 10.0**power)
    )
    np.testing.assert_allclose(scaled, ours, atol=1e-4)
    assert ours.std() > 0.1


def test_masked_zscore_counts_what_is_not_zero_in_any_channel_and_the_holes():
    image = np.random.default_rng(0).normal(100, 20, (2, 9, 9, 9)).astype(np.float32)
    body = np.zeros((9, 9, 9), bool)
    body[2:8, 1:7, 2:8] = True
    image *= body
    image[0, 2:5] = 0  # the other channel still holds something there
    image[:, 5, 4, 4] = 0  # a hole
    out = normalized(image, "masked_zscore", "zscore")
    inside = image[0][body]
    np.testing.assert_allclose(out[0][body], (inside - inside.mean()) / inside.std(), atol=1e-4)
    assert (out[0][~body] == 0).all()
    assert out[0][5, 4, 4] != 0
    np.testing.assert_allclose(out[1], (image[1] - image[1].mean()) / image[1].std(), atol=1e-4)


def test_ct_clips_to_the_percentiles_of_the_training_foreground():
    image = np.array([-3000, -100, 0, 50, 400, 3000], np.float32).reshape(1, 1, 2, 3)
    out = normalized(image, "ct", intensities=(Intensity(mean=40, sd=20, low=-100, high=400),))
    np.testing.assert_allclose(out.ravel(), (np.array([-100, -100, 0, 50, 400, 400]) - 40) / 20)
    with pytest.raises(ValueError, match="intensities"):
        normalized(image, "ct")


def test_percentiles_clip_outliers_of_the_scan_itself():
    image = np.random.default_rng(0).normal(size=(1, 20, 20, 20)).astype(np.float32)
    image[0, 0, 0, 0] = 1e6
    out = normalized(image, "percentiles")
    clipped = np.clip(image, *np.percentile(image, (0.5, 99.5)))
    np.testing.assert_allclose(out, (clipped - clipped.mean()) / clipped.std(), atol=1e-4)


def test_rescale_rgb_and_none():
    image = np.stack([np.arange(24).reshape(2, 3, 4) * 10.0 - 5] * 3)
    image[1] += 5
    out = normalized(image, "rescale", "rgb", "none")
    assert (out[0].min(), out[0].max()) == (0, 1)
    np.testing.assert_allclose(out[1], image[1] / 255, atol=1e-7)
    np.testing.assert_array_equal(out[2], image[2].astype(np.float32))
    with pytest.raises(ValueError, match=r"0\.\.255"):
        normalized(image[:1], "rgb")
