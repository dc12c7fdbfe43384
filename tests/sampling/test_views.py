"""Views of one scan overlap as asked, and are a function of (seed, sample)."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from segment.data.case import Case
from segment.sampling.sampler import collate
from segment.sampling.views import Views


def views(overlap: float, shape: tuple[int, ...] = (1, 40, 30), **more) -> Views:
    """Views of one scan without a mask whose voxels hold their own number."""
    image = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    plan = SimpleNamespace(sliced=False, patch_size=(8, 10), batch_size=4)
    dataset = SimpleNamespace(labels=SimpleNamespace(structures={}))
    scan = SimpleNamespace(image=image, reference=None, previous=None, locations={})
    store = SimpleNamespace(plan=plan, dataset=dataset, load=lambda case: scan)
    return Views(store, [Case("a", ())], 3, 2, overlap, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("overlap", [0.0, 0.5, 1.0])
def test_crops_share_at_least_the_overlap_along_each_axis(overlap):
    distances = []
    for number in range(200):
        first, second = (divmod(int(view["image"][0, 0, 0]), 30) for view in views(overlap)[number])
        distances.append(np.abs(np.subtract(first, second)))
    largest = np.max(distances, axis=0)
    assert (largest <= (1 - overlap) * np.array([8, 10])).all()
    assert (largest >= (1 - overlap) * np.array([8, 10]) - 1).all()


def test_views_have_numbers_of_their_own_and_follow_each_other_in_a_batch():
    made = views(0.5, extent=lambda sample: (8, 10) if sample % 2 else (12, 10))
    batch = collate([made[5], made[6]])
    assert batch["sample"].tolist() == [10, 11, 12, 13]
    assert [tuple(image.shape) for image in batch["image"]] == [(1, 12, 10), (1, 8, 10)] * 2
    assert batch["reference"][0].dtype == torch.uint8
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(made[5], made[5], strict=True))
