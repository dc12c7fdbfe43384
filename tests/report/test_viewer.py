import base64
import gzip

import nibabel as nib
import numpy as np
import pytest

from segment.io.geometry import Grid
from segment.report.viewer import viewer_volumes
from segment.runs.voxels import ScanVoxels


def scan_of(shape, affine=None, noise=True, box=None):
    """A scan with one structure in a box (slices z, y, x)."""
    generator = np.random.default_rng(0)
    image = generator.normal(100, 10, (1, *shape)).astype(np.float32) if noise else np.zeros((1, *shape), np.float32)
    mask = np.zeros(shape, np.uint8)
    if box:
        mask[box] = 1
        image[0][box] += 100
    return ScanVoxels(image, mask, mask.copy(), Grid(shape, np.eye(4) if affine is None else affine), 2)


def read(text):
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


def test_small_scan_is_embedded_completely_with_its_geometry():
    affine = np.array([[0, 0, 3.0, -7], [-1, 0, 0, 5], [0, 2, 0, 9], [0, 0, 0, 1.0]])
    scan = scan_of((6, 8, 10), affine, box=np.s_[2:4, 3:5, 4:9])
    volumes = viewer_volumes(scan)
    assert volumes["whole"]
    for name in ("image", "reference", "prediction"):
        volume = read(volumes[name])
        np.testing.assert_allclose(volume.affine, affine)
        assert volume.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(read(volumes["reference"]).dataobj), scan.reference.T)
    grey = np.asarray(read(volumes["image"]).dataobj).T
    assert grey.min() == 0
    assert grey.max() == 255
    assert np.corrcoef(grey.ravel(), scan.image[0].ravel())[0, 1] > 0.99
    np.testing.assert_allclose(volumes["centre"], (affine @ (4, 3, 2, 1))[:3])
    assert volumes["extent"] == 18


@pytest.mark.parametrize("box", [np.s_[100:110, 30:60, 40:90], None])
def test_volumes_of_large_scans_are_limited_in_size(box):
    scan = scan_of((420, 170, 190), np.diag([0.5, 0.5, 2, 1.0]), box=box)
    volumes = viewer_volumes(scan)
    assert not volumes["whole"]
    assert sum(len(volumes[name]) for name in ("image", "reference", "prediction")) <= 1_000_000
    reference = read(volumes["reference"])
    assert max(reference.shape) <= 160
    if box:
        # The structure has the same middle and extent in mm as in the scan, to a voxel.
        where = np.argwhere(np.asarray(reference.dataobj))
        found = nib.affines.apply_affine(reference.affine, [where.min(axis=0), where.max(axis=0)])
        expected = nib.affines.apply_affine(scan.grid.affine, [(40, 30, 100), (89, 59, 109)])
        step = np.linalg.norm(reference.affine[:3, :3], axis=0)
        assert (np.abs(found - expected) <= step).all()


def test_viewer_accepts_constant_images_and_omits_flat_ones():
    volumes = viewer_volumes(scan_of((4, 5, 6), noise=False))
    assert np.asarray(read(volumes["image"]).dataobj).max() == 0
    assert viewer_volumes(scan_of((5, 6))) is None
