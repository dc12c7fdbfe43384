"""Tests of drift: how often they raise a false alarm, and which simulated shifts they find."""

import numpy as np
import pytest

from segment.io.geometry import Grid
from segment.io.images import Image
from segment.serving.features import image_features, mask_features
from segment.statistics.drift import CLASSIFIER, Sample, control_chart, drifts

LEVEL = 0.05
NAMES = [f"f{number}" for number in range(20)]


def simulated(draw, count, shift=0.0):
    """Correlated features of unequal scale and shape, some discrete, some missing at times; shifted in the first."""
    common = draw.normal(size=(count, 1))
    values = 0.6 * common + 0.8 * draw.normal(size=(count, len(NAMES)))
    values[:, 0] += shift
    values = values * np.geomspace(0.01, 1000, len(NAMES)) + 5
    values[:, 10:14] = np.exp(values[:, 10:14] / values[:, 10:14].std())
    values[:, 14:16] = np.round(values[:, 14:16])
    values[:, 16] = 1.0
    values[draw.random(count) < 0.2, 17] = np.nan
    return values


def false_alarms(simulations):
    alarms = 0
    for seed in range(simulations):
        draw = np.random.default_rng(seed)
        tests = drifts(NAMES, Sample(simulated(draw, 60)), Sample(simulated(draw, 40)), seed)
        alarms += min(test.p_holm for test in tests) < LEVEL
    return alarms / simulations


def test_false_alarms_are_no_more_than_stated():
    # At most 5 %: of 60 simulations, 8 or more would be met in 1 of 100 cases.
    assert false_alarms(60) < 8 / 60


@pytest.mark.slow
def test_false_alarms_over_500_simulations():
    rate = false_alarms(500)
    print(f"false alarms: {rate:.3f} of 500 simulations at level {LEVEL}")
    assert rate <= LEVEL + 2.33 * np.sqrt(LEVEL * (1 - LEVEL) / 500)


def test_a_shift_of_one_feature_is_found_and_named_and_its_beginning_told():
    draw = np.random.default_rng(1)
    reference = simulated(draw, 60)
    seen = np.concatenate([simulated(draw, 20), simulated(draw, 20, shift=3)])
    tests = drifts(NAMES, Sample(reference), Sample(seen))
    assert tests[0].feature == "f0"
    assert tests[0].p_holm < 0.01
    assert [test.feature for test in tests if test.p_holm < LEVEL and test.feature != CLASSIFIER] == ["f0"]
    assert 21 <= control_chart(reference[:, 0], seen[:, 0]).first_out + 1 <= 26
    assert control_chart(reference[:, 5], seen[:, 5]).first_out is None
    with pytest.raises(ValueError, match="too few"):
        drifts(NAMES, Sample(reference), Sample(seen[:9]))


def test_the_classifier_finds_what_no_single_feature_shows():
    draw = np.random.default_rng(2)
    count, many = 200, 30
    reference, seen = draw.normal(size=(count, many)), draw.normal(0.25, 1, size=(count, many))
    tests = drifts(NAMES + [f"g{number}" for number in range(10)], Sample(reference), Sample(seen))
    assert tests[0].feature == CLASSIFIER
    assert tests[0].p_holm < 1e-6


def scan(draw, kind=""):
    """Features of a simulated scan with an organ in its upper left, as another scanner or patient would show it."""
    shape, spacing = np.array((12, 20, 20)), np.array((3.0, 1.0, 1.0))
    centre = np.array((0.6, 0.35, 0.4)) + draw.normal(0, 0.02, 3)
    radius = 0.2 * draw.normal(1, 0.05) * (0.6 if kind == "other anatomy" else 1)
    if kind == "resolution":
        shape, spacing = shape * (1, 2, 2), spacing / (1, 2, 2)
    axes = np.meshgrid(*[(np.arange(size) + 0.5) / size for size in shape], indexing="ij")
    inside = sum(((axis - place) / radius) ** 2 for axis, place in zip(axes, centre, strict=True)) < 1
    image = 100 + 60 * inside + draw.normal(0, 25 if kind == "noise" else 8, shape)
    image = image * 1.5 + 30 if kind == "contrast" else image
    if kind == "flipped axes":
        image, inside = image[::-1, ::-1], inside[::-1, ::-1]
    if kind == "wrong units":
        spacing = spacing / 10
    grid = Grid(tuple(int(size) for size in shape), np.diag([*spacing[::-1], 1.0]))
    found = image_features(Image(image[None].astype(np.float32), grid))
    return found | mask_features(inside.astype(np.uint8), grid, {"organ": 1})


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("", ""),
        ("contrast", "image0_mean"),
        ("noise", "image0_roughness_x"),
        ("resolution", "voxels_x"),
        ("other anatomy", "volume_organ"),
        ("flipped axes", "place_organ_y"),
        ("wrong units", "spacing_z"),
    ],
)
def test_simulated_shifts_of_scans_are_found_and_named(kind, named):
    draw = np.random.default_rng(3)
    reference, seen = [scan(draw) for _ in range(40)], [scan(draw, kind) for _ in range(20)]
    names = sorted(reference[0])
    tables = [
        Sample(np.array([[row.get(name, np.nan) for name in names] for row in rows])) for rows in (reference, seen)
    ]
    alarms = {test.feature for test in drifts(names, *tables) if test.p_holm < 0.01}
    assert named in alarms if kind else alarms == set()
