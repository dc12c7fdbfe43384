import json
import socket

import nibabel as nib
import numpy as np
import pytest

from segment.data.synthetic import demo
from segment.errors import UserError
from segment.io.geometry import canonical_spacing, grid_difference, to_canonical
from segment.io.images import read_image, read_label


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    def refuse(*_, **__):
        raise AssertionError("the demo set asked for the network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        return demo.demo_dataset(tmp_path_factory.mktemp("demo") / "set", scans=4)


def test_it_is_an_ordinary_msd_folder_with_licence_and_notice(made):
    assert [case.id for case in made.cases] == [f"demo_{number:03d}" for number in range(4)]
    assert dict(made.labels) == demo.LABELS
    assert made.channels == ("T1",)
    assert "not patients" in made.notice
    assert "LICENSE" in made.licence
    text = (made.root / "LICENSE.txt").read_text()
    assert "McGill" in text
    assert "no patients" in text
    assert sorted(path.name for path in made.root.iterdir()) == ["LICENSE.txt", "dataset.json", "imagesTr", "labelsTr"]
    assert [path.name for path in made.root.parent.iterdir()] == ["set"]


def test_the_anatomy_is_a_brain_in_its_place(made):
    for case in made.cases:
        image, label = read_image(case.images), read_label(case.label)
        assert grid_difference(image.grid, label.grid) == ""
        mask = made.labels.encode(label.array)
        shares = np.bincount(mask.ravel(), minlength=4) / mask.size
        assert 0.45 < shares[0] < 0.8
        assert (shares[1:] > 0.02).all()
        means = [image.array[0][mask == value].mean() for value in range(4)]
        assert means == sorted(means)  # T1: air, fluid, grey, white
        # White matter lies inside, and the brain in the middle of the scan, in millimetres of MNI space.
        voxels = np.argwhere(mask > 0)[:, ::-1]
        centre = nib.affines.apply_affine(image.grid.affine, voxels.mean(0))
        np.testing.assert_allclose(centre, [0, -18, 8], atol=14)
        turned = to_canonical(mask, image.grid)
        z = turned.shape[0]
        assert (turned[: z // 4] > 0).sum() < (turned[z // 4 :] > 0).sum() / 3  # the narrow end is below


def test_scans_differ_as_clinical_ones_do(made):
    grids = [read_image(case.images).grid for case in made.cases]
    assert len({grid.shape for grid in grids}) == 4
    assert {"".join(nib.aff2axcodes(grid.affine)) for grid in grids} == {"RAS", "LPS", "LAS", "PIR"}
    assert len({tuple(np.round(canonical_spacing(grid), 2)) for grid in grids}) >= 2
    assert all(2.9 < min(grid.spacing) <= max(grid.spacing) < 4.6 for grid in grids)
    oblique = [np.abs(grid.direction).max(axis=0).min() for grid in grids]
    assert all(0.95 < value < 0.99999 for value in oblique)
    assert all(np.prod(grid.shape) < 200_000 for grid in grids)


def test_a_scan_depends_on_seed_and_index_alone(made):
    template = demo.brain_template()
    image, mask, affine = demo.make_scan(template, 0, 2)
    np.testing.assert_array_equal(read_image(made.cases[2].images).array[0], image.T)
    np.testing.assert_array_equal(read_label(made.cases[2].label).array, mask.T)
    np.testing.assert_allclose(nib.load(made.cases[2].images[0]).affine, affine, atol=1e-4)
    other, _, _ = demo.make_scan(template, 1, 2)
    assert other.shape != image.shape or (other != image).any()


def test_data_set_is_written_once(made, monkeypatch):
    monkeypatch.setattr(demo, "_write", None)
    assert demo.demo_dataset(made.root, scans=4) == made


@pytest.mark.parametrize("change", [{"seed": 1}, {"scans": 5}])
def test_folder_of_another_version_is_refused(made, change):
    with pytest.raises(UserError, match=r"set contains the demo set .*Choose another data\.root, or delete"):
        demo.demo_dataset(made.root, **{"scans": 4, **change})


def test_foreign_folder_is_refused_and_left_unchanged(tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps({"training": []}))
    with pytest.raises(UserError, match="something other than the demo set"):
        demo.demo_dataset(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["dataset.json"]
    with pytest.raises(UserError, match=r"data\.scans=0"):
        demo.demo_dataset(tmp_path / "new", scans=0)


def test_failed_write_leaves_nothing(tmp_path, monkeypatch):
    calls = []

    def fail(*args):
        calls.append(args)
        raise RuntimeError("disk")

    monkeypatch.setattr(demo, "brain_template", lambda: None)
    monkeypatch.setattr(demo, "make_scan", fail)
    with pytest.raises(RuntimeError, match="disk"):
        demo.demo_dataset(tmp_path / "set", scans=2)
    assert calls
    assert list(tmp_path.iterdir()) == []
