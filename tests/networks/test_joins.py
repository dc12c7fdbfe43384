import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from segment.networks.joins import Add, AttentionGate, Concatenate

JOINS = {"concatenate": Concatenate, "add": Add, "gate": AttentionGate}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def maps(dims: int, skip: int = 4, up: int = 6, below: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    size = (4, 8, 6)[:dims]
    return noise(2, skip, *size), noise(2, up, *size, seed=1), noise(2, below, *(n // 2 for n in size), seed=2)


@pytest.mark.parametrize("join", JOINS.values(), ids=JOINS)
@pytest.mark.parametrize("dims", [2, 3])
def test_a_join_says_how_many_channels_it_gives(join, dims):
    made = join(dims, 4, 6, 8)
    skip, up, below = maps(dims)
    assert made(skip, up, below).shape == (2, made.out_channels, *skip.shape[2:])
    assert made.out_channels == (6 if join is Add else 10)


def test_concatenation_puts_the_upsampled_map_first():
    skip, up, below = maps(2)
    result = Concatenate(2, 4, 6, 8)(skip, up, below)
    assert torch.equal(result[:, :6], up)
    assert torch.equal(result[:, 6:], skip)


def test_a_sum_projects_only_other_channels():
    skip, up, below = maps(2, skip=6)
    same = Add(2, 6, 6, 8)
    assert not list(same.parameters())
    assert torch.equal(same(skip, up, below), up + skip)
    other = Add(2, 4, 6, 8)
    skip = skip[:, :4]
    project = functional.conv2d(skip, *other.project.parameters())
    torch.testing.assert_close(other(skip, up, below), up + project)


def opened(gates: int, psi: float, dims: int = 2) -> AttentionGate:
    """A gate with attention fixed by the bias of psi, an identity projection and a fusion that negates."""
    gate = AttentionGate(dims, 4, 6, 8, gates=gates).eval()
    with torch.no_grad():
        for part in gate.psi:
            part.bias.fill_(psi)
        for part, sign in (*((part, 1) for part in gate.project), (gate.fuse, -1)):
            part.conv.bias.zero_()
            eye = sign * torch.eye(4).repeat(1, part.conv.in_channels // 4)
            part.conv.weight.copy_(eye.reshape(part.conv.weight.shape))
    return gate


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("gates", [1, 2])
def test_attention_of_one_opens_a_gate_and_of_zero_closes_it(gates, dims):
    skip, up, below = maps(dims)
    for psi, share in ((1e4, 1.0), (-1e4, 0.0)):
        result = opened(gates, psi, dims)(skip, up, below)
        assert torch.equal(result[:, :6], up)  # the gate is on the skip alone
        # Both gates' results are summed by the convolution above; batch norm divides by the root of 1 + 1e-5.
        torch.testing.assert_close(result[:, 6:], gates * share * functional.relu(-skip), rtol=1e-4, atol=1e-6)


def test_attention_by_hand():
    skip, up, below = maps(2)
    gate = opened(1, 0.3)
    theta = functional.conv2d(skip, gate.theta[0].weight, stride=2)
    phi = functional.conv2d(below, gate.phi[0].weight, gate.phi[0].bias)  # of the same size here
    attention = torch.sigmoid(functional.conv2d(functional.relu(theta + phi), gate.psi[0].weight, gate.psi[0].bias))
    assert attention.shape == (2, 1, 2, 4)
    attention = functional.interpolate(attention, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(gate(skip, up, below)[:, 6:], functional.relu(-attention * skip), rtol=1e-4, atol=1e-6)


def test_gating_signal_may_be_coarser_and_affects_the_result():
    skip, up, below = maps(2)
    gate = AttentionGate(2, 4, 6, 8).eval()
    coarse = functional.avg_pool2d(below, 2)
    first, second = gate(skip, up, coarse), gate(skip, up, -coarse)
    assert first.shape == second.shape == (2, 10, 4, 8)
    assert not torch.allclose(first[:, 6:], second[:, 6:])
    assert gate.theta[0].bias is None


@pytest.mark.parametrize(
    ("channels", "signal", "gates", "count"),
    [
        (32, 64, 1, 12_545),
        (64, 128, 1, 49_665),
        (128, 256, 1, 197_633),
        (32, 64, 2, 24_994),
        (64, 128, 2, 99_138),
        (128, 256, 2, 394_882),
        (32, 128, 2, 29_090),
        (128, 128, 2, 362_114),
    ],
)
def test_a_gate_has_as_many_parameters_as_the_authors(channels, signal, gates, count):
    # Counted on ozan-oktay/Attention-Gated-Networks, commits eee4881 and, for a signal of 128 everywhere, 4a36328.
    with torch.device("meta"):
        gate = AttentionGate(3, channels, 7, signal, gates=gates)
    assert sum(p.numel() for p in gate.parameters()) == count


def test_every_parameter_of_a_gate_learns():
    gate = AttentionGate(2, 4, 6, 8, gates=2)
    gate(*maps(2)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in gate.theta.parameters())
    assert all(p.grad is not None for p in gate.parameters())
    assert isinstance(gate.fuse.adn.N, nn.BatchNorm2d)
