"""Pairs of a patch to learn from with its reference, and one without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from segment.augment.counter import generator
from segment.data.case import Case
from segment.sampling.sampler import Patches


class Paired(Patches):
    """Item ``n`` is patch ``n`` of the labelled scans and one of the others, placed uniformly at random.

    Their sample numbers, which augmentations are drawn from, are ``2 n`` and ``2 n + 1``. The reference of the other
    patch is 0: a mask that its scan has is not looked at.

    Args:
        patches: The patches of the labelled scans.
        unlabelled: The other scans.
    """

    def __init__(self, patches: Patches, unlabelled: Sequence[Case]) -> None:
        vars(self).update(vars(patches))
        self.unlabelled = list(unlabelled)

    def __getitem__(self, sample: int) -> Any:
        """Both patches of item number ``sample``, each as from `Patches`."""
        random = generator(self.seed, sample, "patch")
        case = self._choose(random)
        scan = self.store.load(case)
        first = self._patch(case, scan, self._corner(scan, random, self._forced(sample)), 2 * sample)
        random = generator(self.seed, sample, "unlabelled")
        case = self.unlabelled[int(random.integers(len(self.unlabelled)))]
        scan = replace(self.store.load(case), reference=None)
        corner = random.integers(*self._bounds(scan), endpoint=True)
        return [first, self._patch(case, scan, corner, 2 * sample + 1)]
