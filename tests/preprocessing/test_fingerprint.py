"""Facts about a whole data set from the surveys of its scans."""

import numpy as np
import pytest

from segment.data.check.survey import QUANTILES, ForegroundIntensity, Survey
from segment.errors import UserError
from segment.preprocessing.fingerprint import take_fingerprint


def intensity(values: np.ndarray) -> ForegroundIntensity:
    quantiles = np.quantile(values, np.linspace(0, 1, QUANTILES))
    return ForegroundIntensity(float(values.mean()), float(values.std()), tuple(quantiles.tolist()))


def survey(*channels: np.ndarray, shape=(10, 20, 30), box=((0, 10), (0, 20), (0, 30))) -> Survey:
    return Survey(shape, (3.0, 1.0, 1.0)[-len(shape) :], box, tuple(intensity(values) for values in channels))


def check(found, scans: list[np.ndarray], tolerance: float) -> None:
    """Compare with numpy on the raw voxels, each scan weighing the same."""
    values = np.concatenate(scans)
    weights = np.concatenate([np.full(len(scan), 1 / len(scan)) for scan in scans])
    mean = np.average(values, weights=weights)
    assert found.mean == pytest.approx(mean, rel=1e-9)
    assert found.sd == pytest.approx(np.sqrt(np.average((values - mean) ** 2, weights=weights)), rel=1e-9)
    low, high = np.percentile(values, [0.5, 99.5], weights=weights, method="inverted_cdf")
    assert found.low == pytest.approx(low, abs=tolerance)
    assert found.high == pytest.approx(high, abs=tolerance)


def test_intensities_are_those_of_the_mixture_of_all_scans():
    rng = np.random.default_rng(0)
    # Scans of very different size, place and spread, so that pooling the voxels would give other numbers.
    first = [rng.normal(100, 10, 50_000), rng.normal(300, 50, 3_000), rng.gamma(2, 40, 20_000)]
    second = [rng.uniform(-1000, 400, len(scan)) for scan in first]
    found = take_fingerprint((survey(*pair) for pair in zip(first, second, strict=True)), ("a", "b"), 3)
    check(found.intensities[0], first, tolerance=2.0)
    check(found.intensities[1], second, tolerance=4.0)


def test_one_scan_gives_its_own_percentiles():
    values = np.random.default_rng(1).normal(size=5000)
    found = take_fingerprint([survey(values)], ("a",), 2).intensities[0]
    assert (found.low, found.high) == pytest.approx(np.percentile(values, [0.5, 99.5]))


def test_many_scans_are_summarised_without_changing_the_numbers():
    rng = np.random.default_rng(2)
    scans = [rng.normal(rng.normal(0, 3), rng.uniform(0.5, 2), 1001) for _ in range(600)]  # summarised twice
    found = take_fingerprint((survey(scan) for scan in scans), ("a",), 2)
    check(found.intensities[0], scans, tolerance=0.02)


def test_integer_and_constant_scans_are_summarised():
    scans = [np.full(100, 7.0), np.repeat([0.0, 7.0], 50)]
    found = take_fingerprint([survey(scan) for scan in scans], ("a",), 2).intensities[0]
    assert (found.mean, found.low, found.high) == (5.25, 0.0, 7.0)
    assert found.sd == pytest.approx(np.sqrt(0.75 * 7**2 * 0.25))


def test_shapes_are_those_after_cropping_and_scans_without_foreground_count_for_them_alone():
    values = np.arange(50.0)
    surveys = [
        survey(values),
        survey(box=((2, 7), (0, 20), (5, 30))),
        survey(values, shape=(4, 4, 4), box=((0, 1), (0, 2), (0, 4))),
    ]
    found = take_fingerprint(surveys, ("CT",), 4)
    assert found.shapes == ((10, 20, 30), (5, 20, 25), (1, 2, 4))
    assert found.spacings == ((3.0, 1.0, 1.0),) * 3
    assert found.relative_size == pytest.approx(5 * 25 / 300)
    assert (found.scans, found.dims, found.channels, found.labels) == (3, 3, ("CT",), 4)
    alone = take_fingerprint(surveys[:1], ("CT",), 4)
    assert vars(found.intensities[0]) == pytest.approx(vars(alone.intensities[0]))


def test_no_foreground_anywhere_leaves_no_intensities():
    assert take_fingerprint([survey(), survey()], ("CT",), 2).intensities == ()


def test_unusable_data_set_is_refused():
    with pytest.raises(UserError, match="no labelled scans"):
        take_fingerprint([], ("a",), 2)
    with pytest.raises(UserError, match="some scans are 2D and some 3D"):
        take_fingerprint([survey(), survey(shape=(5, 5), box=((0, 5), (0, 5)))], ("a",), 2)
