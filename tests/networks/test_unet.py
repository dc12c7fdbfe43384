from itertools import pairwise

import pytest
import torch
from torch import nn

from segment.networks.padding import count_parameters
from segment.networks.unet import UNet


def tiny(dims: int = 2, **more) -> UNet:
    return UNet(dims, 1, 3, **{"features": [4, 6, 8, 10]} | more)


@pytest.mark.parametrize("dims", [2, 3])
def test_coarser_logits_come_only_while_training(dims):
    network = tiny(dims, deep_supervision=2)
    image = torch.rand(1, 1, *[16] * dims)
    outputs = network.train()(image)
    assert [tuple(o.shape) for o in outputs] == [(1, 3, *[size] * dims) for size in (16, 8, 4)]
    whole = network.eval()(image)
    assert isinstance(whole, torch.Tensor)
    torch.testing.assert_close(whole, outputs[0])
    assert isinstance(tiny(dims).train()(image), torch.Tensor)


def test_coarser_logits_cover_the_image_and_not_its_padding():
    # 18 is padded to 24: 12 and 6 voxels of which 9 and 5 lie on the image; a reference is stretched over all of them.
    outputs = tiny(deep_supervision=2).train()(torch.rand(1, 1, 18, 16))
    assert [tuple(o.shape[2:]) for o in outputs] == [(18, 16), (9, 8), (5, 4)]


def test_each_head_reads_the_decoder_stage_of_its_resolution():
    network = tiny(deep_supervision=2).train()
    network(torch.rand(1, 1, 16, 16))[2].sum().backward()
    assert network.heads[2].weight.grad is not None
    assert network.heads[0].weight.grad is None
    assert network.heads[1].weight.grad is None
    assert [p.grad is not None for p in (stage[0].conv.weight for stage in network.decoder)] == [True, False, False]


def test_anisotropic_strides_and_kernels():
    network = UNet(3, 1, 2, [4, 6, 8], strides=[1, [1, 2, 2], 2], kernel_sizes=[[1, 3, 3], 3, [3, 1, 5]])
    assert network.divisor == (2, 4, 4)
    assert [stage[0].conv.kernel_size for stage in network.encoder] == [(1, 3, 3), (3, 3, 3), (3, 1, 5)]
    assert [stage[0].conv.stride for stage in network.encoder] == [(1, 1, 1), (1, 2, 2), (2, 2, 2)]
    assert [up.stride for up in network.up] == [(2, 2, 2), (1, 2, 2)]
    assert network(torch.rand(1, 1, 5, 9, 11)).shape == (1, 2, 5, 9, 11)


def test_the_number_of_convolutions_is_that_of_the_arguments():
    network = tiny(convolutions=3, decoder_convolutions=1)
    assert [len(stage) for stage in network.encoder] == [3, 3, 3, 3]
    assert [len(stage) for stage in network.decoder] == [1, 1, 1]


def test_norm_activation_and_dropout_are_those_of_the_arguments():
    network = tiny(norm="batch", act=["relu", {"inplace": False}], dropout=0.25)
    kinds = {type(module) for module in network.modules()}
    assert nn.BatchNorm2d in kinds
    assert nn.ReLU in kinds
    assert not kinds & {nn.InstanceNorm2d, nn.LeakyReLU}
    assert {m.p for m in network.modules() if isinstance(m, nn.Dropout | nn.Dropout2d)} == {0.25}


@pytest.mark.parametrize(
    "wrong",
    [
        {"strides": [1, 2, 2]},
        {"kernel_sizes": [3, 3, 3, 3, 3]},
        {"strides": [1, [2, 2, 2], 2, 2]},
        {"kernel_sizes": [3, [3], 3, 3]},
        {"strides": [2, 2, 2, 2]},  # its logits would be half the image's size
        {"features": []},
        {"deep_supervision": 3},
        {"deep_supervision": -1},
    ],
)
def test_lists_that_do_not_fit_are_refused(wrong):
    with pytest.raises(ValueError, match=r"differ|axes|strides|deep_supervision"):
        tiny(**wrong)


def test_parameters_are_those_of_nnunet_on_the_hippocampus():
    # nnU-Net 2.8.1's 3d_fullres plan of Task04 has 5,603,177 parameters. It builds a head at each of its three decoder
    # stages (32, 64 and 128 channels) also where deep supervision is off, so ours has deep_supervision=2 here.
    features = [32, 64, 128, 256]

    def block(channels_in: int, channels: int) -> int:
        return 27 * channels_in * channels + channels + 2 * channels  # weights, bias, affine norm

    encoder = sum(block(a, b) + block(b, b) for a, b in pairwise([1, *features]))
    decoder = sum(block(2 * c, c) + block(c, c) for c in features[:-1])
    up = sum(8 * b * a + a for a, b in pairwise(features))
    heads = sum(3 * c + 3 for c in features[:-1])
    network = UNet(3, 1, 3, features, convolutions=2, decoder_convolutions=2, deep_supervision=2)
    assert count_parameters(network.encoder) == encoder
    assert count_parameters(network.decoder) == decoder
    assert count_parameters(network.up) == up
    assert count_parameters(network.heads) == heads
    assert count_parameters(network) == 5_603_177
