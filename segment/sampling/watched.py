"""Which validation scans are predicted during a training: as many as cost little of its time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from segment.augment.counter import generator

CHEAP = 1 << 25  # voxels of windows that are predicted in seconds on any machine
SHARE = 0.1  # of the time of training
TRAINED = 3  # forward passes that a training step takes as long as


def watched_scans(windows: Sequence[int], patch_size: Sequence[int], patches: int, seed: int) -> list[int]:
    """Choose the scans that are predicted at every validation, the same ones each time.

    Args:
        windows: Windows of every validation scan.
        patch_size: Voxels of a window and of a patch, one number per axis.
        patches: Patches that are trained between two validations, by all processes.
        seed: The run's seed.

    Returns:
        All scans while their windows have at most `CHEAP` voxels or take at most `SHARE` of the time that training
        takes; else a random choice that does, at least one. Ascending numbers.
    """
    most = max(CHEAP / math.prod(patch_size), SHARE * TRAINED * patches)
    if sum(windows) <= most:
        return list(range(len(windows)))
    chosen, total = list[int](), 0
    for index in generator(seed, 0, "validation").permutation(len(windows)).tolist():
        if chosen and total + windows[index] > most:
            break
        chosen.append(index)
        total += windows[index]
    return sorted(chosen)
