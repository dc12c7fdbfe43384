"""Files of every format with random bytes changed or cut off: read, or refused with a sentence."""

import random
import re
from contextlib import suppress

import h5py
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image

from segment.errors import UserError
from segment.io.formats import suffixes
from segment.io.images import read_image, read_label

VOLUME = np.random.default_rng(0).integers(0, 9, (4, 5, 6)).astype(np.uint8)
FLAT = np.random.default_rng(1).integers(0, 9, (20, 30)).astype(np.uint8)
COLOURED = Image.fromarray(FLAT, "P")
COLOURED.putpalette(list(range(0, 54, 2)))


def by_pillow(image, **options):
    return lambda path: image.save(path, **options)


def by_tifffile(array, **options):
    return lambda path: tifffile.imwrite(path, array, **options)


def by_nibabel(kind):
    return lambda path: nib.save(kind(VOLUME.T, np.eye(4)), path)


def by_itk(path):
    sitk.WriteImage(sitk.GetImageFromArray(VOLUME), str(path), True)


def by_h5py(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("image", data=VOLUME, compression="gzip")
        file.create_dataset("label", data=VOLUME, chunks=(2, 2, 2))


GREY = Image.fromarray(FLAT)
WRITERS = {
    **{name: by_nibabel(nib.Nifti1Image) for name in ("a.nii", "a.nii.gz")},
    "a.hdr": by_nibabel(nib.Nifti1Pair),
    **{name: by_nibabel(nib.MGHImage) for name in ("a.mgh", "a.mgz")},
    **dict.fromkeys(("a.mha", "a.mhd", "a.nrrd", "a.nhdr", "a.seg.nrrd"), by_itk),
    **{f"grey{end}": by_pillow(GREY) for end in (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm")},
    **{f"palette{end}": by_pillow(COLOURED) for end in (".png", ".bmp")},
    "a.ppm": by_pillow(GREY.convert("RGB")),
    "ome.tif": by_tifffile(VOLUME, ome=True, metadata={"axes": "ZYX", "PhysicalSizeX": 0.5}),
    "imagej.tif": by_tifffile(VOLUME, imagej=True, metadata={"axes": "CYX"}),
    "lzw.tiff": by_tifffile(VOLUME, compression="lzw", photometric="minisblack"),
    "tiles.tif": by_tifffile(FLAT, compression="zlib", tile=(16, 16)),
    "jpeg.tif": by_tifffile(FLAT, compression="jpeg"),
    "fax.tif": by_pillow(Image.fromarray(FLAT > 4), compression="group4"),
    "a.npy": lambda path: np.save(path, VOLUME),
    "a.npz": lambda path: np.savez_compressed(path, VOLUME),
    **dict.fromkeys(("a.h5", "a.hdf5"), by_h5py),
}
FOUR = (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\0\0\0\x40")  # as numbers: -1, largest, 0, huge


def damaged(content, seed):
    """Between one and four changes, half of them in the header."""
    rng, changed = random.Random(seed), bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4])):
        place = rng.randrange(min(len(changed), rng.choice([64, 512, len(changed)])))
        kind = rng.random()
        if kind < 0.5:
            changed[place] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
        elif kind < 0.8:
            changed[place : place + 4] = rng.choice(FOUR)
        else:
            del changed[place + 1 :]
    return bytes(changed)


def damage_and_read(path, seeds):
    """How often the file was read all the same."""
    WRITERS[path.name](path)
    content, read = path.read_bytes(), 0
    for seed in seeds:
        path.write_bytes(damaged(content, seed))
        for reader in (read_image, read_label):
            with suppress(UserError):
                reader(path)
                read += 1
    return read


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WRITERS)
def test_a_damaged_file_is_read_or_refused(tmp_path, name):
    assert damage_and_read(tmp_path / name, range(12)) < 24


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WRITERS)
def test_many_damaged_files_are_read_or_refused(tmp_path, name):
    assert damage_and_read(tmp_path / name, range(100, 1100)) < 2000


def test_every_built_in_format_is_damaged():
    built_in = "|".join(map(re.escape, sorted(suffixes(), key=len, reverse=True)))
    assert {re.search(f"({built_in})$", name)[1] for name in WRITERS} == {*suffixes()} - {".dcm"}  # DICOM has its own
