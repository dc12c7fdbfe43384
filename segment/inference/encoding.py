"""What a network's encoder makes of a whole scan: one vector, for telling scans apart."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segment.networks.padding import pad_to_divisor
from segment.networks.projection import pooled

MOST_PLANES = 16  # of a scan that is cut into slices


@torch.inference_mode()
def features_of(network: nn.Module, image: Tensor, size: Sequence[int]) -> np.ndarray:
    """Mean over windows side by side of the pooled maps of a network's encoder.

    Args:
        network: With an encoder.
        image: (channel, *spatial), prepared; 3D images of 2D networks are cut into slices, at most 16 of them.
        size: Voxels of a window, one number per axis of the network.

    Returns:
        (features,) float32.
    """
    encoder: Any = network.encoder
    if image.ndim - 1 > len(size):
        planes = np.unique(np.linspace(0, image.shape[1] - 1, MOST_PLANES).round().astype(int))
        parts = [image[:, plane] for plane in planes]
    else:
        parts = [image]
    found = []
    for part in parts:
        for corner in itertools.product(*(range(0, n, step) for n, step in zip(part.shape[1:], size, strict=True))):
            box: Any = (slice(None), *(slice(c, c + step) for c, step in zip(corner, size, strict=True)))
            found.append(pooled(encoder(pad_to_divisor(part[box][None], network.divisor)))[0])  # type: ignore[arg-type]
    mean: np.ndarray = torch.stack(found).float().mean(0).cpu().numpy()
    return mean
