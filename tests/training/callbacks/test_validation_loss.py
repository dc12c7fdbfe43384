import pytest
import torch
from monai.losses import DiceCELoss
from torch import nn

from segment.losses.deep_supervision import AnyScale
from segment.training.callbacks import validation_loss
from segment.training.callbacks.validation_loss import scan_loss


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("dims", [2, 3])
def test_validation_loss_is_the_loss_of_the_logits_of_a_scan(dims, regions):
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 6, 7)
    reference = torch.randint(0, 3 if regions else 2, (5, 6, 7), dtype=torch.uint8)
    options = {"sigmoid": True} if regions else {"to_onehot_y": True, "softmax": True}
    loss = AnyScale(DiceCELoss(**options), [[1, 2], [2]] if regions else [])
    probabilities = torch.sigmoid(logits) if regions else torch.softmax(logits, 0)
    batch = (logits.movedim(1, 0), reference[:, None]) if dims == 2 else (logits[None], reference[None, None])
    assert scan_loss(loss, probabilities, reference, regions, dims) == pytest.approx(float(loss(*batch)), rel=1e-4)


def test_loss_of_a_large_scan_is_averaged_over_slabs_by_thickness(monkeypatch):
    class Mean(nn.Module):
        def forward(self, logits, reference):
            assert reference.shape[2] <= 2
            return reference.float().mean()

    monkeypatch.setattr(validation_loss, "_MOST_VALUES", 2 * 2 * 12)
    reference = torch.arange(5).view(5, 1, 1).expand(5, 3, 4)
    assert scan_loss(Mean(), torch.full((2, 5, 3, 4), 0.5), reference, False, 3) == pytest.approx(2.0)
