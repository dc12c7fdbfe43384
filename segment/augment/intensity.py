"""Intensity augmentation of whole batches. Images are normalised: mean 0, standard deviation 1."""

from __future__ import annotations

import torch
from torch import Tensor


def _column(values: Tensor, like: Tensor) -> Tensor:
    """Shape (batch,) so that it broadcasts over (batch, channel, *spatial)."""
    return values.to(like.dtype).view(-1, *[1] * (like.ndim - 1))


def add_noise(image: Tensor, deviation: Tensor, generators: list[torch.Generator]) -> Tensor:
    """Add Gaussian noise with its own standard deviation (batch,) and generator a sample; 0 leaves a sample alone."""
    noise = torch.zeros_like(image)
    for i, (sigma, generator) in enumerate(zip(deviation.tolist(), generators, strict=True)):
        if sigma > 0:
            noise[i] = sigma * torch.randn(image.shape[1:], generator=generator).to(image)
    return image + noise


def scale_brightness(image: Tensor, factor: Tensor) -> Tensor:
    """Multiply each sample by its factor (batch,)."""
    return image * _column(factor, image)


def scale_contrast(image: Tensor, factor: Tensor) -> Tensor:
    """Stretch each sample about its mean by its factor (batch,) and keep it within its former range."""
    axes = tuple(range(2, image.ndim))
    mean = image.mean(dim=axes, keepdim=True)
    low, high = image.amin(dim=axes, keepdim=True), image.amax(dim=axes, keepdim=True)
    return torch.clamp((image - mean) * _column(factor, image) + mean, low, high)


def gamma(image: Tensor, exponent: Tensor) -> Tensor:
    """Bend each sample's intensities within their range by its exponent (batch,), keeping mean and deviation."""
    axes = tuple(range(2, image.ndim))
    low, high = image.amin(dim=axes, keepdim=True), image.amax(dim=axes, keepdim=True)
    unit = (image - low) / (high - low).clamp_min(1e-7)
    bent = unit ** _column(exponent, image)
    mean, deviation = image.mean(dim=axes, keepdim=True), image.std(dim=axes, keepdim=True)
    bent = (bent - bent.mean(dim=axes, keepdim=True)) / bent.std(dim=axes, keepdim=True).clamp_min(1e-7)
    return bent * deviation + mean
