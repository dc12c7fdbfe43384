import gzip
import json
import tracemalloc

import nibabel as nib
import numpy as np
import pytest

from segment.data.synthetic import fake
from segment.data.synthetic.fake import fake_dataset, make_slices
from segment.errors import UserError
from segment.io.geometry import grid_difference
from segment.io.images import read_image, read_label

SHAPE, SPACING = (24, 30, 40), (3.0, 0.8, 0.7)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return fake_dataset(tmp_path_factory.mktemp("fake") / "set", 3, SHAPE, SPACING, labels=2, seed=5)


def test_it_is_an_ordinary_msd_folder_of_the_shape_and_spacing_asked_for(made):
    assert [case.id for case in made.cases] == [f"fake_{number:04d}" for number in range(3)]
    assert made.channels == ("CT",)
    assert dict(made.labels) == {"background": 0, "structure_1": 1, "structure_2": 2}
    assert "not patients" in made.notice
    for case in made.cases:
        image, label = read_image(case.images), read_label(case.label)
        assert image.array.shape == (1, *SHAPE)
        assert grid_difference(image.grid, label.grid) == ""
        np.testing.assert_allclose(image.grid.spacing, SPACING, rtol=1e-6)
        assert nib.aff2axcodes(image.grid.affine) == ("R", "A", "S")
        assert nib.load(case.images[0]).get_data_dtype() == np.int16
        assert nib.load(case.label).get_data_dtype() == np.uint8


def test_structures_are_brighter_than_the_body_and_the_body_than_air(made):
    for case in made.cases:
        image, mask = read_image(case.images).array[0], read_label(case.label).array
        assert set(np.unique(mask)) <= {0, 1, 2}
        assert (mask > 0).any()
        assert image[:, 0, 0].mean() == pytest.approx(-1000, abs=30)
        body = image[(mask == 0) & (image > -500)].mean()
        levels = [image[mask == value].mean() for value in np.unique(mask) if value]
        assert body < levels[0] - 20
        assert levels == sorted(levels)
        assert 10 < image[mask == np.unique(mask)[-1]].std() < 30  # noise, and a slow change of brightness


def test_a_scan_depends_on_seed_and_index_alone(made, tmp_path):
    image, mask = (np.stack(part) for part in zip(*make_slices(5, 1, SHAPE, 2), strict=True))
    np.testing.assert_array_equal(read_image(made.cases[1].images).array[0], image)
    np.testing.assert_array_equal(read_label(made.cases[1].label).array, mask)
    assert any((slice_ != other).any() for slice_, (other, _) in zip(image, make_slices(6, 1, SHAPE, 2), strict=True))
    assert any((slice_ != other).any() for slice_, (other, _) in zip(image, make_slices(5, 2, SHAPE, 2), strict=True))
    again = fake_dataset(
        tmp_path / "set", 2, SHAPE, SPACING, labels=2, seed=5
    )  # a smaller set: the same scans, bit for bit
    for case, other in zip(again.cases, made.cases, strict=False):
        assert case.images[0].read_bytes() == other.images[0].read_bytes()


def test_uncompressed_files_hold_the_same(made, tmp_path):
    plain = fake_dataset(tmp_path / "set", 1, SHAPE, SPACING, labels=2, seed=5, compressed=False)
    assert plain.cases[0].images[0].suffix == ".nii"
    with gzip.open(made.cases[0].images[0]) as packed:
        assert packed.read() == plain.cases[0].images[0].read_bytes()


def test_writing_a_scan_takes_no_memory_for_the_scan(tmp_path):
    tracemalloc.start()
    try:
        fake_dataset(tmp_path / "set", 1, (200, 64, 64))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200 * 64 * 64 * 2  # its voxels alone


def test_data_set_is_written_once_and_another_version_is_refused(made, monkeypatch):
    monkeypatch.setattr(fake, "_write", None)
    assert fake_dataset(made.root, 3, SHAPE, SPACING, labels=2, seed=5) == made
    for change in ({"seed": 6}, {"scans": 4}, {"shape": (24, 30, 41)}, {"labels": 3}, {"compressed": False}):
        asked = {"scans": 3, "shape": SHAPE, "spacing": SPACING, "labels": 2, "seed": 5} | change
        with pytest.raises(UserError, match=r"set contains the fake set .*Choose another data\.root, or delete"):
            fake_dataset(made.root, **asked)


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"scans": 0}, "scans"),
        ({"seed": -1}, "seed"),
        ({"labels": 0}, "labels"),
        ({"shape": (64, 64)}, "shape"),
        ({"shape": (64, 64, 100_000)}, "shape"),
        ({"spacing": (1, 1, 0)}, "spacing"),
    ],
)
def test_impossible_values_are_refused_by_the_name_of_their_key(wrong, key, tmp_path):
    with pytest.raises(UserError, match=rf"data\.{key}="):
        fake_dataset(tmp_path / "set", **wrong)
    assert not (tmp_path / "set").exists()


def test_failed_write_leaves_nothing_and_foreign_folders_unchanged(tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "dataset.json").write_text(json.dumps({"training": []}))
    with pytest.raises(UserError, match="something other than the fake set"):
        fake_dataset(tmp_path / "other")
    monkeypatch.setattr(fake, "make_slices", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fake_dataset(tmp_path / "set", 2, SHAPE)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
