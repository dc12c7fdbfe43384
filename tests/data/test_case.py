from pathlib import Path

import numpy as np
import pytest

from segment.data.case import Dataset


def dataset(labels):
    return Dataset("d", Path(), (), labels, ("image",))


def test_background_comes_first_whatever_its_value_then_labels_by_value():
    d = dataset({"b": 7, "background": 255, "a": 0})
    assert list(d.labels.items()) == [("background", 255), ("a", 0), ("b", 7)]
    assert d.foreground == {"a": 0, "b": 7}
    assert d.background == "background"
    assert d.class_names == ("background", "a", "b")
    assert dataset({"cell": 3, "gap": 1}).background == "cell"  # none is called background: the first given


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int64])
def test_encode_and_decode_are_inverses(kind):
    d = dataset({"background": 255, "membrane": 0, "x": 7})
    mask = np.array([[255, 0, 7], [0, 0, 255]], kind)
    indices = d.encode(mask)
    assert indices.dtype == np.uint8
    np.testing.assert_array_equal(indices, [[0, 1, 2], [1, 1, 0]])
    np.testing.assert_array_equal(d.decode(indices), mask)
    assert d.decode(indices).dtype == np.uint8


def test_values_far_apart_and_negative():
    d = dataset({"background": 0, "low": -1024, "high": 2_000_000_000})
    mask = np.array([0, -1024, 2_000_000_000, 0], np.int32)
    np.testing.assert_array_equal(d.encode(mask), [0, 1, 2, 0])
    np.testing.assert_array_equal(d.decode(d.encode(mask)), mask)
    with pytest.raises(ValueError, match=r"undeclared value\(s\) 5;"):
        d.encode(np.array([5, 2_000_000_000]))


def test_usual_values_are_their_own_indices():
    mask = np.array([0, 2, 1], np.uint8)
    np.testing.assert_array_equal(dataset({"background": 0, "b": 2, "a": 1}).encode(mask), mask)


def test_encode_names_undeclared_values_and_refuses_fractions():
    d = dataset({"background": 0, "a": 1})
    with pytest.raises(ValueError, match=r"undeclared value\(s\) 3, 9; the labels are"):
        d.encode(np.array([0, 1, 3, 9, 3]))
    with pytest.raises(ValueError, match="integers"):
        d.encode(np.array([0.0, 1.0]))
    with pytest.raises(ValueError, match="outside"):
        d.decode(np.array([0, 2]))
    np.testing.assert_array_equal(d.encode(np.array([True, False])), [1, 0])
    assert d.encode(np.zeros((0, 3), int)).shape == (0, 3)


def test_labels_must_have_values_of_their_own():
    with pytest.raises(ValueError, match="share a value"):
        dataset({"background": 0, "a": 1, "b": 1})
    with pytest.raises(ValueError, match="between 1 and 255"):
        dataset({str(i): i for i in range(256)})
