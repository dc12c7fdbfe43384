"""Several views of one scan for pretraining: crops that overlap, each augmented by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from segment.augment.counter import generator
from segment.data.case import Case
from segment.preprocessing.store import Store
from segment.sampling.sampler import Patches


class Views(Patches):
    """Random crops of prepared scans, with or without masks; item ``n`` is always the same list of views.

    View ``v`` of item ``n`` has the sample number ``n * count + v``, which its augmentation is drawn from.

    Args:
        store: Prepared scans.
        cases: Scans to draw from.
        seed: The run's seed.
        count: Views of an item.
        overlap: Least fraction of a crop's extent along each axis that the other views share with the first.
        extent: As for `Patches`, by sample number.
        weights: As for `Patches`.
    """

    def __init__(
        self,
        store: Store,
        cases: Sequence[Case],
        seed: int,
        count: int,
        overlap: float,
        extent: Callable[[int], Sequence[int]] | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(store, cases, seed, foreground=0.0, weights=weights, extent=extent)
        self.count = count
        self.overlap = overlap

    def __getitem__(self, sample: int) -> Any:
        """Views of item number ``sample``, each as from `Patches`."""
        random = generator(self.seed, sample, "views")
        case = self._choose(random)
        scan = self.store.load(case)
        low, high = self._bounds(scan)
        corners = [random.integers(low, high, endpoint=True)]
        reach = np.floor((1 - self.overlap) * self.patch_size).astype(int)
        for _ in range(1, self.count):
            near = np.maximum(low, corners[0] - reach), np.minimum(high, corners[0] + reach)
            corners.append(random.integers(*near, endpoint=True))
        return [self._patch(case, scan, corner, sample * self.count + v) for v, corner in enumerate(corners)]
