"""Headers of MetaImage and NRRD that crash ITK are refused by name; those that programs write are read."""

import numpy as np
import pytest
import SimpleITK as sitk

from segment.errors import UserError
from segment.io.formats.text_header import require_sound_nrrd
from segment.io.images import read_image

MHA = "ObjectType = Image\nNDims = 3\nDimSize = 6 5 4\nElementSpacing = 1 1 1\nElementType = MET_UCHAR\n"
NRRD = "NRRD0004\ntype: unsigned char\ndimension: 3\nsizes: 6 5 4\nencoding: raw\n"
ZEROS = "[" + "0, " * 1000 + "0]"


@pytest.mark.parametrize(
    ("header", "field"),
    [
        (MHA.replace("= 3", "= 9223372036854775808"), "NDims"),
        (MHA.replace("= 3", "= 99"), "NDims"),
        (MHA.replace("= 3", "= " + "9" * 6000), "NDims"),
        (MHA.replace("NDims = 3\n", ""), "DimSize"),
        (MHA + "NDims = 3\n", "NDims"),
        (MHA.replace("6 5 4", "6 5"), "DimSize"),
        (MHA.replace("6 5 4", "6 5 4" + " 7" * 5000), "DimSize"),
        (MHA.replace("1 1 1", "1 x 1"), "ElementSpacing"),
        (MHA.replace("DimSize", "dimsize"), "dimsize"),
        (MHA + "TransformMatrix = 1 0 0 0 {'a': None} 0 0 0 1\n", "TransformMatrix"),
        (MHA + "Comment = a\0b\n", "Comment"),
        (MHA.replace("NDims", "no value\nNDims"), "no value"),
        (NRRD.replace("dimension: 3", "dimension: 99"), "dimension"),
        (NRRD.replace("6 5 4", "6 5 four"), "sizes"),
        (NRRD + f"space {'9' * 6000}\n", "space 999"),
        (NRRD + f"space: {ZEROS}\n", "space"),
        (NRRD + f"kinds: domain {ZEROS}\n", "kinds"),
        (NRRD + f"space directions: (1,0,0) (0,1,0) (0,0,{'9' * 6000})\n", "space directions"),
        (NRRD.replace("raw", ZEROS), "encoding"),
        (NRRD.replace("unsigned char", ZEROS), "type"),
        (NRRD + "no such field: 1\n", "no such field"),
        (NRRD.replace("NRRD0004", "NRRD"), "NRRD"),
    ],
)
def test_header_that_crashes_itk_is_refused_by_name(tmp_path, header, field):
    meta = header.startswith("Object")
    path = tmp_path / ("a.mha" if meta else "a.nrrd")
    path.write_bytes((header + ("ElementDataFile = LOCAL\n" if meta else "\n")).encode() + bytes(120))
    with pytest.raises(UserError, match=f"its header's field '{field}") as refused:
        read_image(path)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("end", ["mha", "nrrd"])
@pytest.mark.parametrize("shape", [(5, 6), (4, 5, 6), (2, 4, 5, 6)])
@pytest.mark.parametrize("vector", [False, True])
def test_headers_of_itk_are_read(tmp_path, end, shape, vector):
    array = np.random.default_rng(0).integers(0, 99, (*shape, 3) if vector else shape).astype(np.int16)
    image = sitk.GetImageFromArray(array, isVector=vector)
    image.SetSpacing([1e-3, *[0.123456789012345] * (len(shape) - 1)])
    image.SetMetaData("0008|0060", "CT")
    image.SetMetaData("Remark", "what a program adds: (1, 2) " * 20)
    sitk.WriteImage(image, str(tmp_path / f"a.{end}"))
    if len(shape) == 4 and vector:
        with pytest.raises(UserError, match="neither a scan"):
            read_image(tmp_path / f"a.{end}")
    else:
        assert read_image(tmp_path / f"a.{end}").array.size == array.size


def test_fields_of_other_programs_are_known(tmp_path):
    """Those of 3D Slicer's volumes, vectors and segmentations, and of the format's own examples."""
    lines = (
        "NRRD0005", "# a comment", "type: short", "dimension: 4", "space: LPS", "space dimension: 3",
        "sizes: 3 6 5 4", "space directions: none (1.5,0,-0.0) (0, 1e-3, 0) (0,0,2)", "kinds: vector domain space ???",
        "labels: \"\" \"x\" \"y\" \"z\"", "spacings: nan 1 1 2.5", "thicknesses: NaN NaN NaN 2", "endian: little",
        "axis mins: 0 0 0 0", "centerings: ??? cell cell node", 'space units: "mm" "mm" "mm"', "encoding: bzip2",
        "measurement frame: (1,0,0) (0,1,0) (0,0,1)", "space origin: (-120.5,3e2,0)", "content: a head", "min: -3.5",
        "sample units: HU", "byte skip: -1", "Segment0_Name:=Leber, groß" + "x" * 3000,
    )  # fmt: skip
    require_sound_nrrd(tmp_path / "a.nrrd", "\n".join(lines).encode())
    require_sound_nrrd(tmp_path / "a.nrrd", "\r\n".join(lines).encode())
