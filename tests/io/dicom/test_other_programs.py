"""dcm2niix, dcmqi and plastimatch see the same voxels at the same places."""

import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from made_annotations import LABELS, SHAPE, phantom, written
from made_dicom import EIGHT, make_series, voxels

from segment.io.geometry import Grid, canonical_grid, to_canonical
from segment.io.images import read_image, read_label

DEFAULT = (EIGHT[1], EIGHT[5], EIGHT[7])
ORIENTATIONS = [*DEFAULT, *(pytest.param(item, marks=pytest.mark.slow) for item in EIGHT if item not in DEFAULT)]


def run(program: str, *arguments: object) -> None:
    """Run a program of the environment or the system; without it the test is skipped."""
    path = shutil.which(program, path=str(Path(sys.executable).parent)) or shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed; it comes with the extra test")
    done = subprocess.run([path, *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def same(array: np.ndarray, grid: Grid, other: np.ndarray, of_other: Grid) -> None:
    """Values and positions are equal, whatever the order of the axes."""
    np.testing.assert_array_equal(to_canonical(array, grid), to_canonical(other, of_other))
    np.testing.assert_allclose(canonical_grid(grid).affine, canonical_grid(of_other).affine, atol=1e-4)


@pytest.mark.parametrize("orientation", EIGHT)
def test_dcm2niix_reads_the_series_alike(tmp_path, orientation):
    files = make_series(tmp_path / "ct", voxels(SHAPE), orientation)
    run("dcm2niix", "-o", tmp_path, "-f", "converted", "-b", "n", tmp_path / "ct")
    image, found = nib.load(tmp_path / "converted.nii"), read_image(files[0])
    array = image.get_fdata().T
    same(found.array[0], found.grid, array, Grid(array.shape, image.affine))


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_dcmqi_reads_the_segmentation_alike(tmp_path, orientation, kind):
    mask = phantom()
    path, series = written(tmp_path / "ct", mask, kind, orientation)
    run("segimage2itkimage", "--inputDICOM", path, "--outputDirectory", tmp_path, "-t", "nii", "-p", "out")
    files = sorted(tmp_path.glob("out-*.nii.gz"))
    assert len(files) == (2 if kind == "binary" else 1)  # a file for each segment
    numbered = np.max([_padded(read_label(file), series.grid) for file in files], axis=0)
    np.testing.assert_array_equal(numbered, (mask == LABELS["liver"]) + 2 * (mask == LABELS["liver_tumour"]))


def _padded(found, grid: Grid) -> np.ndarray:
    """A mask on a grid of which it has only the slices that hold the structure."""
    full = np.zeros(grid.shape, found.array.dtype)
    places = np.argwhere(found.array)
    world = places[:, ::-1] @ found.grid.affine[:3, :3].T + found.grid.affine[:3, 3]
    inverse = np.linalg.inv(grid.affine)
    index = world @ inverse[:3, :3].T + inverse[:3, 3]
    np.testing.assert_allclose(index, np.round(index), atol=1e-3)
    full[tuple(np.round(index).astype(int).T[::-1])] = found.array[tuple(places.T)]
    return full


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_plastimatch_fills_the_contours_alike(tmp_path, orientation):
    mask = phantom()
    path, series = written(tmp_path / "ct", mask, "rtstruct", orientation)
    moved = path.rename(tmp_path / "rtstruct.dcm")
    given = ("--input", moved, "--referenced-ct", tmp_path / "ct", "--output-prefix", tmp_path / "masks")
    run("plastimatch", "convert", *given, "--prefix-format", "nii.gz")
    for name, value in LABELS.items():
        image = sitk.ReadImage(str(tmp_path / "masks" / f"{name}.nii.gz"))
        found = read_label(tmp_path / "masks" / f"{name}.nii.gz")
        assert image.GetSize() == series.grid.shape[::-1]
        same(found.array > 0, found.grid, mask == value, series.grid)
