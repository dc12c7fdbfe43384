import numpy as np
import pytest

from segment.data.labels import IGNORE, Labels

BRATS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}


def test_background_is_first_and_labels_are_sorted_by_value():
    d = Labels({"b": 7, "background": 255, "a": 0})
    assert list(d.items()) == [("background", 255), ("a", 0), ("b", 7)]
    assert d.background == "background"
    assert d.structures == {"a": (1,), "b": (2,)}
    assert Labels({"cell": 3, "gap": 1}).background == "cell"  # none is called background: the first given


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int64])
def test_encode_and_decode_are_inverses(kind):
    d = Labels({"background": 255, "membrane": 0, "x": 7})
    mask = np.array([[255, 0, 7], [0, 0, 255]], kind)
    indices = d.encode(mask)
    assert indices.dtype == np.uint8
    np.testing.assert_array_equal(indices, [[0, 1, 2], [1, 1, 0]])
    np.testing.assert_array_equal(d.decode(indices), mask)
    assert d.decode(indices).dtype == np.uint8


def test_distant_and_negative_values_are_encoded():
    d = Labels({"background": 0, "low": -1024, "high": 2_000_000_000})
    mask = np.array([0, -1024, 2_000_000_000, 0], np.int32)
    np.testing.assert_array_equal(d.encode(mask), [0, 1, 2, 0])
    np.testing.assert_array_equal(d.decode(d.encode(mask)), mask)
    with pytest.raises(ValueError, match=r"undeclared value\(s\) 5;"):
        d.encode(np.array([5, 2_000_000_000]))


def test_usual_values_are_their_own_indices():
    mask = np.array([0, 2, 1], np.uint8)
    np.testing.assert_array_equal(Labels({"background": 0, "b": 2, "a": 1}).encode(mask), mask)


def test_encode_names_undeclared_values_and_refuses_fractions():
    d = Labels({"background": 0, "a": 1})
    with pytest.raises(ValueError, match=r"undeclared value\(s\) 3, 9; the labels are"):
        d.encode(np.array([0, 1, 3, 9, 3]))
    with pytest.raises(ValueError, match="integers"):
        d.encode(np.array([0.0, 1.0]))
    with pytest.raises(ValueError, match="outside"):
        d.decode(np.array([0, 2]))
    np.testing.assert_array_equal(d.encode(np.array([True, False])), [1, 0])
    assert d.encode(np.zeros((0, 3), int)).shape == (0, 3)


def test_label_values_must_be_unique():
    with pytest.raises(ValueError, match="share a value"):
        Labels({"background": 0, "a": 1, "b": 1})
    with pytest.raises(ValueError, match="between 1 and 254"):
        Labels({str(i): i for i in range(256)})


def test_regions_are_unions_and_write_their_own_value():
    labels = Labels(BRATS)
    assert list(labels.values()) == [0, 1, 2, 3]
    assert labels.structures == {"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}
    assert (labels.outputs, labels.painted) == (3, (1, 2, 3))
    assert Labels(labels.declared, labels.region_order).structures == labels.structures
    mask = np.array([0, 1, 2, 3], np.uint8)
    np.testing.assert_array_equal(labels.decode(labels.encode(mask)), mask)


def test_values_of_regions_need_not_be_in_the_order_of_the_regions():
    # BraTS as it was published: 1 necrosis, 2 oedema, 4 enhancing.
    labels = Labels({"background": 0, "whole": [1, 2, 4], "core": [1, 4], "enhancing": [4]})
    assert labels.region_order == (2, 1, 4)
    assert labels.painted == (2, 1, 3)


@pytest.mark.parametrize(
    ("declared", "order", "words"),
    [
        (BRATS | {"core": [0, 2]}, None, "background"),
        (BRATS | {"ignore": 3}, None, "ignore"),
        (BRATS | {"ignore": [4, 5]}, None, "a single value"),
        ({"background": 0, "whole": [1, 2], "other": [3, 4]}, None, "'whole': 2 of its values"),
        (BRATS, [1, 2], "for each"),
        (BRATS, [1, 2, 9], "for each"),
        ({"background": 0, "a": 1}, [1], "no label is a union"),
        ({"background": 0, "a": []}, None, "must be an integer"),
        ({"background": 0, "a": "1"}, None, "must be an integer"),
        ({"background": 0, "a": True}, None, "must be an integer"),
        ({"background": 0, "a": 2**40}, None, "must be an integer"),
        ({"a": 1, "b": [2, 3]}, None, "'background'"),
        ({"background": 0, "a": 1, "ignore": 1}, None, "share a value"),
        ({}, None, "between 1"),
    ],
)
def test_labels_outside_the_range_of_masks_are_refused(declared, order, words):
    with pytest.raises(ValueError, match=words):
        Labels(declared, order)


def test_ignored_voxels_have_a_separate_index():
    labels = Labels({"background": 0, "a": 5, "ignore": 9})
    assert (len(labels), labels.outputs, labels.ignore) == (2, 2, 9)
    np.testing.assert_array_equal(labels.encode(np.array([0, 5, 9])), [0, 1, IGNORE])
    np.testing.assert_array_equal(labels.encode(np.array([0, 5, 9, 10**6]) % 10**6), [0, 1, IGNORE, 0])
    assert labels.declared == {"background": 0, "a": 5, "ignore": 9}
