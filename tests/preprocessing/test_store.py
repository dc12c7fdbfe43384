import dataclasses
import json

import nibabel as nib
import numpy as np
import pytest

from segment.data import open_dataset
from segment.data.case import Case, Dataset
from segment.errors import UserError
from segment.preprocessing import store as store_module
from segment.preprocessing.plan import Plan
from segment.preprocessing.store import MAX_LOCATIONS, Store, find_locations
from segment.provenance import hash_files

PLAN = Plan((1.0, 1.0, 1.0), (8, 8, 8), 1, ("zscore",))


def files_of(dataset: Dataset) -> list:
    return [file for case in dataset.cases for file in (*case.images, *([case.label] if case.label else []))]


def open_store(folder, dataset: Dataset, plan: Plan = PLAN) -> Store:
    return Store(folder, dataset, plan, hash_files(files_of(dataset)))


@pytest.fixture
def dataset(make_dataset, tmp_path) -> Dataset:
    return open_dataset(make_dataset(tmp_path / "scans", n=2))


@pytest.fixture
def prepared(dataset, tmp_path) -> Store:
    store = open_store(tmp_path / "store", dataset)
    store.prepare(dataset.cases)
    return store


def entries(folder) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def save(path, array: np.ndarray, like=None) -> None:
    nib.save(nib.Nifti1Image(array.T, np.eye(4) if like is None else like), path)


def test_a_prepared_scan_is_what_its_files_hold(prepared, dataset):
    case = dataset.cases[0]
    scan = prepared.load(case)
    image, label = (np.asarray(nib.load(file).dataobj).T for file in (case.images[0], case.label))
    np.testing.assert_allclose(scan.image[0], (image - image.mean()) / image.std(), atol=1e-4)
    np.testing.assert_array_equal(scan.reference, label)
    assert scan.image.dtype == np.float32
    assert scan.reference.dtype == np.uint8
    assert isinstance(scan.image, np.memmap)  # reading a patch costs the patch


def test_locations_point_at_voxels_of_their_class(prepared, dataset):
    scan = prepared.load(dataset.cases[1])
    assert set(scan.locations) == {1, 2}
    for index, voxels in scan.locations.items():
        assert (scan.reference[tuple(voxels.T)] == index).all()
        assert len(np.unique(voxels, axis=0)) == len(voxels) == (scan.reference == index).sum()


def test_locations_are_thinned_to_a_fixed_random_choice():
    reference = np.zeros((40, 40, 40), np.uint8)
    reference[:30], reference[35, 0, 0] = 1, 3
    found = find_locations(reference, 5, "case")
    assert set(found) == {"locations_1", "locations_3"}
    voxels = found["locations_1"]
    assert voxels.shape == (MAX_LOCATIONS, 3)
    assert MAX_LOCATIONS == 10_000
    assert len(np.unique(voxels, axis=0)) == MAX_LOCATIONS
    assert (reference[tuple(voxels.T)] == 1).all()
    assert np.bincount(voxels[:, 0] // 10) == pytest.approx(MAX_LOCATIONS / 3, abs=200)  # from everywhere
    assert found["locations_3"].tolist() == [[35, 0, 0]]
    np.testing.assert_array_equal(find_locations(reference, 5, "case")["locations_1"], voxels)


def test_nothing_is_prepared_twice(prepared, dataset, tmp_path, monkeypatch):
    before = entries(prepared.folder)
    assert before
    monkeypatch.setattr(store_module, "read_image", lambda paths: pytest.fail("read again"))
    calls = []
    open_store(tmp_path / "store", dataset).prepare(dataset.cases, calls.append)
    assert entries(prepared.folder) == before
    assert calls == [2]


def test_progress_counts_every_scan(dataset, tmp_path):
    calls = []
    open_store(tmp_path / "store", dataset).prepare(dataset.cases, calls.append)
    assert calls == [0, 1, 2]


def test_a_changed_voxel_is_another_entry(prepared, dataset, tmp_path):
    for file in (dataset.cases[0].images[0], dataset.cases[0].label):
        loaded = nib.load(file)
        array = np.array(loaded.dataobj)
        array[0, 0, 0] += 1
        nib.save(nib.Nifti1Image(array, loaded.affine), file)
        changed = open_store(tmp_path / "store", dataset)
        assert changed.path(dataset.cases[0]) != prepared.path(dataset.cases[0])
        assert changed.path(dataset.cases[1]) == prepared.path(dataset.cases[1])
        prepared = changed


@pytest.mark.parametrize(
    "change",
    [
        {"spacing": (1.0, 1.0, 2.0)},
        {"normalization": ("none",)},
    ],
)
def test_another_plan_is_another_entry(prepared, dataset, change):
    other = open_store(prepared.folder, dataset, dataclasses.replace(PLAN, **change))
    assert other.path(dataset.cases[0]) != prepared.path(dataset.cases[0])


def test_another_label_name_or_value_is_another_entry_but_not_another_patch(prepared, dataset):
    case = dataset.cases[0]
    for labels in ({"background": 0, "ball_1": 1, "two": 2}, {"background": 0, "ball_1": 2, "ball_2": 1}):
        assert open_store(prepared.folder, dataclasses.replace(dataset, labels=labels)).path(case) != prepared.path(
            case
        )
    patch = open_store(prepared.folder, dataset, dataclasses.replace(PLAN, patch_size=(4, 4, 4), batch_size=9))
    assert patch.path(case) == prepared.path(case)


def test_image_and_label_do_not_change_places(prepared, dataset):
    case = dataset.cases[0]
    swapped = Case(case.id, (case.label,), case.images[0])
    assert prepared.path(swapped) != prepared.path(case)


@pytest.mark.parametrize("failing", ["image", "locations_2"])
def test_an_interrupted_preparation_leaves_nothing_and_is_taken_up_again(dataset, tmp_path, monkeypatch, failing):
    real = np.save

    def full_disk(file, array):
        if file.stem == failing:
            file.write_bytes(b"half")
            raise OSError("No space left on device")
        real(file, array)

    store = open_store(tmp_path / "store", dataset)
    with monkeypatch.context() as patched:
        patched.setattr(np, "save", full_disk)
        with pytest.raises(OSError, match="No space"):
            store.prepare(dataset.cases)
    assert list(store.folder.iterdir()) == []
    store.prepare(dataset.cases)
    assert store.load(dataset.cases[0]).image.shape == (1, 12, 16, 14)


def test_two_cases_with_the_same_bytes_share_an_entry(dataset, tmp_path):
    case = dataset.cases[0]
    twins = dataclasses.replace(dataset, cases=tuple(dataclasses.replace(case, id=f"twin_{i}") for i in range(4)))
    store = open_store(tmp_path / "store", twins)
    store.prepare(twins.cases)
    assert len(list(store.folder.iterdir())) == 1
    assert store.load(twins.cases[3]).reference.any()


def test_a_scan_without_a_label_has_an_image_only(dataset, tmp_path):
    case = dataclasses.replace(dataset.cases[0], label=None)
    store = open_store(tmp_path / "store", dataset)
    store.prepare([case])
    assert [file.name for file in store.path(case).iterdir()] == ["image.npy"]


def test_a_label_on_another_grid_is_refused(dataset, tmp_path):
    case = dataset.cases[1]
    save(case.label, np.zeros((12, 16, 13), np.uint8))
    with pytest.raises(UserError) as refusal:
        open_store(tmp_path / "store", dataset).prepare(dataset.cases)
    for words in (str(case.label), str(case.images[0]), "(12, 16, 14)", "(12, 16, 13)"):
        assert words in str(refusal.value)


def test_a_label_at_another_place_is_refused(dataset, tmp_path):
    case = dataset.cases[1]
    save(case.label, np.zeros((12, 16, 14), np.uint8), nib.affines.from_matvec(np.eye(3), [5, 0, 0]))
    with pytest.raises(UserError, match="origin"):
        open_store(tmp_path / "store", dataset).prepare(dataset.cases)


def test_a_wrong_number_of_channels_is_refused(dataset, tmp_path):
    wrong = dataclasses.replace(dataset, channels=("t1", "t2"))
    with pytest.raises(UserError) as refusal:
        open_store(tmp_path / "store", wrong, dataclasses.replace(PLAN, normalization=("zscore",) * 2)).prepare(
            wrong.cases
        )
    for words in (str(dataset.cases[0].images[0]), "1 channel", "has 2 (t1, t2)", "data.channels"):
        assert words in str(refusal.value)


def test_an_undeclared_label_value_is_refused(dataset, tmp_path):
    mask = np.zeros((12, 16, 14), np.uint8)
    mask[0, 0, 0] = 77
    save(dataset.cases[0].label, mask)
    with pytest.raises(UserError) as refusal:
        open_store(tmp_path / "store", dataset).prepare(dataset.cases)
    assert str(refusal.value).startswith(f"{dataset.cases[0].label}: ")
    assert "77" in str(refusal.value)


def test_an_error_leaves_no_half_entry_and_the_sound_scans_count(dataset, tmp_path):
    dataset.cases[1].images[0].write_bytes(b"no image")
    store = open_store(tmp_path / "store", dataset)
    with pytest.raises(UserError, match="case_b01"):
        store.prepare(dataset.cases)
    assert not store.path(dataset.cases[1]).exists()
    assert not list(store.folder.glob(".partial-*"))


def test_file_values_become_class_indices(make_dataset, tmp_path):
    root = make_dataset(tmp_path / "scans", n=1)
    described = json.loads((root / "dataset.json").read_text())
    described["labels"] = {"0": "background", "1": "ball_1", "200": "ball_2"}
    (root / "dataset.json").write_text(json.dumps(described))
    dataset = open_dataset(root)
    loaded = nib.load(dataset.cases[0].label)
    array = np.asarray(loaded.dataobj)
    nib.save(nib.Nifti1Image(np.where(array == 2, 200, array).astype(np.uint8), loaded.affine), dataset.cases[0].label)
    store = open_store(tmp_path / "store", dataset)
    store.prepare(dataset.cases)
    np.testing.assert_array_equal(store.load(dataset.cases[0]).reference, array.T)
