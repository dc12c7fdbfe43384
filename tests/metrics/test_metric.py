"""Rules for every metric, built-in or custom: the policy for absent structures, and errors."""

import math

import numpy as np
import pytest
import torch

from segment.metrics.check import check_metric
from segment.metrics.metric import DIAGONAL, CountMetric, Metric
from segment.metrics.scan import score_scan
from segment.metrics.standard import STANDARD, info_of_column


class Volume(Metric):
    """Difference of the volumes in mm3, which is not a distance: its penalty is a number."""

    name, title, unit = "volume_mm3", "Volume", "mm3"
    higher_is_better, perfect, penalty, needs_spacing = False, 0.0, 1e6, True

    def compute(self, prediction, reference, spacing):
        return abs(int(prediction.sum()) - int(reference.sum())) * math.prod(spacing)


class Corner(Metric):
    """Distance of the first corners in mm."""

    name, title, unit = "corner_mm", "Corner", "mm"
    higher_is_better, perfect, penalty, needs_spacing = False, 0.0, DIAGONAL, True

    def compute(self, prediction, reference, spacing):
        corners = [np.argwhere(mask)[0] * spacing for mask in (prediction, reference)]
        return np.float32(np.linalg.norm(corners[0] - corners[1]))


def scan(*values: int) -> np.ndarray:
    return np.array(values, np.uint8).reshape(1, 2, -1)


MASKS = scan(1, 1, 0, 2, 0, 0, 0, 0), scan(0, 1, 1, 0, 0, 3, 0, 255)
STRUCTURES = {"both": [1], "invented": [2], "missed": [3], "neither": [4], "region": [1, 2]}
SPACING = (5.0, 2.0, 0.5)


@pytest.mark.parametrize("convert", [np.asarray, torch.tensor])
def test_one_policy_for_all_metrics(convert):
    metrics = (*STANDARD, Volume(), Corner())
    masks = [convert(mask) for mask in MASKS]
    found = {score.name: score for score in score_scan(*masks, STRUCTURES, 5, 255, metrics, SPACING)}
    diagonal = math.hypot(5, 2 * 2, 4 * 0.5)
    assert found["both"].scores == {"dice": 0.5, "iou": 1 / 3, "volume_mm3": 0, "corner_mm": 0.5}
    assert found["region"].scores == pytest.approx({"dice": 0.4, "iou": 0.25, "volume_mm3": 5, "corner_mm": 0.5})
    for name in ("invented", "missed"):
        assert found[name].status == name
        assert found[name].scores == {"dice": 0, "iou": 0, "volume_mm3": 1e6, "corner_mm": pytest.approx(diagonal)}
    assert found["neither"].status == "both_empty"
    assert all(math.isnan(score) for score in found["neither"].scores.values())


def test_unannotated_voxels_are_in_neither_mask():
    prediction, reference = scan(1, 1, 0, 0, 0, 0, 0, 1), scan(0, 1, 1, 0, 0, 0, 0, 255)
    (score,) = score_scan(prediction, reference, {"a": [1]}, 2, 255, (Volume(),), SPACING)
    assert score.scores == {"volume_mm3": 0}
    (score,) = score_scan(scan(0, 0, 0, 0, 0, 0, 0, 1), reference, {"a": [1]}, 2, 255, (Volume(),), SPACING)
    assert score.status == "missed"


def test_all_metrics_see_the_same_masks_which_none_can_change():
    class Careless(Corner):
        def compute(self, prediction, reference, spacing):
            prediction[:] = False
            return 0.0

    with pytest.raises(ValueError, match="read-only"):
        score_scan(*MASKS, {"both": [1]}, 5, 255, (Careless(),), SPACING)


@pytest.mark.parametrize(("value", "said"), [(math.nan, "nan"), (math.inf, "inf"), (None, "None"), ("x", "'x'")])
def test_non_finite_score_is_refused(value, said):
    class Bad(Corner):
        def compute(self, prediction, reference, spacing):
            return value

    with pytest.raises(ValueError, match=f"the metric corner_mm returns {said}"):
        score_scan(*MASKS, {"both": [1]}, 5, 255, (Bad(),), SPACING)


def test_millimetres_need_a_spacing_of_as_many_axes():
    for metric in (Volume(), Corner()):
        with pytest.raises(ValueError, match=f"{metric.name} needs the spacing"):
            score_scan(*MASKS, {"both": [1]}, 5, 255, (metric,))
    with pytest.raises(ValueError, match="2 axes for masks of 3"):
        score_scan(*MASKS, {"both": [1]}, 5, 255, (Corner(),), (1.0, 1.0))


@pytest.mark.parametrize("metric", STANDARD, ids=lambda metric: metric.name)
def test_counts_and_masks_give_the_same_score(metric):
    assert isinstance(metric, CountMetric)
    random = np.random.default_rng(0)
    prediction, reference = random.integers(0, 2, (2, 5, 6, 7))
    (score,) = score_scan(prediction, reference, {"a": [1]}, 2, metrics=(metric,))
    assert metric.compute(prediction > 0, reference > 0, (1, 1, 1)) == score.scores[metric.name]


@pytest.mark.parametrize("metric", [*STANDARD, Volume(), Corner()], ids=lambda metric: metric.name)
def test_valid_metrics_pass(metric):
    check_metric(metric)


def flat_only(self, prediction, reference, spacing):
    _, _ = prediction.shape
    return float(not np.array_equal(prediction, reference))


def test_a_metric_of_flat_images_passes():
    check_metric(type("Flat", (Corner,), {"compute": flat_only})())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "Corner mm"}, "'Corner mm' is not made of lowercase letters"),
        ({"name": "dice"}, "'dice' is already in use"),
        ({"title": None}, "has no title"),
        ({"penalty": 0.0}, "penalty = 0.0, .* must be worse than perfect = 0.0"),
        ({"penalty": math.inf}, "penalty = inf"),
        ({"unit": "voxels"}, "penalty = 'diagonal' is only for distances in mm"),
        ({"higher_is_better": True}, "penalty = 'diagonal' is only for distances in mm"),
        ({"higher_is_better": True, "penalty": -1.0}, "two different masks, better than perfect = 0 where higher"),
        ({"higher_is_better": None}, "needs higher_is_better = True or False"),
        ({"perfect": 1.0, "penalty": 2.0}, "returns 0 for two equal masks, not perfect = 1"),
        ({"compute": lambda self, prediction, reference, spacing: math.nan}, "returns nan, which is not finite"),
        ({"compute": lambda self, prediction, reference: 0.0}, "cannot score a square"),
    ],
)
def test_inconsistent_metric_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        check_metric(type("Changed", (Corner,), changes)(), taken=("dice",))


def test_objects_that_are_not_metrics_are_refused():
    with pytest.raises(ValueError, match=r"dict is not a segment\.metrics\.metric\.Metric"):
        check_metric({"name": "x"})


def test_column_without_a_metric_is_described_by_its_name():
    assert info_of_column("dice") == STANDARD[0].info
    distance, share = info_of_column("hd95_mm"), info_of_column("sensitivity")
    assert (distance.heading, distance.higher_is_better, distance.perfect) == ("HD95 (mm)", False, 0)
    assert (share.heading, share.higher_is_better, share.perfect) == ("sensitivity", True, 1)
