"""What check advises mends a data set, and keeps its masks."""

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from segment.data import open_dataset
from segment.data.check.dataset import check_dataset
from segment.io.images import read_label


def problems_of(root):
    return check_dataset(lambda report: open_dataset(root, report=report), root).problems


def test_a_mask_under_the_identity_gets_its_images_header_and_keeps_its_voxels(tmp_path):
    """nnU-Net's issues 2526 and 1669: resampling such a mask, as is often advised, leaves nothing of it."""
    affine = np.diag([-0.7, -0.7, 3, 1.0])
    affine[:3, 3] = 100, 90, -40
    mask = np.zeros((10, 9, 8), np.uint8)
    mask[2:5, 3:7, 1:4] = 1
    for number in range(2):
        noise = np.random.default_rng(number).normal(100, 9, mask.shape).astype(np.float32)
        for folder, array, placed in (("images", noise, affine), ("labels", mask, np.eye(4))):
            (tmp_path / folder).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(array, placed), tmp_path / folder / f"{number}.nii.gz")
    found = problems_of(tmp_path)
    assert [problem.kind for problem in found] == ["grid", "grid"]
    assert all("copy the image's header to it (SimpleITK: CopyInformation)" in problem.fix for problem in found)
    for path in sorted((tmp_path / "labels").iterdir()):
        image, label = (sitk.ReadImage(str(tmp_path / folder / path.name)) for folder in ("images", "labels"))
        assert not sitk.GetArrayFromImage(sitk.Resample(label, image, sitk.Transform(), sitk.sitkNearestNeighbor)).any()
        label.CopyInformation(image)
        sitk.WriteImage(label, str(path))
    assert problems_of(tmp_path) == ()
    np.testing.assert_array_equal(read_label(tmp_path / "labels" / "0.nii.gz").array, mask.T)
