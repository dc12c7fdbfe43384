"""SparK's masking: what an encoder makes of visible voxels depends on nothing else, in every kind of norm."""

from functools import partial

import pytest
import torch
from torch import nn

from segment.networks.decoders.unet import UNetDecoder
from segment.networks.encoders.staged import StagedEncoder
from segment.networks.sparse import SparseEncoding
from segment.networks.stages import BlockStage
from segment.networks.unet import UNet

NORMS = [("instance", {"affine": True}), "batch", ("group", {"num_groups": 2})]


def network(norm="batch", dims: int = 2) -> UNet:
    torch.manual_seed(0)
    encoder = partial(StagedEncoder, features=[4, 6, 8], stage=partial(BlockStage, norm=norm))
    return UNet(dims, 1, 1, encoder, UNetDecoder)


def masked(dims: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """An image, one with other values where it is masked, and the mask: the second half and a block of the first."""
    generator = torch.Generator().manual_seed(1)
    image, other = (torch.randn(2, 1, *[16] * dims, generator=generator) for _ in range(2))
    mask = torch.zeros_like(image)
    mask[:, :, 8:] = 1
    mask[:, :, :4, :4] = 1
    return image, torch.where(mask > 0, other, image), mask


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("norm", NORMS, ids=["instance", "batch", "group"])
def test_features_of_visible_voxels_do_not_depend_on_masked_ones(norm, dims):
    image, other, mask = masked(dims)
    plain = network(norm, dims)
    assert not torch.allclose(plain.encoder(image)[0][:, :, :4, 6:], plain.encoder(other)[0][:, :, :4, 6:])
    encoding = SparseEncoding(plain)
    encoding.visible = 1 - mask
    for one, two, token, stride in zip(
        plain.encoder(image), plain.encoder(other), encoding.tokens, (1, 2, 4), strict=True
    ):
        assert torch.equal(one, two)
        hidden = mask[(..., *[slice(None, None, stride)] * dims)].expand_as(one) > 0
        filled = token.view(1, -1, *[1] * dims).expand_as(one)
        assert torch.equal(one[hidden], filled[hidden])
        assert not torch.equal(one[~hidden], filled[~hidden])


@pytest.mark.parametrize("norm", NORMS, ids=["instance", "batch", "group"])
def test_norms_take_their_statistics_from_visible_places(norm):
    image, _, mask = masked(2)
    mask[:, :, :4, :4] = 0  # the visible half alone, whose features are those of the half as an image of its own
    half = network(norm).encoder(image[:, :, :8])[0]
    sparse = network(norm)
    encoding = SparseEncoding(sparse)
    encoding.visible = 1 - mask
    torch.testing.assert_close(sparse.encoder(image)[0][:, :, :8], half)
    encoding.visible = None
    assert torch.equal(sparse.encoder(image)[0], network(norm).encoder(image)[0])


def test_all_visible_is_the_plain_encoder_and_tokens_are_trained():
    image, _, mask = masked(2)
    sparse = network()
    encoding = SparseEncoding(sparse)
    encoding.visible = torch.ones_like(mask)
    torch.testing.assert_close(sparse.encoder(image), network().encoder(image))
    encoding.visible = 1 - mask
    sparse(image).square().mean().backward()
    assert all(token.grad is not None and token.grad.abs().sum() > 0 for token in encoding.tokens)


def test_encoders_that_see_all_voxels_are_refused():
    attention = network()
    attention.encoder.stem = nn.MultiheadAttention(1, 1)
    with pytest.raises(ValueError, match=r"encoder\.stem is a MultiheadAttention, which sees all voxels"):
        SparseEncoding(attention)
    with pytest.raises(ValueError, match="Linear has no encoder"):
        SparseEncoding(nn.Linear(1, 1))
