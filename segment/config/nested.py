"""The end of a sweep with ``nested=true``: the best configuration of each fold is trained again, for its own fold.

Such a sweep scores its jobs on part of the training scans. The fold's validation scans have no part in the choice, so
that their score, of one training per fold, is not optimistic.
"""

from __future__ import annotations

from collections.abc import Sequence

from segment.config.sweep import Job

_FOLD = "fold="
_REPLACED = ("nested=", "name=", "output=")


def outer_trainings(jobs: Sequence[Job]) -> list[list[str]]:
    """The overrides that train the best configuration of each fold on all training scans of that fold.

    Args:
        jobs: The results of a sweep.

    Returns:
        Overrides as Hydra reads them, for every fold that the sweep named; none unless all jobs were nested.
    """
    best: dict[str, Job] = {}
    for job in jobs:
        fold = next((word for word in reversed(job.overrides) if word.startswith(_FOLD)), "")
        # Of equal jobs the first, so that the same sweep ends with the same training.
        if job.score is not None and (fold not in best or job.score > (best[fold].score or 0.0)):
            best[fold] = job
    if not all(job.nested for job in jobs):
        return []
    return [
        [*(word for word in job.overrides if not word.startswith(_REPLACED)), "nested=false"] for job in best.values()
    ]
