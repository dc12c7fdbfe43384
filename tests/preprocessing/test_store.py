import dataclasses
import json
import os
import shutil
import time

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from segment.data import open_dataset
from segment.data.case import Case, Dataset
from segment.data.labels import Labels
from segment.errors import UserError
from segment.files import hash_files
from segment.io.content import hash_scans
from segment.io.formats import registry
from segment.io.images import read_grid
from segment.preprocessing import store as store_module
from segment.preprocessing.locations import ANNOTATED
from segment.preprocessing.plan import Intensity, Plan
from segment.preprocessing.prepare import preparation_bytes
from segment.preprocessing.store import Store

PLAN = Plan((1.0, 1.0, 1.0), (8, 8, 8), 1, ("zscore",))


def open_store(folder, dataset: Dataset, plan: Plan = PLAN) -> Store:
    return Store(folder, dataset, plan, hash_files(file for case in dataset.cases for file in case.files))


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


def test_scans_prepared_by_another_reader_are_not_used(prepared, dataset, monkeypatch):
    before = prepared.path(dataset.cases[0])
    monkeypatch.setitem(registry._versions, ".nii.gz", "another reader")
    assert prepared.path(dataset.cases[0]) != before


def test_prepared_scan_equals_its_files(prepared, dataset):
    case = dataset.cases[0]
    scan = prepared.load(case)
    image, label = (np.asarray(nib.load(file).dataobj).T for file in (case.images[0], case.label))
    np.testing.assert_allclose(scan.image[0], (image - image.mean()) / image.std(), atol=1e-4)
    np.testing.assert_array_equal(scan.reference[...], label)
    assert scan.image.dtype == np.float32
    assert scan.reference.dtype == np.uint8
    np.testing.assert_array_equal(scan.image[..., 2:5, 3:9, 4], scan.image[...][..., 2:5, 3:9, 4])
    assert (scan.placement.grid.shape, scan.placement.box) == ((12, 16, 14), ((0, 12), (0, 16), (0, 14)))
    np.testing.assert_array_equal(scan.placement.grid.affine, np.eye(4))


def test_locations_point_at_voxels_of_their_class(prepared, dataset):
    scan = prepared.load(dataset.cases[1])
    assert set(scan.locations) == {1, 2}
    for index, voxels in scan.locations.items():
        reference = scan.reference[...]
        assert (reference[tuple(voxels.T)] == index).all()
        assert len(np.unique(voxels, axis=0)) == len(voxels) == (reference == index).sum()
        assert voxels.dtype == np.int32
        assert isinstance(voxels, np.memmap)  # drawing one does not read them all


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
        {"transpose": (1, 0, 2)},
        {"transpose": (0, 1, 2), "spacing": (1.0, 1.0), "patch_size": (8, 8)},
        {"normalization": ("ct",), "intensities": (Intensity(0, 1, -1, 1),)},
    ],
)
def test_another_plan_is_another_entry(prepared, dataset, change):
    other = open_store(prepared.folder, dataset, dataclasses.replace(PLAN, **change))
    assert other.path(dataset.cases[0]) != prepared.path(dataset.cases[0])


def test_another_label_name_or_value_is_another_entry_but_not_another_patch(prepared, dataset):
    case = dataset.cases[0]
    for declared in (
        {"background": 0, "ball_1": 1, "two": 2},
        {"background": 0, "ball_1": 2, "ball_2": 1},
        dataset.labels.declared | {"ignore": 9},
    ):
        other = dataclasses.replace(dataset, labels=Labels(declared))
        assert open_store(prepared.folder, other).path(case) != prepared.path(case)
    unused = (Intensity(0, 1, -1, 1),)  # z-scores do not ask for them
    same = dataclasses.replace(PLAN, patch_size=(4, 4, 4), batch_size=9, intensities=unused)
    assert open_store(prepared.folder, dataset, same).path(case) == prepared.path(case)
    ct = [
        open_store(prepared.folder, dataset, dataclasses.replace(PLAN, normalization=("ct",), intensities=(intensity,)))
        for intensity in (Intensity(0, 1, -1, 1), Intensity(0, 2, -1, 1))
    ]
    assert ct[0].path(case) != ct[1].path(case)


def test_swapped_image_and_label_are_another_entry(prepared, dataset):
    case = dataset.cases[0]
    swapped = Case(case.id, (case.label,), case.images[0])
    assert prepared.path(swapped) != prepared.path(case)


@pytest.mark.parametrize("failing", ["image.b2nd", "reference.b2nd"])
def test_interrupted_preparation_leaves_nothing_and_resumes(dataset, tmp_path, monkeypatch, failing):
    real = store_module.write_chunked

    def full_disk(file, array, patch):
        if file.name == failing:
            file.write_bytes(b"half")
            raise OSError("No space left on device")
        real(file, array, patch)

    store = open_store(tmp_path / "store", dataset)
    with monkeypatch.context() as patched:
        patched.setattr(store_module, "write_chunked", full_disk)
        with pytest.raises(OSError, match="No space"):
            store.prepare(dataset.cases)
    assert list(store.folder.iterdir()) == []
    store.prepare(dataset.cases)
    assert store.load(dataset.cases[0]).image.shape == (1, 12, 16, 14)


def damage(folder, name: str, how: str) -> None:
    file = folder / name
    content = bytearray(file.read_bytes())
    if how == "gone":
        file.unlink()
    elif how == "truncated":
        file.write_bytes(content[: len(content) // 2])
    else:
        content[-len(content) // 3] ^= 0xFF if how == "flipped" else 1
        file.write_bytes(content)


@pytest.mark.parametrize("how", ["gone", "truncated", "flipped", "digit"])
@pytest.mark.parametrize("name", ["image.b2nd", "reference.b2nd", "locations.npy", "entry.txt"])
@pytest.mark.parametrize("noticed_by", ["prepare", "load"])
def test_damaged_entry_is_prepared_again(prepared, dataset, name, how, noticed_by):
    first, second = dataset.cases
    intact, other = prepared.load(first).image[...], entries(prepared.path(second))
    damage(prepared.path(first), name, how)
    if noticed_by == "prepare":
        prepared.prepare(dataset.cases)
    scan = prepared.load(first)
    np.testing.assert_array_equal(scan.image[...], intact)
    assert set(scan.locations) == {1, 2}
    assert (scan.reference[...][tuple(scan.locations[2].T)] == 2).all()
    assert entries(prepared.path(second)) == other


def test_changed_placement_in_an_entry_is_detected(prepared, dataset):
    file = prepared.path(dataset.cases[0]) / "entry.txt"
    text = file.read_text()
    assert "[0, 12]" in text
    file.write_text(text.replace("[0, 12]", "[0, 11]"))
    assert prepared.load(dataset.cases[0]).placement.box[0] == (0, 12)


def test_shorter_file_is_detected_whatever_its_time(prepared, dataset):
    file = prepared.path(dataset.cases[0]) / "reference.b2nd"
    written = file.stat().st_mtime_ns
    damage(file.parent, file.name, "truncated")
    os.utime(file, ns=(written, written))
    assert prepared.load(dataset.cases[0]).reference[...].shape == (12, 16, 14)


def test_damage_found_while_reading_is_reported_and_fixed_by_the_next_start(prepared, dataset):
    scan = prepared.load(dataset.cases[0])
    file = prepared.path(dataset.cases[0]) / "image.b2nd"
    status = file.stat()
    file.write_bytes(bytes(status.st_size))
    os.utime(file, ns=(status.st_mtime_ns, status.st_mtime_ns))
    with pytest.raises(UserError, match=r"image\.b2nd.*damaged.*Run again"):
        scan.image[...]
    prepared.prepare(dataset.cases)
    assert np.isfinite(scan.image[...]).all()


def test_copied_store_is_used_unchanged(prepared, dataset, tmp_path, monkeypatch):
    shutil.copytree(prepared.folder, tmp_path / "copy", copy_function=shutil.copy)  # with other times
    monkeypatch.setattr(store_module, "read_image", lambda paths: pytest.fail("prepared again"))
    copy = open_store(tmp_path / "copy", dataset)
    copy.prepare(dataset.cases)
    np.testing.assert_array_equal(copy.load(dataset.cases[0]).image[...], prepared.load(dataset.cases[0]).image[...])


def test_nothing_in_an_entry_is_pickled(prepared, dataset):
    folder = prepared.path(dataset.cases[0])
    np.load(folder / "locations.npy", allow_pickle=False)
    assert sorted(file.name for file in folder.iterdir()) == [
        "entry.txt",
        "image.b2nd",
        "locations.npy",
        "reference.b2nd",
    ]


def test_scans_that_are_large_together_are_prepared_one_after_another(make_dataset, tmp_path, monkeypatch):
    dataset = open_dataset(make_dataset(tmp_path / "scans", n=4))
    store, real, at_once, most = open_store(tmp_path / "store", dataset), Store._write, [0], [0]

    def write(self, case, folder):
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        time.sleep(0.02)
        real(self, case, folder)
        at_once[0] -= 1

    monkeypatch.setattr(Store, "_write", write)
    needed = preparation_bytes(read_grid(dataset.cases[0].images[0]), 1, store.plan)
    monkeypatch.setattr(store_module, "available_memory", lambda: 3 * needed)
    store.prepare(dataset.cases)
    assert most == [1]


@pytest.mark.parametrize("name", ["image.b2nd", "reference.b2nd", "locations.npy"])
def test_a_flipped_byte_is_found_although_size_and_time_are_those_of_before(prepared, dataset, name):
    file = prepared.path(dataset.cases[0]) / name
    before, times = file.read_bytes(), file.stat()
    content = bytearray(before)
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    prepared.prepare(dataset.cases)
    assert file.read_bytes() == before


def test_what_a_killed_preparation_left_is_removed_by_the_next(prepared, dataset):
    (left := prepared.folder / ".partial-killed").mkdir()
    os.utime(left, (0, 0))
    prepared.prepare(dataset.cases)
    assert not list(prepared.folder.glob(".partial-*"))


def test_changed_voxels_beside_a_header_are_prepared_again(tmp_path):
    image = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32))
    sitk.WriteImage(image, str(tmp_path / "scan.mhd"))
    case = Case("scan", (tmp_path / "scan.mhd",), None)
    dataset = Dataset("made", tmp_path, ("ct",), Labels({"background": 0, "ball": 1}), (case,))

    def path():
        return Store(tmp_path / "store", dataset, PLAN, hash_scans(case.images)).path(case)

    before, times = path(), (tmp_path / "scan.raw").stat()
    content = bytearray((tmp_path / "scan.raw").read_bytes())
    content[0] ^= 1
    (tmp_path / "scan.raw").write_bytes(content)
    os.utime(tmp_path / "scan.raw", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path() != before


def test_partly_annotated_scan_keeps_the_ignore_value(make_dataset, tmp_path):
    root = make_dataset(tmp_path / "scans", n=1)
    dataset = open_dataset(root, labels={"background": 0, "ball_2": 2, "ignore": 1})
    store = open_store(tmp_path / "store", dataset)
    scan = store.load(dataset.cases[0])  # made when it is missing
    assert set(np.unique(scan.reference[...])) == {0, 1, 255}
    assert set(scan.locations) == {1, ANNOTATED}


def test_two_cases_with_the_same_bytes_share_an_entry(dataset, tmp_path):
    case = dataset.cases[0]
    copies = dataclasses.replace(dataset, cases=tuple(dataclasses.replace(case, id=f"copy_{i}") for i in range(4)))
    store = open_store(tmp_path / "store", copies)
    store.prepare(copies.cases)
    assert len(list(store.folder.iterdir())) == 1
    assert store.load(copies.cases[3]).reference[...].any()


def test_a_scan_without_a_label_has_an_image_only(dataset, tmp_path):
    case = dataclasses.replace(dataset.cases[0], label=None)
    store = open_store(tmp_path / "store", dataset)
    store.prepare([case])
    assert sorted(file.name for file in store.path(case).iterdir()) == ["entry.txt", "image.b2nd"]
    scan = store.load(case)
    assert scan.reference is None
    assert not scan.locations
    assert scan.image[...].shape == (1, 12, 16, 14)


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


def test_error_leaves_no_partial_entry_and_valid_scans_are_kept(dataset, tmp_path):
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
    np.testing.assert_array_equal(store.load(dataset.cases[0]).reference[...], array.T)
