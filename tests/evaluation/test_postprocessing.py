"""Post-processing is decided by nnU-Net's rule: on made masks, whose best steps are known."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segment.data.labels import IGNORE, Labels
from segment.evaluation.postprocessing import SIZES, _Scan, decide
from segment.evaluation.score import score_pairs
from segment.inference.postprocessing import HOLES, LARGEST, SMALL, Step, postprocessed
from segment.metrics.scan import score_scan

ORGANS = Labels({"background": 0, "a": 1, "b": 2})
REGIONS = Labels({"background": 0, "whole": [1, 2], "core": [2]}, [1, 2])
SPACING = (2.0, 1.0, 1.5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([ORGANS, REGIONS]), st.sampled_from([0.2, 0.5]))
def test_scores_after_each_step_are_those_of_the_changed_mask(seed, labels, density):
    generator = np.random.default_rng(seed)
    mask, reference = (generator.choice([0, 1, 2], (4, 7, 6), p=[1 - density, density / 2, density / 2]) for _ in "ab")
    reference[generator.random(reference.shape) < 0.1] = IGNORE
    names = [*labels.structures]
    steps = [Step(LARGEST), *(Step(SMALL, name, 10.0) for name in names)]
    steps += [Step(kind, name) for name in names for kind in (LARGEST, HOLES)]
    found = _Scan(mask.astype(np.uint8), reference, labels, SPACING).scores(steps)
    for row, step in zip(found, [None, *steps], strict=True):
        changed = postprocessed(mask, [step] if step else [], labels, SPACING)
        expected = score_scan(changed, reference, labels.structures, 3, IGNORE)
        np.testing.assert_array_equal(row, [score.scores["dice"] for score in expected])


def ball(shape=(14, 16, 16), centre=(7, 8, 8), radius=4.2) -> np.ndarray:
    return sum((axis - middle) ** 2 for axis, middle in zip(np.indices(shape), centre, strict=True)) <= radius**2


@pytest.fixture
def pairs(tmp_path):
    """Function that writes masks and references and returns their files."""

    def write(masks, references):
        files = {}
        for side, arrays in (("mask", masks), ("reference", references)):
            for number, array in enumerate(arrays):
                files[side, number] = tmp_path / f"{side}{number}.nii"
                nib.save(nib.Nifti1Image(array.astype(np.uint8).T, np.eye(4)), files[side, number])
        return [(str(number), files["mask", number], files["reference", number]) for number in range(len(masks))]

    return write


def organs(count: int, shift: int = 0):
    """An organ with a second one beside it, in several scans."""
    return [1 * ball() + 2 * ball(centre=(7, 8, 15), radius=2.2 + 0.1 * (n + shift)) for n in range(count)]


def test_satellites_of_both_labels_go_with_the_largest_component_of_all_foreground(pairs):
    references = organs(6)
    masks = [mask.copy() for mask in references]
    for number, mask in enumerate(masks):
        mask[0, 0, number] = 1
        mask[13, 15, : 1 + number % 2] = 2
    shares = []
    found = decide(files := pairs(masks, references), ORGANS, shares.append)
    assert sum(shares) == pytest.approx(1)
    assert found.steps == (Step(LARGEST),)
    assert (found.scans, [one.kept for one in found.tried]) == (6, [True])
    scores = [
        score_pairs(files, ORGANS, "val", 0, change=change)
        for change in (None, lambda mask, spacing: postprocessed(mask, found.steps, ORGANS, spacing))
    ]
    before, after = (table.groupby("name")["dice"].mean() for table in scores)
    assert (after == 1).all()
    assert found.difference.labels == pytest.approx((after - before).to_dict())
    assert found.difference.mean == pytest.approx((after - before).mean())
    low, high = found.difference.ci95
    assert 0 < low < found.difference.mean < high
    assert scores[1].groupby("name")["postprocessed_voxels"].sum().to_dict() == {"a": 6, "b": 9}
    assert "postprocessed_voxels" not in scores[0]


def test_what_a_label_loses_is_not_weighed_against_what_another_gains(pairs):
    references = organs(5)
    for reference in references:
        reference[0, :2, :3] = 2  # a true second part of b, which the largest of all foreground would remove
    masks = [mask.copy() for mask in references]
    for mask in masks:
        mask[12:, :6, :6] = 1  # far more of a is wrong than of b would be lost
    found = decide(pairs(masks, references), ORGANS)
    assert found.steps == (Step(LARGEST, "a"),)
    refused = next(one for one in found.tried if one.step == Step(LARGEST))
    assert refused.difference.mean > 0 > refused.difference.labels["b"]
    assert not refused.kept


def test_small_objects_go_where_the_largest_alone_would_lose_true_ones_and_holes_are_filled(pairs):
    labels = Labels({"background": 0, "a": 1})
    references = [1 * (ball() | ball(centre=(7, 8, 15), radius=2.5)) for _ in range(4)]
    references.append(np.zeros_like(references[0]))  # healthy: what is found there is invented
    masks = [mask.copy() for mask in references]
    for number, mask in enumerate(masks):
        mask[0, 0, : 2 + number] = 1  # at most 6 mm3
        mask[7, 8, 8] = 0
    masks[-1][7, 8, 8] = 0
    found = decide(pairs(masks, references), labels)
    assert found.steps == (Step(SMALL, "a", SIZES[0]), Step(HOLES, "a"))
    assert found.difference.mean == pytest.approx(
        np.mean([1 - 2 * len_shared / total for len_shared, total in _overlaps(masks, references)])
    )


def _overlaps(masks, references):
    for mask, reference in zip(masks, references, strict=True):
        yield (mask & reference).sum(), mask.sum() + reference.sum()


def test_regions_are_decided_one_after_another(pairs):
    references = [1 * ball() + 1 * ball(radius=2.2) for _ in range(4)]
    masks = [mask.copy() for mask in references]
    for mask in masks:
        mask[0, 0, :2], mask[13, 15, :3] = 1, 2  # both outside of the largest component of the whole
        mask[7, 8, 4] = 2  # within the whole, outside of the largest component of the core
    found = decide(pairs(masks, references), REGIONS)
    # A component of the core that is removed leaves a hole in the whole.
    assert [str(step) for step in found.steps] == ["all foreground: largest component only"]
    assert found.difference.labels["core"] > found.difference.labels["whole"] > 0
    core = next(one for one in found.tried if one.step == Step(LARGEST, "core"))
    assert core.difference.labels["whole"] < 0 < core.difference.labels["core"]


def test_perfect_masks_and_true_parts_are_left_alone(pairs):
    references = organs(3)
    for reference in references:
        reference[0, 0, 0] = 1
    found = decide(pairs(references, references), ORGANS)
    assert found.steps == ()
    assert found.difference.mean == 0
    assert found.difference.ci95 is None
    assert found.tried  # each would lose a true part
    assert not any(one.kept for one in found.tried)
