import copy
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from segment.networks.blocks import LEAKY, MedNeXtBlock, PreActivationBlock, ResidualBlock
from segment.networks.stages import BlockStage, DenseStage, RecurrentResidualStage, Stage, VNetStage

ResidualStage = partial(BlockStage, block=ResidualBlock)
PreActivationStage = partial(BlockStage, block=PreActivationBlock)
MedNeXtStage = partial(BlockStage, block=MedNeXtBlock)

BATCH = {"norm": "batch", "act": "relu"}
STRIDED = {
    "conv": BlockStage,
    "half_first": partial(BlockStage, half_first=True),
    "residual": ResidualStage,
    "bottleneck": partial(ResidualStage, bottleneck=2),
    "preactivation": PreActivationStage,
    "recurrent": partial(RecurrentResidualStage, steps=1),
    "mednext": MedNeXtStage,
}
ALL = STRIDED | {"dense": partial(DenseStage, growth=4), "vnet": VNetStage}
every_stage = pytest.mark.parametrize("stage", ALL.values(), ids=ALL)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("stage", STRIDED.values(), ids=STRIDED)
@settings(max_examples=12, deadline=None)
@given(
    axes=st.lists(st.tuples(st.sampled_from([1, 3, 5]), st.integers(1, 3), st.integers(2, 3)), min_size=2, max_size=3),
    channels=st.sampled_from([(1, 4), (4, 4), (6, 4)]),
    depth=st.integers(1, 3),
)
def test_a_stage_divides_each_axis_by_its_stride_once(stage, axes, channels, depth):
    kernel, stride, voxels = zip(*axes, strict=True)
    made = stage(len(axes), *channels, depth, kernel, stride).train()
    result = made(torch.randn(2, channels[0], *(n * s for n, s in zip(voxels, stride, strict=True))))
    assert result.shape == (2, channels[1], *voxels)
    assert torch.isfinite(result).all()


@every_stage
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_stage_keeps_the_size_and_its_kernel_is_one_an_axis(stage, dims, depth):
    made = stage(dims, 2, 4 * depth, depth, [5, 3, 1][:dims])
    image = noise(2, 2, *(4, 6, 5)[:dims])
    assert made(image).shape == (2, 4 * depth, *image.shape[2:])
    sizes = {m.kernel_size for m in made.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)}
    assert (5, 3, 1)[:dims] in sizes
    assert sizes <= {(5, 3, 1)[:dims], (1,) * dims}


@every_stage
def test_depth_is_the_number_of_blocks_and_all_have_gradients(stage):
    counts = []
    for depth in (1, 2, 4):
        made = stage(2, 2, 4 * depth, depth).train()
        made(noise(2, 2, 6, 6)).square().sum().backward()
        assert all(p.grad is not None for p in made.parameters())
        counts.append(sum(isinstance(m, nn.Conv2d) for m in made.modules()))
    assert counts[2] - counts[1] == 2 * (counts[1] - counts[0]) > 0


@every_stage
def test_stage_does_not_modify_its_input(stage):
    for more in ({}, {"norm": None, "act": LEAKY}):
        image = noise(1, 4, 4, 4)
        before = image.clone()
        stage(2, 4, 8, 2, **({} if stage is MedNeXtStage else more))(image)
        assert torch.equal(image, before)


@every_stage
def test_checkpointing_runs_twice_and_changes_no_output_gradient_or_statistic(stage):
    torch.manual_seed(0)
    start = stage(2, 2, 8, 2).train()
    with torch.no_grad():
        for parameter in start.parameters():
            parameter += 0.1  # no zero of a start hides a convolution
    results = []
    for checkpointing in (False, True):
        made = copy.deepcopy(start)
        made.checkpointing = checkpointing
        seen = []
        made[0].register_forward_hook(lambda *_, seen=seen: seen.append(1))
        image = noise(2, 2, 6, 6).requires_grad_()
        torch.manual_seed(1)  # of the dropout in dense layers: it must drop the same values when it runs again
        output = made(image)
        assert len(seen) == 1
        output.square().sum().backward()
        assert len(seen) == 1 + checkpointing
        results.append([output, image.grad, *(p.grad for p in made.parameters()), *made.buffers()])
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_running_statistics_count_every_batch_once(checkpointing):
    made = BlockStage(2, 1, 2, 2, **BATCH).train()
    made.checkpointing = checkpointing
    for count in (1, 2):
        made(noise(2, 1, 4, 4)).sum().backward()
        assert [int(block.adn.N.num_batches_tracked) for block in made] == [count, count]


def test_checkpointing_stores_less_and_only_in_training():
    made = BlockStage(2, 2, 8, 4)

    def kept() -> int:
        sizes = []

        def pack(saved: Tensor) -> Tensor:
            sizes.append(saved.numel() if saved.numel() > 1000 else 0)
            return saved

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
            made(noise(1, 2, 16, 16))
        return sum(sizes)

    everything = kept()
    assert everything >= 4 * 8 * 16 * 16
    made.checkpointing = True
    assert kept() < everything / 4
    made.eval()
    assert kept() == everything
    with torch.no_grad():
        assert not made.train()(noise(1, 2, 16, 16)).requires_grad


def test_half_first_doubles_within_the_stage():
    def channels(**more):
        return [(block.conv.in_channels, block.conv.out_channels) for block in BlockStage(2, 3, 8, **more)]

    assert channels(half_first=True) == [(3, 4), (4, 8)]
    assert channels(half_first=True, depth=1) == [(3, 8)]
    assert channels() == [(3, 8), (8, 8)]


def test_recurrent_residual_is_a_projection_plus_recurrence_over_it():
    stage = RecurrentResidualStage(2, 3, 4, steps=2, stride=2, **BATCH)
    image = noise(2, 3, 4, 4)
    project = stage[0].conv
    entry = functional.conv2d(image, project.weight, project.bias, stride=2)
    assert len(stage[1]) == 2
    torch.testing.assert_close(stage(image), entry + stage[1][1](stage[1][0](entry)))
    plain = RecurrentResidualStage(2, 3, 4, steps=2, stride=2, residual=False, **BATCH)
    plain.load_state_dict(stage.state_dict())
    torch.testing.assert_close(plain(image), stage[1][1](stage[1][0](entry)))


def test_dense_layers_read_all_maps_before_them_in_order():
    stage = DenseStage(2, 3, 3 + 2 * 4, 2, growth=4).eval()
    image = noise(1, 3, 4, 4)
    first = stage[0](image)
    second = stage[1](torch.cat((image, first), dim=1))
    torch.testing.assert_close(stage(image), torch.cat((image, first, second), dim=1))
    only_new = DenseStage(2, 3, 2 * 4, 2, growth=4).eval()
    only_new.load_state_dict(stage.state_dict())
    torch.testing.assert_close(only_new(image), torch.cat((first, second), dim=1))
    assert [layer[1].conv.in_channels for layer in stage] == [3, 7]


@pytest.mark.parametrize("out_channels", [7, 9, 10, 12, 3])
def test_a_dense_stage_refuses_other_channels(out_channels):
    assert DenseStage(2, 3, 8, 2, growth=4).first == 3
    assert DenseStage(2, 3, 11, 2, growth=4).first == 0
    with pytest.raises(ValueError, match=r"has 11 output channels, or 8 .*, not"):
        DenseStage(2, 3, out_channels, 2, growth=4)


@pytest.mark.parametrize("stage", [partial(DenseStage, growth=4), VNetStage])
@pytest.mark.parametrize("stride", [2, (1, 2), [2, 2]])
def test_dense_and_vnet_stages_refuse_a_stride(stage, stride):
    with pytest.raises(ValueError, match="cannot change the resolution"):
        stage(2, 3, 8, 2, stride=stride)


@pytest.mark.parametrize("stage", [DenseStage, VNetStage])
def test_a_stride_of_one_may_be_written_in_any_way(stage):
    for stride in (1, (1, 1), [1, 1]):
        assert stage(2, 4, 4 + 32, 2, stride=stride)(noise(1, 4, 4, 4)).shape == (1, 36, 4, 4)


@pytest.mark.parametrize(("into", "out"), [(1, 4), (2, 4), (3, 4), (4, 4), (6, 4)])
def test_vnet_adds_its_repeated_input_before_the_last_activation(into, out):
    stage = VNetStage(2, into, out, 2, norm=None)
    with torch.no_grad():
        for parameter in stage[1].parameters():
            parameter.zero_()  # the last convolution: only the input is left
    image = noise(1, into, 4, 4)
    repeated = image[:, [c % into for c in range(out)]]
    torch.testing.assert_close(stage(image), functional.prelu(repeated, torch.full((out,), 0.25)))
    assert not hasattr(stage[1], "adn")
    assert stage[0].adn.A.weight.shape == stage.last.weight.shape == (out,)
    nn.init.ones_(stage[1].conv.bias)
    torch.testing.assert_close(stage(image), functional.prelu(repeated + 1, torch.full((out,), 0.25)))


def test_a_stage_of_no_blocks_changes_nothing():
    image = noise(1, 3, 4, 4)
    for made in (Stage(), BlockStage(2, 3, 8, 0), MedNeXtStage(2, 3, 8, 0)):
        assert torch.equal(made(image), image)
