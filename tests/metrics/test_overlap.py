import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segment.metrics.overlap import confusion
from segment.metrics.scan import score_scan


@st.composite
def mask_pairs(draw, most_classes=20):
    """Two masks of one shape, maybe of two integer types, and a number of classes that may exceed what they hold."""
    n_classes = draw(st.integers(2, most_classes))
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=6))
    kinds = st.sampled_from([np.uint8, np.int16, np.uint16, np.int64])
    masks = [draw(hnp.arrays(draw(kinds), shape, elements=st.integers(0, n_classes - 1))) for _ in range(2)]
    return masks[0], masks[1], n_classes


def of_classes(prediction, reference, n_classes):
    """Dice (n_classes,) and IoU (n_classes,) of every class, the background too."""
    found = score_scan(prediction, reference, {str(index): [index] for index in range(n_classes)}, n_classes)
    return (np.array([score.scores[name] for score in found]) for name in ("dice", "iou"))


@given(mask_pairs())
@settings(max_examples=60, deadline=None)
def test_every_cell_counts_its_voxels(pair):
    prediction, reference, n_classes = pair
    expected = [[((reference == i) & (prediction == j)).sum() for j in range(n_classes)] for i in range(n_classes)]
    table = confusion(prediction, reference, n_classes)
    assert table.dtype == np.int64
    np.testing.assert_array_equal(table, expected)


@given(mask_pairs(), st.data())
@settings(max_examples=60, deadline=None)
def test_symmetric_bounded_consistent_and_blind_to_flips(pair, data):
    prediction, reference, n_classes = pair
    dice, iou = of_classes(prediction, reference, n_classes)
    swapped = of_classes(reference, prediction, n_classes)
    axes = data.draw(st.sets(st.integers(0, prediction.ndim - 1)))
    flipped = of_classes(np.flip(prediction, tuple(axes)), np.flip(reference, tuple(axes)), n_classes)
    for other in (swapped, flipped):
        np.testing.assert_array_equal([*other], [dice, iou])
    scored = ~np.isnan(dice)
    assert ((dice[scored] >= 0) & (dice[scored] <= 1)).all()
    np.testing.assert_allclose(iou[scored], dice[scored] / (2 - dice[scored]))


@given(mask_pairs())
@settings(max_examples=60, deadline=None)
def test_overlap_equals_that_of_position_sets(pair):
    prediction, reference, n_classes = pair
    dice, iou = of_classes(prediction, reference, n_classes)
    for label in range(n_classes):
        p = set(zip(*np.nonzero(prediction == label), strict=True))
        r = set(zip(*np.nonzero(reference == label), strict=True))
        if p | r:
            assert dice[label] == pytest.approx(2 * len(p & r) / (len(p) + len(r)))
            assert iou[label] == pytest.approx(len(p & r) / len(p | r))
        else:
            assert np.isnan(dice[label])
            assert np.isnan(iou[label])


@pytest.mark.parametrize("n_classes", [2, 16, 17, 181, 182, 256, 300])
@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int64])
def test_many_classes_tensors_and_arrays_agree(n_classes, kind):
    generator = np.random.default_rng(n_classes)
    largest = min(n_classes, torch.iinfo(kind).max + 1)
    prediction, reference = generator.integers(0, largest, (2, 5, 40))
    prediction[0, :2] = reference[0, 1:3] = largest - 1
    expected = np.bincount((reference * n_classes + prediction).ravel(), minlength=n_classes**2)
    arrays = [mask.astype(str(kind).removeprefix("torch.")) for mask in (prediction, reference)]
    for first, second in (arrays, [torch.tensor(a) for a in arrays], [arrays[0], torch.tensor(arrays[1])]):
        np.testing.assert_array_equal(confusion(first, second, n_classes).ravel(), expected)


def test_memory_order_does_not_matter():
    prediction, reference = np.random.default_rng(0).integers(0, 3, (2, 4, 5, 6))
    expected = confusion(prediction, reference, 3)
    np.testing.assert_array_equal(confusion(np.asfortranarray(prediction), reference, 3), expected)
    np.testing.assert_array_equal(confusion(prediction, np.asfortranarray(reference), 3), expected)
    np.testing.assert_array_equal(confusion(prediction[::-1], reference[::-1], 3), expected)


def test_boolean_masks_are_two_classes():
    table = confusion(np.array([True, True, False]), np.array([True, False, False]), 2)
    np.testing.assert_array_equal(table, [[1, 1], [0, 1]])


@pytest.mark.parametrize("convert", [np.asarray, torch.tensor])
@pytest.mark.parametrize(
    ("prediction", "reference", "problem"),
    [
        ([0, 1], [0, 1, 1], "shape"),
        ([0, 3], [0, 1], "prediction has classes 0 to 3"),
        ([0, 1], [-1, 1], "reference has classes -1 to 1"),
        ([0.0, 1.0], [0, 1], "integer type"),
    ],
)
def test_invalid_masks_are_refused(convert, prediction, reference, problem):
    with pytest.raises(ValueError, match=problem):
        confusion(convert(prediction), convert(reference), 3)
