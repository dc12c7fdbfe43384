"""Masks whose voxels are stored in another order of axes than their image's: read as if they were not."""

import nibabel as nib
import numpy as np
import pytest
from oriented import affine_of

from segment.data import open_dataset
from segment.data.check.dataset import check_dataset
from segment.evaluation.evaluate import evaluate
from segment.preprocessing.plan import Plan
from segment.preprocessing.store import Store


def write_set(root, codes):
    """Two scans of axes LPS; their masks hold the same voxels, stored along other axes."""
    rng = np.random.default_rng(0)
    for name in "ab":
        image = nib.Nifti1Image(rng.normal(100, 5, (7, 6, 5)).astype(np.float32), affine_of("LPS", tilt=(0, 0, 0)))
        mask = np.zeros((7, 6, 5), np.uint8)
        mask[1:3, 2:6, 1:3] = 1
        mask[1, 2, 1] = 2
        mask = nib.Nifti1Image(mask, image.affine)
        turn = nib.orientations.ornt_transform(nib.io_orientation(mask.affine), nib.orientations.axcodes2ornt(codes))
        for folder, file in (("images", image), ("labels", mask.as_reoriented(turn))):
            (root / folder).mkdir(parents=True, exist_ok=True)
            nib.save(file, root / folder / f"{name}.nii.gz")
    return root


def facts(root):
    return check_dataset(lambda report: open_dataset(root, report=report), root)


@pytest.mark.parametrize("codes", ["RAS", "PIR"])
def test_masks_along_other_axes_are_surveyed_prepared_and_scored_as_their_image(tmp_path, codes):
    straight, turned = (write_set(tmp_path / name, name) for name in ("LPS", codes))
    checked = facts(turned)
    assert checked.problems == ()
    assert checked.surveys == facts(straight).surveys
    plan = Plan((3.0, 2.0, 1.5), (4, 4, 4), 1, ("zscore",), (0, 1, 2))
    references = []
    for root in (straight, turned):
        found = facts(root)
        store = Store(tmp_path / "store", found.dataset, plan, found.hashes)
        store.prepare(found.dataset.cases)
        references.append(store.load(found.dataset.cases[0]).reference[...])
    np.testing.assert_array_equal(*references)
    assert references[0].max() == 2
    assert set(evaluate(turned / "labels", straight / "labels").scans["dice"]) == {1.0}
