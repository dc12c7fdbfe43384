"""Faces in scans of made heads: found, removed without a voxel of the brain, and nowhere else."""

import importlib.util
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from made_dicom import make_series
from made_heads import make_head
from PIL import Image
from scipy import ndimage

from segment.commands import convert
from segment.config.compose import compose
from segment.data.check.privacy import judge_privacy
from segment.errors import UserError
from segment.io.geometry import Grid
from segment.io.images import read_image, read_label
from segment.io.volumes import write_volume
from segment.privacy.faces import face_region, has_face
from segment.privacy.heads import find_head


def run(**values) -> None:
    convert.run(compose("convert", [f"{key}={value}" for key, value in values.items()]))


ORIENTATIONS = ("RAS", "LPS", "PIR", "ASL", "LAS", "RPI", "RSA", "SAL")
SPACINGS = ((3, 3, 3), (2.5, 2.5, 4), (2, 3, 3), (1.5, 1.5, 6))
CONTRASTS = {
    "flat": np.sqrt,
    "T1": lambda t1: t1,
    "dark": lambda t1: t1**2,
}


@pytest.mark.slow
@pytest.mark.parametrize("contrast", CONTRASTS)
@pytest.mark.parametrize("number", range(8))
def test_a_face_is_removed_and_the_brain_stays(number, contrast):
    seed = 8 * list(CONTRASTS).index(contrast) + number
    tilt = np.random.default_rng(seed).uniform(-0.15, 0.15, 3)
    scan = make_head(ORIENTATIONS[number], SPACINGS[number % 4], seed, tilt, CONTRASTS[contrast])
    head = find_head(scan.array, scan.grid)
    assert head.t1
    assert has_face(scan.array, scan.grid, head)
    region = face_region(head, scan.grid)
    assert not (region & scan.brain).any()
    assert (region & scan.nose).sum() == scan.nose.sum()
    assert (region & scan.eyes).sum() > 0.4 * scan.eyes.sum()  # their front
    assert not has_face(np.where(region, 0, scan.array), scan.grid, head)


def test_convert_removes_the_face_alone_and_check_names_it(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)  # no Tesseract, which would look for text
    scan = make_head("PIR", (4, 3.5, 4), 3)
    (tmp_path / "in").mkdir()
    path, other = tmp_path / "in" / "a.nii.gz", tmp_path / "in" / "b.nii.gz"
    write_volume(path, scan.array[None], scan.grid)
    write_volume(other, np.zeros((1, 9, 9, 9), np.uint8), Grid((9, 9, 9), np.eye(4)))
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"1 of 2 files could not .*b\.nii\.gz: no head is found, .* The others are in"):
        run(input=tmp_path / "in", output=tmp_path / "out", deface="true", face_pictures=tmp_path / "faces")
    assert path.read_bytes() == before
    found = read_image(tmp_path / "out" / "a.nii.gz")
    np.testing.assert_array_equal(found.grid.affine, read_image(path).grid.affine)
    changed = found.array[0] != scan.array
    assert not (changed & scan.brain).any()
    assert (found.array[0][changed] == scan.array.min()).all()
    assert ndimage.label(changed, np.ones((3, 3, 3)))[1] == 1
    picture = np.asarray(Image.open(tmp_path / "faces" / "a.png").convert("L")) > 0
    upper, lower = np.split(picture, 2)
    assert lower.sum() < 0.97 * upper.sum()
    told = [problem.file for problem in judge_privacy(tmp_path / "in", None) if "a face that can be" in str(problem)]
    assert told == [str(path)]


@pytest.mark.slow
def test_a_series_of_a_head_is_defaced(tmp_path):
    scan = make_head("LPS", (3, 3, 3), 2, tilt=(0, 0, 0))
    make_series(tmp_path / "in", scan.array, spacing=(3, 3, 3))
    assert "a face that can be rendered" in " ".join(map(str, judge_privacy(tmp_path / "in", None)))
    run(input=tmp_path / "in", output=tmp_path / "out", deface="true")
    assert "a face" not in " ".join(map(str, judge_privacy(tmp_path / "out", None)))
    (path,) = (tmp_path / "out").iterdir()
    changed = read_image(path).array[0] != scan.array - 1024
    assert changed.any()
    assert not (changed & scan.brain).any()


@pytest.mark.slow
def test_the_face_of_an_average_of_real_heads_is_removed_as_by_pydeface():
    spec = importlib.util.find_spec("pydeface")
    if spec is None:
        pytest.skip("needs the files of pydeface 2.1.0: pip install --no-deps pydeface")
    folder = Path(spec.origin).parent / "data"
    scan = read_image(folder / "mean_reg2mean.nii.gz")
    head = find_head(scan.array[0], scan.grid)
    assert has_face(scan.array[0], scan.grid, head)
    region = face_region(head, scan.grid)
    removed = (read_label(folder / "facemask.nii.gz").array == 0) & (scan.array[0] > 60)
    assert (region & removed).sum() > 0.99 * removed.sum()
    if importlib.util.find_spec("deepbet"):
        from deepbet import BrainExtraction

        mask = BrainExtraction(no_gpu=True).run(str(folder / "mean_reg2mean.nii.gz"))[1]
        away = ndimage.distance_transform_edt(np.asarray(mask.dataobj).T == 0, scan.grid.spacing)
        assert away[region].min() > 8


@pytest.mark.slow
def test_other_contrasts_are_named_but_not_defaced(tmp_path):
    scan = make_head(seed=1, contrast=lambda t1: np.where(t1 < 0.09, t1, 1.1 - t1))  # air and bone stay dark
    write_volume(tmp_path / "t2.nii.gz", scan.array[None], scan.grid)
    assert "a face that can be rendered" in " ".join(map(str, judge_privacy(tmp_path / "t2.nii.gz", None)))
    with pytest.raises(UserError, match=r"t2\.nii\.gz: its head has another contrast than T1"):
        run(input=tmp_path / "t2.nii.gz", output=tmp_path / "out", deface="true")
    assert not list((tmp_path / "out").rglob("*.nii.gz"))


def body(seed: int) -> tuple[np.ndarray, Grid]:
    """A trunk of random organs, and a ball."""
    rng = np.random.default_rng(seed)
    places = np.indices((50, 50, 50)) * 5.0 - 125
    organs = ndimage.gaussian_filter(rng.normal(size=(50, 50, 50)), 2)
    inside = np.hypot(places[1] / 80, places[2] / 110) < 1 if seed else (places**2).sum(0) < 90**2
    values = inside * (100 + 40 * organs / organs.std() * bool(seed)) + rng.normal(0, 3, inside.shape)
    return values.astype(np.float32), Grid(values.shape, nib.affines.from_matvec(np.eye(3) * 5, [-125] * 3))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_what_is_no_head_is_not_taken_for_one(seed):
    assert find_head(*body(seed)) is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"deface": "true", "format": "png"}, r"deface=true: is for scans\. Give format=nifti"),
        ({"deface": "true", "face_pictures": "out/faces"}, r"face_pictures=.*shows the faces, and would go wherever"),
        ({"face_pictures": "faces"}, "is for deface=true"),
        ({"deface": "true", "anonymize": "true"}, "deface: anonymize=true copies files in their own formats"),
    ],
)
def test_mistakes_are_named(tmp_path, monkeypatch, given, said):
    monkeypatch.chdir(tmp_path)
    write_volume(tmp_path / "in.nii.gz", np.zeros((1, 4, 4, 4), np.uint8), Grid((4, 4, 4), np.eye(4)))
    with pytest.raises(UserError, match=said):
        run(input="in.nii.gz", output="out", **given)
    assert not (tmp_path / "out").exists()
