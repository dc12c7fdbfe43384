"""Randomness as a function of (seed, sample, purpose), not of a stream."""

from __future__ import annotations

import zlib

import numpy as np
import torch


def generator(seed: int, sample: int, purpose: str) -> np.random.Generator:
    """A counter-based generator (Philox; Salmon et al. 2011) that depends only on its three arguments.

    A sample therefore does not depend on the number of workers, on the order or on what was drawn before.

    Args:
        seed: The run's seed, >= 0.
        sample: The sample's number over the whole training, >= 0.
        purpose: What the numbers are for; different purposes are independent.
    """
    return np.random.Generator(np.random.Philox(key=[seed, sample], counter=[0, 0, 0, zlib.crc32(purpose.encode())]))


def field_generator(seed: int, sample: int, purpose: str, device: torch.device) -> torch.Generator:
    """A generator of random fields (noise, one number per voxel) that depends on its arguments and the device type.

    Args:
        seed: The run's seed, >= 0.
        sample: The sample's number over the whole training, >= 0.
        purpose: What the numbers are for.
        device: Device that the field is drawn on.
    """
    number = generator(seed, sample, f"{purpose} field").integers(2**63)
    return torch.Generator(device).manual_seed(int(number))
