"""Prepared scans stored in float16."""

import dataclasses

import nibabel as nib
import numpy as np
import pytest

from segment.data import open_dataset
from segment.data.case import Dataset
from segment.errors import UserError
from segment.files import hash_files
from segment.preprocessing.plan import Plan
from segment.preprocessing.store import Store

PLAN = Plan((1.0, 1.0, 1.0), (8, 8, 8), 1, ("zscore",))


def open_store(folder, dataset: Dataset, plan: Plan, dtype: str) -> Store:
    return Store(folder, dataset, plan, hash_files(file for case in dataset.cases for file in case.files), dtype=dtype)


def test_a_store_in_float16_takes_less_disk_and_states_its_error(make_dataset, tmp_path):
    dataset = open_dataset(make_dataset(tmp_path / "scans", n=2))
    prepared, halved = (open_store(tmp_path, dataset, PLAN, dtype) for dtype in ("float32", "float16"))
    for store in (prepared, halved):
        store.prepare(dataset.cases)
    case = dataset.cases[0]
    assert prepared.path(case) != halved.path(case)
    assert Store(tmp_path, dataset, PLAN, prepared.hashes).path(case) == prepared.path(case)
    scan, true = halved.load(case), prepared.load(case).image[...]
    assert scan.image.dtype == scan.image[0, 2:4].dtype == np.float32
    np.testing.assert_array_equal(scan.image[...], true.astype(np.float16))
    errors = [np.abs(halved.load(one).image[...] - prepared.load(one).image[...]).max() for one in dataset.cases]
    assert halved.error(dataset.cases) == max(errors) <= np.abs(true).max() / 2048
    assert prepared.error(dataset.cases) == 0
    np.testing.assert_array_equal(halved.whole(case)[0], true)  # what is scored has no error
    sizes = [(one.path(case) / "image.b2nd").stat().st_size for one in (halved, prepared)]
    assert sizes[0] < 0.6 * sizes[1]


def test_intensities_beyond_float16_are_refused(make_dataset, tmp_path):
    dataset = open_dataset(make_dataset(tmp_path / "scans", n=1))
    file = dataset.cases[0].images[0]
    array = np.asarray(nib.load(file).dataobj).T.astype(np.float32)
    array[0, 0, 0] = 7e4
    nib.save(nib.Nifti1Image(array.T, nib.load(file).affine), file)
    store = open_store(tmp_path / "store", dataset, dataclasses.replace(PLAN, normalization=("none",)), "float16")
    with pytest.raises(UserError, match=rf"{file.name}: .* up to 70,000, beyond the 65,504 .* cache_dtype=float32"):
        store.prepare(dataset.cases)
    assert not list(store.folder.glob("*/entry.txt"))
