import math

import numpy as np
import pytest
import torch

from segment.augment import changes, intensity
from segment.augment.counter import generator
from segment.errors import UserError

ALL = [changes.Noise, changes.Blur, changes.Brightness, changes.Shift, changes.Contrast, changes.LowResolution,
       changes.Gamma, changes.Blank]  # fmt: skip


def draws(change: changes.Change, channels: int = 2, n: int = 1500) -> list[np.ndarray | None]:
    return [change.draw(generator(5, sample, "change"), channels) for sample in range(n)]


def test_changes_occur_with_the_given_probability():
    found = draws(changes.Brightness(0.3, (0.5, 1.5), channel_probability=0.6))
    rows = np.stack([np.full((2, 3), np.nan) if f is None else f for f in found])
    taken = ~np.isnan(rows[..., 0])
    bound = 4 * math.sqrt(0.25 / 1500)
    assert taken.mean(axis=0).tolist() == pytest.approx([0.3 * 0.6] * 2, abs=bound)
    assert taken.all(axis=1).mean() == pytest.approx(0.3 * 0.6**2, abs=bound)
    assert all(f is None or not np.isnan(f[:, 0]).all() for f in found)


def test_parameters_are_uniform_per_channel_and_axis():
    rows = np.stack(draws(changes.Blur(1, (0.5, 1.0))))
    assert rows.min() >= 0.5
    assert rows.max() <= 1
    assert rows.min() < 0.501
    assert rows.max() > 0.999
    assert rows.mean() == pytest.approx(0.75, abs=4 * 0.5 / math.sqrt(12 * rows.size))
    assert np.abs(np.corrcoef(rows.reshape(len(rows), -1).T) - np.eye(6)).max() < 4 / math.sqrt(1500)


def test_balanced_parameters_are_below_1_as_often_as_above():
    rows = np.stack(draws(changes.Gamma(1, (0.7, 1.5), balanced=True)))[..., 0]
    assert (rows < 1).mean() == pytest.approx(0.5, abs=4 * math.sqrt(0.25 / rows.size))
    assert rows[rows < 1].mean() == pytest.approx(0.85, abs=0.01)
    assert rows[rows > 1].mean() == pytest.approx(1.25, abs=0.02)
    assert ((rows >= 0.7) & (rows <= 1.5)).all()


def test_channels_may_share_one_parameter():
    for rows in draws(changes.Noise(1, (0, 0.1), together=True), channels=4, n=20):
        assert len(np.unique(rows[:, 0])) == 1
    for rows in draws(changes.Noise(1, (0, 0.1), channel_probability=0.5, together=True), channels=4, n=20):
        assert rows is None or len(np.unique(rows[~np.isnan(rows[:, 0]), 0])) == 1


def test_probability_and_channel_count_do_not_shift_the_parameters():
    always = draws(changes.Contrast(1, (0.5, 2)), n=60)
    for other in (changes.Contrast(0.5, (0.5, 2)), changes.Contrast(1, (0.5, 2), channel_probability=0.5)):
        for drawn, rows in zip(draws(other, n=60), always, strict=True):
            if drawn is not None:
                there = ~np.isnan(drawn)
                np.testing.assert_array_equal(drawn[there], rows[there])
    for more, rows in zip(draws(changes.Contrast(1, (0.5, 2)), channels=3, n=60), always, strict=True):
        np.testing.assert_array_equal(more[:2], rows)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("shape", [(9, 10), (6, 7, 8)])
def test_unselected_channels_stay_unchanged(kind, shape):
    image = torch.randn(2, *shape)
    before = image.clone()
    numbers = np.array([[np.nan] * 3, [0.6, 0.7, 0.8]])
    kind(1, (0.3, 0.8)).apply(image, numbers, torch.Generator().manual_seed(0), in_plane=False)
    assert torch.equal(image[0], before[0])
    assert not torch.equal(image[1], before[1])


def test_thick_slices_are_coarsened_only_in_plane():
    image = torch.randn(1, 4, 12, 12)
    apart = image.clone()
    drawn = np.full((1, 3), 0.5)
    changes.LowResolution(1, (0.5, 0.5)).apply(image, drawn, torch.Generator(), in_plane=True)
    intensity.low_resolution(apart[0], [1, 0.5, 0.5])
    assert torch.equal(image, apart)
    whole = apart.clone()
    changes.LowResolution(1, (0.5, 0.5)).apply(whole, drawn, torch.Generator(), in_plane=False)
    assert not torch.equal(whole, apart)


def test_options_reach_the_image():
    image, drawn = torch.randn(1, 9, 9), np.full((1, 3), 2.0)
    results = []
    for change in (
        changes.Gamma(1, (1, 3)),
        changes.Gamma(1, (1, 3), inverted=True),
        changes.Contrast(1, (1, 3)),
        changes.Contrast(1, (1, 3), keep_range=False),
    ):
        results.append(image.clone())
        change.apply(results[-1], drawn, torch.Generator(), in_plane=False)
    assert all(not torch.equal(a, b) for i, a in enumerate(results) for b in results[:i])


def test_description_contains_the_parameters():
    drawn = np.array([[0.123, 0, 0], [np.nan] * 3])
    assert changes.Noise(1, (0, 1)).words(drawn) == "noise 0.12, -"
    assert changes.Gamma(1, (0.5, 2), inverted=True).words(drawn) == "inverted gamma 0.12, -"
    assert changes.LowResolution(1, (0.5, 1)).words(drawn) == "resolution 0.12, -"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: changes.Noise(1.5, (0, 1)), "Noise.*probability=1.5"),
        (lambda: changes.Noise(0.5, (0, 1), channel_probability=-1), "channel_probability=-1"),
        (lambda: changes.Gamma(0.5, (0, 1)), "Gamma.*range"),
        (lambda: changes.LowResolution(0.5, (0.5, 2)), "LowResolution.*range"),
        (lambda: changes.Blur(0.5, (2, 1)), "Blur.*range"),
    ],
)
def test_invalid_parameters_are_refused_by_name(make, said):
    with pytest.raises(UserError, match=said):
        make()
