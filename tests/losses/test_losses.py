"""One contract for every conf/loss/*.yaml, and the composition over several resolutions."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional

from segment.losses.deep_supervision import AnyScale
from segment.losses.dice_ce import DiceCELoss

FOLDER = Path(__file__).parents[2] / "conf" / "loss"
OF_REGIONS = ["dice_sigmoid"]
LOSSES = sorted({path.stem for path in FOLDER.glob("*.yaml")} - set(OF_REGIONS))
CLASSES = 3

every_loss = pytest.mark.parametrize("name", LOSSES)
both_dimensions = pytest.mark.parametrize("dims", [2, 3])


def build(name: str) -> nn.Module:
    return instantiate(OmegaConf.load(FOLDER / f"{name}.yaml"), _convert_="all")


def nested_boxes(dims: int, size: int = 8) -> Tensor:
    """Class indices (2, 1, *spatial) in which every class occurs."""
    reference = torch.zeros(2, 1, *[size] * dims, dtype=torch.uint8)
    reference[(..., *[slice(1, size - 1)] * dims)] = 1
    reference[(..., *[slice(size // 4, size // 2 + 1)] * dims)] = 2
    return reference


def logits_for(reference: Tensor, sureness: float = 8.0) -> Tensor:
    return sureness * functional.one_hot(reference[:, 0].long(), CLASSES).movedim(-1, 1).float()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def test_there_are_losses():
    assert {"dice", "dice_ce"} <= set(LOSSES)


@every_loss
@both_dimensions
def test_random_logits_give_a_finite_scalar_with_gradient(name, dims):
    reference = nested_boxes(dims)
    logits = torch.randn(2, CLASSES, *reference.shape[2:], requires_grad=True)
    loss = AnyScale(build(name))(logits, reference)
    assert loss.shape == ()
    assert torch.isfinite(loss)
    loss.backward()
    assert torch.isfinite(logits.grad).all()
    # Every voxel of both samples takes part, whatever the reduction.
    assert (logits.grad.abs().sum(dim=1) > 0).float().mean() > 0.9


@every_loss
@both_dimensions
def test_loss_increases_from_right_over_undecided_to_wrong(name, dims):
    reference = nested_boxes(dims)
    loss = AnyScale(build(name))
    right, wrong = logits_for(reference), logits_for((reference + 1) % CLASSES)
    values = [float(loss(logits, reference)) for logits in (right, (right + wrong) / 2, wrong)]
    assert values == sorted(values)
    assert values[0] < values[2]


@every_loss
def test_a_class_that_is_absent_from_the_patch_gives_no_nan(name):
    reference = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    logits = torch.randn(2, CLASSES, 8, 8, requires_grad=True)
    loss = AnyScale(build(name))(logits, reference)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


@every_loss
@both_dimensions
@pytest.mark.parametrize("kind", [torch.uint8, torch.int64])
def test_three_scales_with_integer_references(name, dims, kind):
    reference = nested_boxes(dims).to(kind)
    scales = [torch.randn(2, CLASSES, *[size] * dims, requires_grad=True) for size in (8, 4, 2)]
    loss = AnyScale(build(name))(scales, reference)
    assert loss.shape == ()
    assert torch.isfinite(loss)
    loss.backward()
    assert all(torch.isfinite(scale.grad).all() and scale.grad.any() for scale in scales)
    assert reference.dtype == kind


@every_loss
def test_one_scale_is_the_plain_loss_and_half_precision_is_computed_in_single(name):
    reference, logits = nested_boxes(2), torch.randn(2, CLASSES, 8, 8)
    plain, loss = build(name)(logits, reference.float()), AnyScale(build(name))
    torch.testing.assert_close(loss(logits, reference), plain)
    torch.testing.assert_close(loss([logits], reference), plain)
    half = loss(logits.bfloat16(), reference)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, build(name)(logits.bfloat16().float(), reference.float()))


@every_loss
@both_dimensions
def test_ignored_voxels_count_in_nothing(name, dims):
    if name in ("hausdorff",):
        pytest.skip("distances between voxels need their places")
    reference = nested_boxes(dims)
    hidden = torch.rand(reference.shape) < 0.5
    logits = torch.randn(2, CLASSES, *reference.shape[2:], requires_grad=True)
    loss = AnyScale(build(name), ignore=255)
    value = loss(logits, torch.where(hidden, 255, reference))
    value.backward()
    assert not logits.grad[hidden.expand_as(logits)].any()
    assert (logits.grad[~hidden.expand_as(logits)] != 0).float().mean() > 0.9
    with torch.no_grad():
        torch.testing.assert_close(value, loss(logits + 5 * hidden, torch.where(hidden, 255, reference)))
    # With nothing hidden the loss of one sample is the ordinary one.
    one = slice(0, 1)
    torch.testing.assert_close(loss(logits[one], reference[one]), AnyScale(build(name))(logits[one], reference[one]))


def test_batch_without_annotation_has_zero_loss_with_a_gradient():
    logits = torch.randn(1, CLASSES, 4, 4, requires_grad=True)
    loss = AnyScale(build("dice_ce"), ignore=255)(logits, torch.full((1, 1, 4, 4), 255))
    loss.backward()
    assert (loss.item(), logits.grad.abs().sum().item()) == (0, 0)


@both_dimensions
def test_regions_are_encoded_one_by_one(dims):
    reference = nested_boxes(dims)
    loss = AnyScale(build("dice_ce"), regions=[(1, 2), (2,)])
    whole, core = (reference > 0), (reference == 2)
    right = 20.0 * torch.cat((whole, core), dim=1).float() - 10
    assert loss(right, reference) < 1e-3
    assert loss([right, right[(..., *[slice(1, None, 2)] * dims)]], reference) < 1e-3
    # Each output answers for its own region alone.
    logits = torch.randn(2, 2, *reference.shape[2:])
    target = torch.cat((whole, core), dim=1).float()
    expected = functional.binary_cross_entropy_with_logits(logits, target)
    shares = torch.sigmoid(logits)
    axes = (0, *range(2, 2 + dims))
    dice = 1 - (2 * (shares * target).sum(axes) + 1e-5) / (shares.sum(axes) + target.sum(axes) + 1e-5)
    torch.testing.assert_close(loss(logits, reference), expected + dice.mean())


@pytest.mark.parametrize("name", OF_REGIONS)
@both_dimensions
def test_losses_of_regions_fall_from_wrong_to_right(name, dims):
    reference = nested_boxes(dims)
    target = torch.cat((reference > 0, reference == 2), dim=1).float()
    loss = AnyScale(build(name), regions=[(1, 2), (2,)])
    logits = torch.randn(target.shape, requires_grad=True)
    loss(logits, reference).backward()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad != 0).float().mean() > 0.9
    values = [float(loss(sureness * (2 * target - 1), reference)) for sureness in (20, 1, 0, -20)]
    assert values == sorted(values)
    assert values[0] < 0.01 < values[-1]


@both_dimensions
def test_scales_weigh_one_half_and_quarter_over_their_sum(dims):
    def mean_of_index_zero(logits: Tensor, reference: Tensor) -> Tensor:
        return ((logits[:, :1] - reference) ** 2).mean()

    reference = nested_boxes(dims)
    scales = [torch.randn(2, CLASSES, *[size] * dims) for size in (8, 4, 2)]
    by_hand = 0.0
    for weight, step, logits in zip((1, 1 / 2, 1 / 4), (1, 2, 4), scales, strict=True):
        # The nearest voxel to the middle of a coarse one is the one just beyond it.
        coarse = reference[(..., *[slice(step // 2, None, step)] * dims)].float()
        by_hand += weight * mean_of_index_zero(logits, coarse)
    torch.testing.assert_close(AnyScale(mean_of_index_zero)(scales, reference), by_hand / 1.75)


@every_loss
def test_correct_output_at_every_scale_equals_full_resolution(name):
    # What makes figures with and without deep supervision comparable.
    reference = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    reference[..., :8], reference[..., :8, 8:] = 1, 2
    scales = [logits_for(reference[..., ::step, ::step], 20) for step in (1, 2, 4)]
    loss = AnyScale(build(name))
    torch.testing.assert_close(loss(scales, reference), loss(scales[0], reference), rtol=0, atol=1e-3)


def test_dice_per_sample_stays_per_sample_where_voxels_are_ignored():
    torch.manual_seed(0)
    logits, reference = torch.randn(2, CLASSES, 6, 6), torch.randint(0, CLASSES, (2, 1, 6, 6))
    reference[0, 0, :5] = 255  # one sample has far fewer annotated voxels
    whole = DiceCELoss(batch=False)
    found = AnyScale(whole, ignore=255)(logits, reference)
    known = [
        (logits[n : n + 1, :, reference[n, 0] != 255], reference[n : n + 1, :, reference[n, 0] != 255]) for n in (0, 1)
    ]
    by_hand = torch.stack([whole(part, truth.float()) for part, truth in known]).mean()
    torch.testing.assert_close(found, by_hand)
    assert not torch.isclose(found, AnyScale(DiceCELoss(batch=True), ignore=255)(logits, reference), atol=1e-3)
    reference[0] = 255
    torch.testing.assert_close(AnyScale(whole, ignore=255)(logits, reference), whole(known[1][0], known[1][1].float()))
    # Without an unannotated voxel nothing changes.
    reference = torch.randint(0, CLASSES, (2, 1, 6, 6))
    torch.testing.assert_close(AnyScale(whole, ignore=255)(logits, reference), AnyScale(whole)(logits, reference))
