"""Corruptions are functions of (seed, sample) and change what they say."""

import pytest
import torch

from segment.augment.corruption import Genesis, MaskedBlocks
from segment.errors import UserError

SHAPES = [(2, 16, 24), (1, 8, 16, 12)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("corrupt", [MaskedBlocks(), Genesis()])
def test_a_corruption_depends_on_seed_and_sample_alone(corrupt, shape):
    patch = torch.randn(shape)
    first, mask = corrupt(patch, 1, 5)
    assert torch.equal(corrupt(patch, 1, 5)[0], first)
    assert first.shape == patch.shape
    assert mask.shape == (1, *shape[1:])
    assert not torch.equal(corrupt(patch, 1, 6)[0], first)
    assert not torch.equal(corrupt(patch, 2, 5)[0], first)


@pytest.mark.parametrize("shape", SHAPES)
def test_masked_blocks_are_zero_and_the_rest_is_kept(shape):
    patch = torch.randn(shape)
    changed, mask = MaskedBlocks(ratio=0.75, blocks=4)(patch, 0, 0)
    assert float(mask.mean()) == pytest.approx(0.75)
    assert torch.equal(changed, torch.where(mask.bool(), 0, patch))


def test_genesis_shuffles_within_the_patch_paints_inside_or_outside_and_keeps_the_range():
    patch = torch.rand(1, 16, 16, 16)
    shuffled, _ = Genesis(nonlinear=0, shuffle=1, paint=0)(patch, 0, 0)
    torch.testing.assert_close(shuffled.flatten().sort().values, patch.flatten().sort().values)
    assert not torch.equal(shuffled, patch)
    kept = {}
    for inner in (0.0, 1.0):
        painted, _ = Genesis(nonlinear=0, shuffle=0, paint=1, inner=inner)(patch, 0, 0)
        kept[inner] = torch.isclose(painted, patch, atol=1e-5)
        assert painted.amin() >= patch.amin() - 1e-5
        assert painted.amax() <= patch.amax() + 1e-5
    assert kept[1.0][:, ::15, ::15, ::15].all()  # the corners
    assert 0.5 < kept[1.0].float().mean() < 1
    assert 0 < kept[0.0].float().mean() < 0.7
    curved = Genesis(nonlinear=1, shuffle=0, paint=0)(patch, 0, 0)[0]
    order = patch.flatten().argsort()
    steps = curved.flatten()[order].diff()
    assert (steps >= -1e-5).all() or (steps <= 1e-5).all()  # monotone


def test_values_out_of_range_are_refused():
    with pytest.raises(UserError, match=r"method\.corrupt\.ratio=1\.0"):
        MaskedBlocks(ratio=1.0)
    with pytest.raises(UserError, match=r"method\.corrupt\.blocks=1:"):
        MaskedBlocks(blocks=1)
