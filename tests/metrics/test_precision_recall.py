import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from segment.metrics import precision_recall as module
from segment.metrics.precision_recall import THRESHOLDS, average_precision, precision_recall, threshold_counts

LABELS = {"a": (1,), "b": (2,)}
REGIONS = {"whole": (1, 2), "core": (2,)}


def scan(seed: int, outputs: int, shape=(5, 6, 7)) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(outputs, *shape, generator=draw), torch.randint(0, 3, shape, generator=draw, dtype=torch.uint8)


def expected(probability: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The curve by its definition, one threshold after the other."""
    rows = []
    for threshold in range(THRESHOLDS):
        taken = probability * np.float32(THRESHOLDS - 1) >= threshold
        tp, fp = (taken & inside).sum(), (taken & ~inside).sum()
        rows.append(
            [tp, fp, (~taken & ~inside).sum(), (~taken & inside).sum(), tp / max(1, tp + fp), tp / inside.sum()]
        )
    return np.array(rows).T


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("shape", [(5, 6, 7), (9, 8)])
def test_curves_over_two_scans_are_those_of_all_their_voxels(monkeypatch, regions, shape):
    monkeypatch.setattr(module, "SLAB", 20)  # several slabs a scan
    structures = REGIONS if regions else LABELS
    scans = [scan(seed, 2 if regions else 3, shape) for seed in (0, 1)]
    scans[1][1][0, 0] = 255  # not annotated
    counts = sum(threshold_counts(*pair, structures, regions, ignore=255) for pair in scans)
    found = precision_recall(counts.numpy())
    known = np.concatenate([reference.flatten() != 255 for _, reference in scans])
    reference = np.concatenate([reference.flatten() for _, reference in scans])[known]
    for index, classes in enumerate(structures.values()):
        channel = index if regions else classes[0]
        probability = np.concatenate([p[channel].flatten() for p, _ in scans])[known]
        np.testing.assert_allclose(found[index], expected(probability, np.isin(reference, classes)), rtol=1e-12)


def test_probabilities_of_0_1_and_nan_are_counted():
    probabilities = torch.tensor([[[0.0, 1.0, 0.5, torch.nan]]])
    counts = threshold_counts(probabilities, torch.tensor([[0, 1, 1, 1]]), {"a": (1,)}, regions=True)
    assert counts[0, 0].nonzero().flatten().tolist() == [0]
    assert counts[0, 1].nonzero().flatten().tolist() == [0, 63, 126]


def test_a_structure_that_occurs_nowhere_has_no_recall():
    probabilities, reference = scan(0, 3)
    curve = precision_recall(threshold_counts(probabilities, reference * 0, LABELS).numpy())
    assert not curve[:, [0, 3, 4, 5]].any()
    assert (curve[:, 1] + curve[:, 2] == reference.numel()).all()


def test_average_precision_is_scikit_learns_on_probabilities_of_as_many_steps():
    generator = np.random.default_rng(0)
    inside = generator.random(4000) < 0.2
    probability = np.clip(generator.normal(0.35, 0.2, 4000) + 0.3 * inside, 0, 1)
    steps = np.floor(probability * (THRESHOLDS - 1)).astype(int)
    counts = np.stack([np.bincount(steps[inside == side], minlength=THRESHOLDS) for side in (False, True)])
    assert average_precision(counts) == pytest.approx(average_precision_score(inside, steps))
    assert np.isnan(average_precision(np.stack([counts[0], np.zeros_like(counts[1])])))
