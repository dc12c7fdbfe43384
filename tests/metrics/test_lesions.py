"""Lesions: how many match by which rule, beside a plain computation over all pairs of components."""

import itertools

import numpy as np
import pytest
from mask_pairs import mask_pairs
from scipy.ndimage import binary_dilation, generate_binary_structure
from skimage.measure import label
from surface_distance import metrics as deepmind

from segment.metrics.brats import LesionWiseDice, LesionWiseHD95
from segment.metrics.lesions import LesionDice, LesionF1, LesionPrecision, LesionRecall, PanopticQuality


def components(mask: np.ndarray) -> list[np.ndarray]:
    labels = label(mask, connectivity=mask.ndim)
    return [labels == number for number in range(1, labels.max() + 1)]


def iou(first: np.ndarray, second: np.ndarray) -> float:
    return (first & second).sum() / (first | second).sum()


def test_equals_a_plain_computation_over_all_pairs_of_components():
    matched = 0
    for pair in itertools.islice((pair for pair in mask_pairs(60) if pair.prediction.size < 900), 25):
        predicted, referenced = components(pair.prediction), components(pair.reference)
        table = np.array([[iou(one, other) for other in predicted] for one in referenced])
        structure = pair.structure()
        recall, precision = (table > 0).any(axis=1).mean(), (table > 0).any(axis=0).mean()
        assert LesionRecall().of_pair(structure) == pytest.approx(recall)
        assert LesionPrecision().of_pair(structure) == pytest.approx(precision)
        total = precision + recall
        assert LesionF1().of_pair(structure) == pytest.approx(2 * precision * recall / total if total else 0)
        # Above 0.5, a lesion matches one other at the most.
        hits = table[table > 0.5]
        matched += len(hits)
        assert LesionRecall("iou").of_pair(structure) == pytest.approx(len(hits) / len(referenced))
        assert LesionPrecision("iou").of_pair(structure) == pytest.approx(len(hits) / len(predicted))
        quality = hits.sum() / (len(hits) + (sum(table.shape) - 2 * len(hits)) / 2)
        assert PanopticQuality().of_pair(structure) == pytest.approx(quality)
    assert matched >= 5


def row(*values: int) -> np.ndarray:
    return np.array([values], bool)


def test_each_lesion_is_matched_once_the_best_pair_first():
    reference = row(1, 1, 1, 1, 0, 0, 1)
    prediction = row(1, 0, 1, 1, 0, 1, 0)  # the last is one voxel away from its lesion
    spacing = (1.0, 1.0)
    assert LesionRecall().compute(prediction, reference, spacing) == 0.5
    assert LesionPrecision().compute(prediction, reference, spacing) == 2 / 3
    assert LesionPrecision("iou", 0.2).compute(prediction, reference, spacing) == 1 / 3
    assert LesionDice().compute(prediction, reference, spacing) == pytest.approx(2 * 2 / 6 / 4)


def test_lesions_that_touch_by_a_corner_are_one():
    mask = np.eye(5, dtype=bool)
    split = mask.copy()
    split[1, 1] = False
    assert LesionRecall().compute(split, mask, (1, 1)) == LesionPrecision().compute(split, mask, (1, 1)) == 1
    assert LesionPrecision("iou").compute(split, mask, (1, 1)) == 0.5


def brats(pair, dilation: int, smallest: float) -> tuple[float, float]:
    """Dice and HD95 by the challenge's rule, lesion by lesion over the whole volume."""
    around = generate_binary_structure(pair.reference.ndim, 2)
    predicted = label(pair.prediction, connectivity=pair.prediction.ndim)
    grown = label(binary_dilation(pair.reference, around, dilation), connectivity=pair.reference.ndim)
    dice, distance, met = [], [], set()
    for number in range(1, grown.max() + 1):
        lesion = pair.reference & (grown == number)
        meeting = set(predicted[binary_dilation(lesion, around, dilation)]) - {0}
        met |= meeting
        if lesion.sum() * np.prod(pair.spacing) <= smallest:
            continue
        if not meeting:
            dice, distance = [*dice, 0.0], [*distance, 374.0]
            continue
        found = np.isin(predicted, list(meeting))
        dice.append(2 * (found & lesion).sum() / (found.sum() + lesion.sum()))
        distances = deepmind.compute_surface_distances(lesion, found, pair.spacing)
        distance.append(deepmind.compute_robust_hausdorff(distances, 95))
    false = predicted.max() - len(met)
    if not len(dice) + false:
        return 1.0, 0.0
    return sum(dice) / (len(dice) + false), (sum(distance) + 374 * false) / (len(dice) + false)


@pytest.mark.parametrize(("dilation", "smallest"), [(1, 0.0), (1, 2.0), (2, 10.0)])
def test_the_rule_of_brats(dilation, smallest):
    scores = []
    for pair in itertools.islice((pair for pair in mask_pairs(60) if pair.prediction.ndim == 3), 15):
        structure = pair.structure()
        dice, distance = brats(pair, dilation, smallest)
        assert LesionWiseDice(dilation, smallest).of_pair(structure) == pytest.approx(dice)
        ours = LesionWiseHD95(dilation, smallest).of_pair(structure)
        assert ours == pytest.approx(distance)
        scores.append(dice)
    assert len(set(scores)) > 4


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: LesionF1("best"), "matching=best is not one of overlap, iou"),
        (lambda: PanopticQuality(1.0), "threshold=1"),
        (lambda: LesionWiseDice(-1), "dilation=-1"),
    ],
)
def test_another_rule_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
