import numpy as np
import pytest
import torch
from plans import plan_of, whole
from scipy import ndimage

from segment.io.geometry import Grid
from segment.preprocessing.prepare import prepared_shape
from segment.preprocessing.restore import Restorer, restore


@pytest.mark.parametrize(
    ("probability", "expected"),
    [
        ([0.9, 0.2], [1, 1, 1, 0, 0, 0]),
        ([0.9, 0.4], [1, 1, 1, 1, 0, 0]),
        ([0.9, 0.4, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0]),  # outer edges of voxels lie on each other, not outer centres
    ],
)
def test_restoring_interpolates_probabilities_not_classes(probability, expected):
    # The border lies where the interpolated probability of class 1 is 1/2, not halfway between two voxels.
    first = torch.tensor([probability])
    grid, plan = Grid((1, len(expected)), np.eye(4)), plan_of((1.0, 1.0))
    back = restore(torch.stack([1 - first, first]), whole(grid, plan), plan)
    assert back.dtype == np.uint8
    assert back.tolist() == [expected]


@pytest.mark.parametrize(
    ("source", "target"),
    [((1.0, 1.0, 1.0), (1.3, 0.8, 1.1)), ((4.0, 1.0, 1.0), (3.0, 1.2, 0.9)), ((1.0, 1.2, 4.0), (1.5, 1.0, 3.0))],
)
def test_scores_are_interpolated_along_every_axis(source, target):
    grid, plan = Grid((13, 17, 15), np.diag([*source[::-1], 1.0])), plan_of(target)
    shape = prepared_shape(grid.shape, source, plan)
    scores = np.random.default_rng(0).normal(size=(4, *shape)).astype(np.float32)
    zoom = [new / old for new, old in zip(grid.shape, shape, strict=True)]
    order = [0 if max(source) > 3 and mm == max(source) else 1 for mm in source]
    expected = scores
    for axis in range(3):
        factors = [1.0, *[z if other == axis else 1.0 for other, z in enumerate(zoom)]]
        expected = ndimage.zoom(expected, factors, order=order[axis], mode="nearest", grid_mode=True)
    clear = np.sort(expected, axis=0)[-1] - np.sort(expected, axis=0)[-2] > 1e-4
    for axis in range(3):  # which comes first, where none is fixed
        back = restore(torch.from_numpy(scores), whole(grid, plan), plan, axis=axis)
        np.testing.assert_array_equal(back[clear], expected.argmax(axis=0)[clear])
    assert clear.mean() > 0.99


def test_half_precision_scores_and_another_decision():
    grid, plan = Grid((6, 6, 6), np.eye(4)), plan_of((2.0, 2.0, 2.0))
    scores = torch.randn(3, 3, 3, 3, generator=torch.Generator().manual_seed(0)).half()
    shapes = []

    def regions(part: torch.Tensor) -> torch.Tensor:
        shapes.append(part.shape)
        return (part > 0).sum(dim=0).to(torch.uint8)

    back = restore(scores, whole(grid, plan), plan, regions)
    assert set(np.unique(back)) == {0, 1, 2, 3}
    assert shapes == [(3, 6, 6)] * 6


def test_planes_along_another_axis_than_the_coarse_one_are_refused():
    grid, plan = Grid((6, 6, 6), np.diag([1.0, 1.0, 4.0, 1.0])), plan_of((4.0, 2.0, 2.0))
    with pytest.raises(ValueError, match=r"axis=1: .* orthogonal to axis 0"):
        Restorer(whole(grid, plan), plan, 3, 1)
