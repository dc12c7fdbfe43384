"""On which device a model predicts and in which precision, on machines that this one is not."""

import pytest
import torch

from segment.errors import UserError
from segment.inference import limits
from segment.inference.settings import decide_settings, on_device, with_previous


@pytest.fixture
def machine(monkeypatch):
    """``machine(cuda, metal)`` makes torch find these kinds of GPU."""

    def find(cuda: bool, metal: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: metal)
        limits.has_gpu.cache_clear()

    yield find
    limits.has_gpu.cache_clear()


@pytest.mark.parametrize(
    ("accelerator", "cuda", "metal", "device", "precision"),
    [
        ("auto", True, False, "cuda", "bf16-mixed"),
        ("gpu", True, False, "cuda", "bf16-mixed"),
        ("cpu", True, False, "cpu", None),
        ("auto", False, True, "cpu", None),
        ("gpu", False, True, "mps", "32-true"),
        ("mps", False, True, "mps", "32-true"),
    ],
)
def test_device_and_precision(machine, accelerator, cuda, metal, device, precision):
    machine(cuda, metal)
    settings = decide_settings({}, "bf16-mixed", accelerator=accelerator)
    assert settings.device == torch.device(device)
    assert precision in (None, settings.precision)


@pytest.mark.parametrize(
    ("accelerator", "cuda", "metal"), [("gpu", False, False), ("mps", True, False), ("cuda", False, True)]
)
def test_a_device_that_is_not_there_is_refused(machine, accelerator, cuda, metal):
    machine(cuda, metal)
    with pytest.raises(UserError, match=f"accelerator={accelerator}: torch .* finds no GPU"):
        decide_settings({}, "32-true", accelerator=accelerator)


def test_the_fourth_gpu_scores_both_stages_of_a_cascade(machine):
    machine(cuda=True, metal=False)
    one = decide_settings({}, "32-true", accelerator="cuda")
    both = on_device(with_previous(one, one), torch.device("cuda:3"))
    assert (both.device, both.previous.device) == (torch.device("cuda:3"),) * 2
