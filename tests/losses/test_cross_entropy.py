"""Class weights and label smoothing of the cross-entropy, alone and within Dice plus cross-entropy."""

import pytest
import torch
from torch import Tensor, nn

from segment.losses.cross_entropy import CrossEntropyLoss
from segment.losses.deep_supervision import AnyScale
from segment.losses.dice_ce import DiceCELoss

WEIGHTS, SMOOTHING = [0.5, 1.0, 3.0], 0.2


@pytest.fixture
def classes() -> tuple[Tensor, Tensor]:
    """Logits (2, 3, 4, 4) and class indices (2, 1, 4, 4)."""
    torch.manual_seed(0)
    return torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 1, 4, 4)).float()


def by_hand(logits: Tensor, reference: Tensor) -> Tensor:
    """The weighted mean over voxels, voxel by voxel: a smoothed target, each class of it with its weight."""
    total, mass = 0.0, 0.0
    for scores, index in zip(logits.movedim(1, -1).reshape(-1, 3), reference.flatten().long(), strict=True):
        target = torch.full((3,), SMOOTHING / 3)
        target[index] += 1 - SMOOTHING
        total = total - (target * torch.tensor(WEIGHTS) * torch.log_softmax(scores, 0)).sum()
        mass += WEIGHTS[index]
    return total / mass


def test_classes_are_weighted_and_smoothed_as_by_hand(classes):
    loss = CrossEntropyLoss(WEIGHTS, SMOOTHING)
    torch.testing.assert_close(loss(*classes), by_hand(*classes))
    torch.testing.assert_close(CrossEntropyLoss([2 * w for w in WEIGHTS], SMOOTHING)(*classes), loss(*classes))


def test_regions_are_weighted_and_smoothed_as_by_hand(classes):
    logits, target = classes[0][:, :2], torch.cat([classes[1] > 0, classes[1] > 1], dim=1).float()
    found = CrossEntropyLoss([1, 3], SMOOTHING)(logits, target)
    smooth = target * (1 - SMOOTHING) + SMOOTHING / 2
    shares = torch.sigmoid(logits)
    each = -(smooth * shares.log() + (1 - smooth) * (1 - shares).log()).mean((0, 2, 3))
    torch.testing.assert_close(found, (each[0] + 3 * each[1]) / 4)


def test_without_them_it_is_the_plain_cross_entropy_bit_for_bit(classes):
    logits, reference = classes
    assert torch.equal(CrossEntropyLoss()(logits, reference), nn.CrossEntropyLoss()(logits, reference[:, 0].long()))
    target = (torch.rand(2, 3, 4, 4) > 0.5).float()
    assert torch.equal(CrossEntropyLoss()(logits, target), nn.BCEWithLogitsLoss()(logits, target))


def test_dice_plus_cross_entropy_weighs_the_cross_entropy_alone(classes):
    plain, weighed = DiceCELoss(), DiceCELoss(class_weights=WEIGHTS, label_smoothing=SMOOTHING)
    expected = plain(*classes) - CrossEntropyLoss()(*classes) + by_hand(*classes)
    torch.testing.assert_close(weighed(*classes), expected)


def test_coarser_outputs_and_ignored_voxels_are_weighted_too(classes):
    logits, reference = classes[0], classes[1].to(torch.uint8)
    loss = AnyScale(CrossEntropyLoss(WEIGHTS, SMOOTHING), ignore=255)
    hidden = torch.rand(reference.shape) < 0.4
    kept = logits.movedim(1, -1)[~hidden[:, 0]].T[None]
    expected = by_hand(kept, reference[~hidden][None, None].float())
    torch.testing.assert_close(loss(logits, torch.where(hidden, 255, reference)), expected)
    coarse = logits[..., ::2, ::2]
    both = (by_hand(logits, reference) + by_hand(coarse, reference[..., 1::2, 1::2]) / 2) / 1.5
    torch.testing.assert_close(loss([logits, coarse], reference), both)


@pytest.mark.parametrize("weights", [[1, -1, 1], [0, 0, 0], [1, float("nan"), 1], ["a", 1, 1]])
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(ValueError, match="class_weights="):
        CrossEntropyLoss(weights)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_a_smoothing_out_of_range_is_refused(smoothing):
    with pytest.raises(ValueError, match="label_smoothing="):
        CrossEntropyLoss(label_smoothing=smoothing)
