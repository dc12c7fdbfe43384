import numpy as np
import pytest

from segment.preprocessing.locations import ANNOTATED, MAX_LOCATIONS, find_locations


def test_locations_are_thinned_to_a_fixed_random_choice():
    reference = np.zeros((40, 40, 40), np.uint8)
    reference[:30], reference[35, 0, 0], reference[36] = 1, 3, 255  # the last is not annotated
    found = find_locations(reference, 5, "case")
    assert set(found) == {1, 3, ANNOTATED}
    assert (reference[tuple(found[ANNOTATED].T)] != 255).all()
    voxels = found[1]
    assert voxels.shape == (MAX_LOCATIONS, 3)
    assert MAX_LOCATIONS == 10_000
    assert len(np.unique(voxels, axis=0)) == MAX_LOCATIONS
    assert (reference[tuple(voxels.T)] == 1).all()
    assert np.bincount(voxels[:, 0] // 10) == pytest.approx(MAX_LOCATIONS / 3, abs=200)  # from everywhere
    assert found[3].tolist() == [[35, 0, 0]]
    np.testing.assert_array_equal(find_locations(reference, 5, "case")[1], voxels)
