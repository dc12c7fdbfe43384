"""The files of shared/cases, which people brought and an earlier version misread: their right values."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from segment import memory
from segment.data import open_dataset
from segment.data.check.dataset import check_dataset
from segment.errors import UserError
from segment.inference.inputs import find_scans
from segment.io.images import read_grid, read_image, read_label
from segment.preprocessing.plan import Plan
from segment.preprocessing.prepare import require_preparable

pytestmark = pytest.mark.slow
CASES = Path(__file__).parents[3] / "shared" / "cases"


@pytest.fixture
def made(tmp_path):
    """``made(name) -> folder`` of what a generator writes."""

    def write(name: str) -> Path:
        if not (CASES / f"{name}.py").is_file():
            pytest.skip(f"{name}.py does not lie in shared/cases beside the repository")
        subprocess.run([sys.executable, CASES / f"{name}.py", tmp_path], check=True, timeout=120)
        return tmp_path

    return write


def checked(root):
    found = check_dataset(lambda report: open_dataset(root, report=report), root)
    return found, [(problem.kind, problem.severity) for problem in found.problems]


def test_channels_of_tiff(made):
    root = made("tiff_channels")
    found = {path.stem: read_image(path).array for path in sorted((root / "tiff").iterdir())}
    channels = {"contig2_u16": 2, "contig5": 5, "float16": 1, "four_bands": 3, "planar5": 5, "planar_rgb16": 3}
    assert {name: len(array) for name, array in found.items()} == channels
    for name in ("contig5", "planar5"):
        np.testing.assert_array_equal(found[name][1], found[name][0] // 2)
    assert found["contig2_u16"].max() == found["planar_rgb16"].max() == 51000
    assert found["float16"].max() == 1
    assert checked(root / "tiff_set")[1] == []
    assert len(open_dataset(root / "tiff_set").channels) == 5


def test_sound_masks_are_read(made):
    root = made("tiff_png_refused") / "refused"
    square = [path for path in root.iterdir() if path.stem in ("1bit_2048", "1bit_group4", "1bit")]
    assert len(square) == 3
    for path in square:
        mask = read_label(path).array
        assert (mask.sum(), mask[500:900, 300:1200].all()) == (360_000, True)
    for name in ("grey_alpha", "grey_trns", "palette"):
        assert np.unique(read_label(root / f"{name}.png").array, return_counts=True)[1].tolist() == [2560, 1536]
    for name in ("int64", "uint64", "float64"):
        assert read_label(root / f"{name}.tif").array.shape == (64, 64)


def test_four_digits_are_no_channels(made):
    root = made("four_digits")
    assert [name for name, _ in find_scans(root / "four", 1)] == [f"scan_000{i}.nii.gz" for i in (1, 2, 3)]
    dataset = open_dataset(root / "four_set")
    assert [case.id for case in dataset.test_cases] == ["scan_0010", "scan_0011", "scan_0012"]
    assert (len(dataset.cases), len(dataset.channels)) == (5, 1)


@pytest.mark.parametrize(
    ("generator", "folder", "scans", "problems"),
    [
        ("names", "jpg", 5, []),
        ("names", "segnrrd", 5, []),
        ("patients", "patients", 6, []),
        ("raters", "raters", 10, []),
        ("grids", "grid_flipped", 5, []),
        ("grids", "grid_identity", 5, [("grid", "error")] * 5),
        ("spacing_outlier", "outlier", 5, [("spacing", "warning")]),
    ],
)
def test_data_sets_are_what_they_are(made, generator, folder, scans, problems):
    found, said = checked(made(generator) / folder)
    assert (found.scans, said) == (scans, problems)


def test_a_header_in_another_unit_allocates_nothing(made, monkeypatch):
    grid = read_grid(made("spacing_outlier") / "big.nii.gz")
    monkeypatch.setattr(memory, "available_memory", lambda: 10**9)
    with pytest.raises(UserError, match=r"big: .*Fix the spacing"):
        require_preparable(grid, 1, Plan((3.0, 3.0, 3.0), (16, 16, 16), 1, ("zscore",), (0, 1, 2)), "big")
