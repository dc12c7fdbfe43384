import logging

import pytest
import torch
from torch import Tensor

from segment.inference.batches import FittingBatches


class Small:
    """Doubles at most `fits` windows at once."""

    def __init__(self, fits: int) -> None:
        self.fits = fits
        self.sizes: list[int] = []

    def __call__(self, windows: Tensor) -> Tensor:
        self.sizes.append(len(windows))
        if len(windows) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return windows * 2


def test_a_batch_that_is_out_of_memory_is_halved_and_said_once(caplog):
    network = Small(fits=2)
    batches, windows = FittingBatches(network), torch.arange(7.0).view(7, 1)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(batches(windows), windows * 2)
        assert network.sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]
        assert torch.equal(batches(windows[:4]), windows[:4] * 2)
    assert network.sizes[9:] == [1, 1, 1, 1]
    assert [record.message.split(" are")[0] for record in caplog.records] == [
        "7 windows at once",
        "3 windows at once",
    ]


def test_a_window_that_does_not_fit_is_an_error():
    with pytest.raises(torch.OutOfMemoryError):
        FittingBatches(Small(fits=0))(torch.zeros(3, 1))
