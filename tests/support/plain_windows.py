"""The plain way to blend windows: arrays as large as the scan, MONAI's places and weights, one window at a time."""

from collections.abc import Sequence

import torch
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers.utils import _get_scan_interval
from torch import Tensor, nn
from torch.nn import functional

from segment.inference.windows import SlidingWindows


def plain(
    windows: SlidingWindows,
    networks: Sequence[nn.Module],
    image: Tensor,
    window: Sequence[int],
    regions: bool = False,
    axis: int = 0,
) -> Tensor:
    """What `SlidingWindows` must give, bit for bit; the windows of a pass are added up along `axis`."""
    volume, flat = (image[:, None] if image.ndim == 3 else image), len(window) == 2
    extent = (1, *window) if flat else tuple(window)
    gaps = [max(0, size - whole) for size, whole in zip(extent, volume.shape[1:], strict=True)]
    volume = functional.pad(volume, [part for gap in reversed(gaps) for part in (gap // 2, gap - gap // 2)])
    size = tuple(volume.shape[1:])
    weights = compute_importance_map(tuple(window), mode="gaussian", sigma_scale=windows.sigma).view(extent)
    total, passes = None, [(network, flips) for network in networks for flips in windows.flips(len(window))]
    for network, flips in passes:
        flipped = [one + flat for one in flips]
        mirrored = volume.flip([one + 1 for one in flipped])
        slices = dense_patch_slices(size, extent, _get_scan_interval(size, extent, 3, [windows.overlap] * 3))
        sums, count = torch.zeros(()), torch.zeros(size)
        for place in sorted(slices, key=lambda some: some[axis].start, reverse=axis in flipped):
            part = mirrored[(slice(None), *place)][None]
            with torch.inference_mode():
                logits = (network(part.squeeze(2)).unsqueeze(2) if flat else network(part))[0].float()
            sums = torch.zeros(len(logits), *size) if sums.ndim == 0 else sums
            sums[(slice(None), *place)] += logits * weights
            count[place] += weights
        logits = (sums / count).flip([one + 1 for one in flipped])
        scores = probabilities(logits, regions, axis) if windows.average == "probabilities" else logits
        total = scores if total is None else total + scores
    assert total is not None
    mean = total / len(passes)
    result = probabilities(mean, regions, axis) if windows.average == "logits" else mean
    kept = tuple(slice(gap // 2, gap // 2 + whole - gap) for gap, whole in zip(gaps, size, strict=True))
    return result[(slice(None), *kept)].reshape(len(result), *image.shape[1:])


def probabilities(logits: Tensor, regions: bool, axis: int) -> Tensor:
    """Of (output, z, y, x), plane by plane: the last bit of torch's exponential depends on the size of its input."""
    planes = [plane.contiguous() for plane in logits.unbind(axis + 1)]
    return torch.stack([plane.sigmoid() if regions else plane.softmax(dim=0) for plane in planes], dim=axis + 1)
