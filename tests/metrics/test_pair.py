"""Metrics that share what is computed of a structure: the same scores as from whole masks, by the same policy."""

import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from hydra.utils import get_object
from mask_pairs import mask_pairs

from segment.metrics import pair as pair_module
from segment.metrics.check import check_metric
from segment.metrics.hausdorff import HausdorffDistance
from segment.metrics.pair import bounding_box
from segment.metrics.scan import score_scan
from segment.metrics.surface_dice import SurfaceDice

FILES = sorted((Path(__file__).parents[2] / "conf" / "metrics").glob("*.yaml"))


def of_file(file: Path):
    """The metrics of a configuration file."""
    for options in yaml.safe_load(file.read_text(encoding="utf-8")).values():
        yield get_object(options.pop("_target_"))(**options)


EVERY = [metric for file in FILES if file.stem != "all" for metric in of_file(file)]
SPACING = (3.0, 0.7, 1.1)


@pytest.fixture(scope="module")
def masks() -> tuple[np.ndarray, np.ndarray]:
    """Prediction and reference of four classes, some voxels not annotated; class 3 is in neither."""
    random = np.random.default_rng(0)
    reference = np.zeros((9, 12, 10), np.uint8)
    reference[2:6, 3:9, 1:7], reference[6:8, 2:5, 5:9] = 1, 2
    prediction = np.roll(reference, (1, -1, 1), (0, 1, 2))
    reference[random.random(reference.shape) < 0.05] = 255
    return prediction, reference


@pytest.mark.parametrize("metric", EVERY, ids=lambda metric: metric.name)
def test_every_metric_is_sound_and_scores_a_crop_as_the_whole(metric, masks):
    check_metric(metric)
    structures = {"one": [1], "both": [1, 2], "none": [3]}
    scores = score_scan(*masks, structures, 4, 255, (metric,), SPACING)
    known = masks[1] != 255
    for score, classes in zip(scores, structures.values(), strict=True):
        whole = [np.isin(mask, classes) & known for mask in masks]
        if score.status == "ok":
            expected = metric.compute(*whole, SPACING)
            # Specificity alone depends on the voxels of the scan, which are fewer without those not annotated.
            precision = 0.02 if metric.name == "specificity" else 1e-12
            assert score.scores[metric.name] == pytest.approx(expected, rel=precision)
        else:
            assert math.isnan(score.scores[metric.name])


def test_all_names_every_other_file():
    listed = yaml.safe_load((FILES[0].parent / "all.yaml").read_text(encoding="utf-8"))["defaults"]
    assert {"dice", "iou", "all", *listed} == {file.stem for file in FILES}
    assert not {"dice", "iou"} & set(listed), "every command has these two, and Hydra refuses a file twice"


def test_the_background_is_a_structure_too(masks):
    (score,) = score_scan(*masks, {"rest": [0, 2]}, 4, 255, EVERY, SPACING)
    assert score.status == "ok"
    assert all(math.isfinite(value) for value in score.scores.values())


@pytest.mark.parametrize("changed", ["prediction", "reference"])
def test_a_structure_in_one_mask_scores_the_worst_or_what_was_measured(changed, masks):
    other = np.zeros_like(masks[0])
    pair = (other, masks[0]) if changed == "prediction" else (masks[0], other)
    (score,) = score_scan(*pair, {"one": [1]}, 4, None, EVERY, SPACING)
    voxel = math.prod(SPACING) / 1000
    volume = np.count_nonzero(masks[0] == 1) * voxel
    assert score.scores["volume_difference_ml"] == pytest.approx(volume)
    assert score.scores["relative_volume_difference"] == 2
    diagonal = math.hypot(*(size * side for size, side in zip(other.shape, SPACING, strict=True)))
    for metric in EVERY:
        if metric.unit == "mm":
            assert score.scores[metric.name] == pytest.approx(diagonal)
        elif metric.info.is_share:
            assert score.scores[metric.name] == 0


def test_the_tolerance_of_the_metric_comes_before_that_of_the_structure_and_that_before_two_mm():
    pair = next(pair for pair in mask_pairs(20) if 0.1 < SurfaceDice(1).of_pair(pair.structure()) < 0.7)
    masks = [mask.astype(np.uint8) for mask in (pair.prediction, pair.reference)]

    def score(metric: SurfaceDice, tolerance: dict[str, float] | None) -> float:
        return score_scan(*masks, {"a": [1]}, 2, None, (metric,), pair.spacing, tolerance)[0].scores["nsd"]

    at = {mm: SurfaceDice(mm).of_pair(pair.structure()) for mm in (0.5, 1, 2)}
    assert at[0.5] < at[1] < at[2]
    assert score(SurfaceDice(1), {"a": 0.5}) == at[1]
    assert score(SurfaceDice(), {"a": 0.5}) == at[0.5]
    assert score(SurfaceDice(), {"b": 0.5}) == score(SurfaceDice(), None) == at[2]


def test_a_distance_of_just_the_tolerance_counts():
    mask = np.zeros((8, 4), bool)
    mask[1, 1] = True
    spacing = (0.1, 0.1)  # of which three are 0.30000000000000004
    assert SurfaceDice(0.3).compute(np.roll(mask, 3, axis=0), mask, spacing) == 1
    assert SurfaceDice(0.29).compute(np.roll(mask, 3, axis=0), mask, spacing) < 1


def test_what_is_shared_is_computed_once(masks, monkeypatch):
    calls = []
    compute = pair_module.directed_distances
    monkeypatch.setattr(pair_module, "directed_distances", lambda *given: calls.append(1) or compute(*given))
    shared = [metric for metric in EVERY if metric.name != "lesionwise_hd95_mm"]  # which makes pairs of its own
    score_scan(*masks, {"one": [1], "both": [1, 2]}, 4, 255, shared, SPACING)
    assert len(calls) == 4  # boundaries and surface elements of each structure


def test_surfaces_need_two_or_three_dimensions():
    with pytest.raises(ValueError, match="in 2D and 3D, not in 1D"):
        SurfaceDice().compute(np.array([True, False]), np.array([True, True]), (1.0,))


@pytest.mark.parametrize(
    ("options", "said"),
    [({"percentile": 0}, "percentile=0"), ({"percentile": 101}, "percentile=101"), ({"definition": "itk"}, "monai, ")],
)
def test_another_hausdorff_distance_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        HausdorffDistance(**options)


def test_the_box_of_an_empty_mask_is_empty():
    mask = np.zeros((3, 4), bool)
    assert mask[bounding_box(mask)].size == 0
    mask[1, 2:] = True
    assert bounding_box(mask) == (slice(1, 2), slice(2, 4))
