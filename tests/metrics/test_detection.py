"""Lesions as detections, beside hand-computed cases, scikit-learn and a plain loop over all lesions."""

import itertools

import numpy as np
import pytest
from mask_pairs import mask_pairs
from skimage.measure import label
from sklearn.metrics import average_precision_score, roc_curve

from segment.metrics.detection import IOUS, RATES, Detections, detection, detections


def row(*values: float) -> np.ndarray:
    return np.array([values])


def test_lesions_match_one_to_one_the_highest_score_first():
    reference = row(1, 1, 1, 1, 1, 1, 0, 0, 0, 1).astype(bool)
    prediction = row(1, 0, 1, 1, 0, 0, 0, 1, 0, 0).astype(bool)
    probability = row(0.9, 0.4, 0.6, 0.8, 0.4, 0.4, 0.0, 0.7, 0.0, 0.3)
    found = detections(prediction, reference, probability)
    assert found.scores.tolist() == [0.9, 0.8, 0.7]
    assert (found.references, found.scans) == (2, 1)
    # The most probable has an IoU of 1/6 with the lesion that the second has 2/6 with.
    assert found.right.tolist() == [[True, False, False], *[[False, True, False]] * 2, *[[False] * 3] * 2]
    assert detections(prediction, reference, probability, "mean").scores.tolist() == pytest.approx([0.9, 0.7, 0.7])
    assert detections(reference, reference, probability).right.all()  # at least the IoU of a match, not above it


def test_a_lesion_that_overlaps_two_matches_the_better_one():
    reference = row(1, 1, 1, 1, 1, 1, 0, 1, 1, 1).astype(bool)
    prediction = row(1, 1, 0, 1, 1, 1, 1, 1, 1, 1).astype(bool)
    found = detections(prediction, reference, row(*[0.8] * 3, *[0.9] * 7))
    assert found.right.tolist() == [*[[True, True]] * 3, [False, True], [False, False]]


def test_average_precision_and_froc_of_a_hand_computed_case():
    right = np.array([[1, 0, 1, 0, 0]] * 4 + [[1, 0, 0, 0, 0]], bool)
    parts = [
        Detections(np.array([0.9, 0.5]), right[:, [0, 3]], 3),
        Detections(np.array([0.8, 0.8, 0.2]), right[:, [1, 2, 4]], 1),
        Detections(np.zeros(0), np.zeros((5, 0), bool), 0),  # a scan without any lesion counts, too
        Detections(np.zeros(0), np.zeros((5, 0), bool), 0),
    ]
    found = detection(Detections.pooled(parts))
    np.testing.assert_allclose(found.average_precision, [*[1 / 4 + 2 / 3 / 4] * 4, 1 / 4])
    np.testing.assert_allclose(found.thresholds, [0.9, 0.8, 0.5, 0.2])
    np.testing.assert_allclose(found.false_positives, [0, 1 / 4, 2 / 4, 3 / 4])
    np.testing.assert_allclose(found.sensitivity, [1 / 4, 2 / 4, 2 / 4, 2 / 4])
    np.testing.assert_allclose(found.at_rates, [3 / 8, *[1 / 2] * 6])


@pytest.mark.parametrize("predicted", [3, 0])
def test_without_lesions_in_the_references_only_false_positives_are_defined(predicted):
    found = detection(Detections(np.arange(predicted) / 10, np.zeros((5, predicted), bool), 0, scans=2))
    assert np.isnan(found.average_precision).all()
    assert np.isnan(found.at_rates).all()
    assert found.false_positives.tolist() == [0.5, 1.0, 1.5][:predicted]  # per scan


def test_without_predicted_lesions_both_are_0():
    empty, lesion = row(0, 0, 0).astype(bool), row(0, 1, 0).astype(bool)
    found = detection(detections(empty, lesion, row(0.1, 0.2, 0.1)))
    assert not found.average_precision.any()
    assert not found.at_rates.any()
    assert detections(empty, empty, row(0.0, 0.0, 0.0)).references == 0


def plainly_matched(prediction: np.ndarray, reference: np.ndarray, scores: list[float], least: float) -> list[bool]:
    """One predicted component after the other, each with the best component of the reference that is left."""
    left = [reference == number for number in range(1, reference.max() + 1)]
    right = [False] * len(scores)
    for place in sorted(range(len(scores)), key=lambda place: -scores[place]):
        own = prediction == place + 1
        ious = [(own & other).sum() / (own | other).sum() for other in left]
        if ious and max(ious) >= least:
            right[place] = True
            del left[int(np.argmax(ious))]
    return right


def test_equals_a_plain_loop_and_scikit_learn_over_random_scans():
    generator, parts = np.random.default_rng(0), []
    for pair in itertools.islice((pair for pair in mask_pairs(60) if pair.prediction.size < 900), 25):
        probability = generator.random(pair.prediction.shape)
        found = detections(pair.prediction, pair.reference, probability)
        prediction, reference = (label(mask, connectivity=mask.ndim) for mask in (pair.prediction, pair.reference))
        scores = [probability[prediction == number].max() for number in range(1, prediction.max() + 1)]
        order = np.argsort(scores)
        assert found.scores[np.argsort(found.scores)].tolist() == pytest.approx(np.array(scores)[order].tolist())
        for own, least in zip(found.right, IOUS, strict=True):
            plain = np.array(plainly_matched(prediction, reference, scores, least), bool)
            assert own[np.argsort(found.scores)].tolist() == plain[order].tolist()
        assert found.references == reference.max()
        parts.append(found)
    pooled = Detections.pooled(parts)
    result = detection(pooled)
    assert 0 < result.average_precision[-1] < result.average_precision[0] < 1
    hits = pooled.right.sum(axis=1)
    for own, right, count in zip(result.average_precision, pooled.right, hits, strict=True):  # lesions that are found
        assert own == pytest.approx(average_precision_score(right, pooled.scores) * count / pooled.references)
    # LUNA16's way from a ROC curve over the candidates.
    false, true, _ = roc_curve(pooled.right[0], pooled.scores, drop_intermediate=False)
    rates, sensitivity = false * (~pooled.right[0]).sum() / pooled.scans, true * hits[0] / pooled.references
    np.testing.assert_allclose(result.false_positives, rates[1:])
    np.testing.assert_allclose(result.at_rates, np.interp(RATES, rates, sensitivity))


def test_neither_order_of_scans_nor_orientation_nor_scale_of_the_scores_matters():
    pairs = [pair for pair in mask_pairs(20) if pair.prediction.size < 900]
    generator = np.random.default_rng(1)
    scans = [(pair.prediction, pair.reference, generator.random(pair.prediction.shape)) for pair in pairs]
    given = detection(Detections.pooled([detections(*scan) for scan in scans]))
    turned = [[np.flip(array).T for array in scan] for scan in reversed(scans)]
    changed = [(prediction, reference, probability**2) for prediction, reference, probability in turned]
    found = detection(Detections.pooled([detections(*scan) for scan in changed]))
    np.testing.assert_allclose(found.average_precision, given.average_precision)
    np.testing.assert_allclose(found.at_rates, given.at_rates)
    np.testing.assert_allclose(found.thresholds, given.thresholds**2)
