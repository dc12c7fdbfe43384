"""Analyze, NIfTI in two files, MGH, detached MetaImage and NRRD, Slicer's segmentations, NumPy and HDF5."""

import gzip
import struct

import h5py
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from oriented import SHAPE, affine_of

from segment.data.layouts import open_dataset
from segment.errors import UserError
from segment.io.formats import files_of
from segment.io.images import read_grid, read_header, read_image, read_label, read_label_header, write_label

SCAN = np.random.default_rng(0).integers(-999, 999, SHAPE).astype(np.int16)  # z, y, x
MASK = np.random.default_rng(1).integers(0, 4, SHAPE).astype(np.uint8)


def itk_image(array, codes="LPS"):
    image = sitk.GetImageFromArray(array)
    lps = np.diag([-1, -1, 1, 1]) @ affine_of(codes)
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    return image


def test_nifti_in_two_files_is_read_as_by_itk(tmp_path):
    nib.save(nib.Nifti1Pair(SCAN.T, affine_of("PIR")), tmp_path / "a.hdr")
    image = read_image(tmp_path / "a.hdr")
    there = sitk.ReadImage(str(tmp_path / "a.hdr"))
    np.testing.assert_array_equal(image.array[0], sitk.GetArrayFromImage(there))
    there = np.array([-1, -1, 1]) * there.TransformIndexToPhysicalPoint([1, 2, 3])
    np.testing.assert_allclose(image.grid.affine[:3] @ [1, 2, 3, 1], there, atol=1e-4)
    assert read_header(tmp_path / "a.hdr").oriented


def test_analyze_is_read_without_an_orientation(tmp_path):
    nib.save(nib.AnalyzeImage(SCAN.T, np.diag([1.5, 2, 3, 1])), tmp_path / "a.img")
    (tmp_path / "a.mat").write_bytes(b"not read")
    image = read_image(tmp_path / "a.hdr")
    np.testing.assert_array_equal(image.array[0], sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.hdr"))))
    np.testing.assert_allclose(image.grid.spacing, (3, 2, 1.5))
    assert not read_header(tmp_path / "a.hdr").oriented
    write_label(tmp_path / "m.nii.gz", MASK, tmp_path / "a.hdr")
    np.testing.assert_allclose(read_grid(tmp_path / "m.nii.gz").affine, image.grid.affine, atol=1e-5)
    (tmp_path / "a.img").write_bytes((tmp_path / "a.img").read_bytes()[:-1])
    with pytest.raises(UserError, match=r"a\.hdr is truncated"):
        read_image(tmp_path / "a.hdr")
    with pytest.raises(UserError, match=r"unsupported format.*Give the \.hdr"):
        read_image(tmp_path / "a.img")
    (tmp_path / "a.img").unlink()
    with pytest.raises(UserError, match=r"voxels in a\.img, which is not beside it"):
        read_image(tmp_path / "a.hdr")


@pytest.mark.parametrize("end", [".mgh", ".mgz"])
def test_mgh_is_read_as_its_definition_says(tmp_path, end):
    # https://surfer.nmr.mgh.harvard.edu/fswiki/FsTutorial/MghFormat: direction cosines in RAS, position of the centre.
    spacing, centre = (1.5, 2.0, 3.0), (7.0, -11.0, 13.0)
    head = struct.pack(">7ih3f9f3f", 1, *SHAPE[::-1], 1, 4, 0, 1, *spacing, -1, 0, 0, 0, 0, -1, 0, 1, 0, *centre)
    content = head.ljust(284, b"\0") + SCAN.astype(">i2").tobytes()
    (tmp_path / f"a{end}").write_bytes(gzip.compress(content) if end == ".mgz" else content)
    image = read_image(tmp_path / f"a{end}")
    np.testing.assert_array_equal(image.array[0], SCAN)
    axes = np.array([[-1.5, 0, 0], [0, 0, 3.0], [0, -2.0, 0]])
    np.testing.assert_allclose(image.grid.affine[:3, :3], axes)
    np.testing.assert_allclose(image.grid.affine[:3] @ [3, 2.5, 2, 1], centre)


@pytest.mark.parametrize("end", [".mgz", ".mgh", ".npy", ".npz", ".h5"])
@pytest.mark.parametrize("most", [1, 300, 70000])
def test_masks_are_read_back(tmp_path, end, most):
    sitk.WriteImage(itk_image(SCAN), str(tmp_path / "scan.mha"))
    mask = MASK.astype(int) * (most // 3 + 1)
    write_label(tmp_path / f"a{end}", mask, tmp_path / "scan.mha")
    read = read_label(tmp_path / f"a{end}")
    np.testing.assert_array_equal(read.array, mask)
    if end.startswith(".mg"):
        np.testing.assert_allclose(read.grid.affine, read_grid(tmp_path / "scan.mha").affine, atol=1e-4)


@pytest.mark.parametrize("end", [".mhd", ".nhdr"])
@pytest.mark.parametrize("compressed", [False, True])
def test_voxels_beside_a_header_are_read(tmp_path, monkeypatch, end, compressed):
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    sitk.WriteImage(itk_image(SCAN), str(tmp_path / f"a scan{end}"), compressed)
    image = read_image(tmp_path / f"a scan{end}")
    np.testing.assert_array_equal(image.array[0], SCAN)
    np.testing.assert_allclose(image.grid.affine, affine_of("LPS"), atol=1e-5)
    write_label(tmp_path / "m.nii.gz", MASK, tmp_path / f"a scan{end}")
    data = next(file for file in tmp_path.iterdir() if "raw" in file.name)
    assert files_of(tmp_path / f"a scan{end}") == (tmp_path / f"a scan{end}", data)
    data.write_bytes(data.read_bytes()[:-30])
    with pytest.raises(UserError, match="truncated"):
        read_image(tmp_path / f"a scan{end}")


MHD = "ObjectType = Image\nNDims = 3\nDimSize = 6 5 4\nElementType = MET_UCHAR\n"
NHDR = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 6 5 4\nencoding: raw\n"


@pytest.mark.parametrize(
    "header",
    [
        MHD + "ElementDataFile = ../secret.raw\n",
        MHD + "ElementDataFile = {folder}/secret.raw\n",
        MHD + "ElementDataFile = ..\n",
        MHD + "ElementDataFile = link.raw\n",
        MHD + "ElementDataFile = LIST\n../secret.raw\n",
        MHD + "ElementDataFile = LIST 3\n../secret.raw\n",
        MHD + "ElementDataFile = mine%03d.raw 1 4 1\n",
        MHD + "ElementDataFile = mine.raw\nElementDataFile = ../secret.raw\n",
        MHD + "elementdatafile = mine.raw\nElementDataFile = ../secret.raw\n",
        MHD + "Comment =\nElementDataFile = mine.raw\nElementDataFile = ../secret.raw\n",
        MHD + "Comment = a\x0bElementDataFile = mine.raw\nElementDataFile = ../secret.raw\n",
        MHD + "ElementDataFile = mine.raw\r../secret.raw\n",
        NHDR + "data file: ../secret.raw\n",
        NHDR + "data file: {folder}/secret.raw\n",
        NHDR + "data file: link.raw\n",
        NHDR + "data file: LIST\n../secret.raw\n",
        NHDR + "data file: mine%03d.raw 1 4 1\n",
        NHDR + "data file: mine.raw\ndatafile: ../secret.raw\n",
        NHDR + "data file: mine.raw\rdata file: ../secret.raw\n",
    ],
)
def test_no_header_reads_a_file_of_another_folder(tmp_path, monkeypatch, header):
    folder = tmp_path / "set"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (tmp_path / "secret.raw").write_bytes(bytes(120))
    (folder / "mine.raw").write_bytes(bytes(120))
    (folder / "mine%03d.raw 1 4 1").write_bytes(bytes(120))  # as if it were a name
    (folder / "link.raw").symlink_to(tmp_path / "secret.raw")
    path = folder / ("a.nhdr" if header.startswith("NRRD") else "a.mhd")
    path.write_bytes(header.replace("{folder}", str(tmp_path)).encode())
    with pytest.raises(UserError, match=r"another file|several files|another folder|not beside"):
        read_image(path)


def slicer(path, segments, layers):
    """A segmentation as 3D Slicer writes it: (name, layer, value) each; layers (layer, z, y, x)."""
    listed = [len(layers), "list", "none"] if len(layers) > 1 else []
    count, kind, direction = (f"{part} " for part in listed or ["", "", ""])
    lines = [
        *("NRRD0004", "type: uint8", f"dimension: {4 if listed else 3}", "space: left-posterior-superior"),
        *("encoding: raw", f"sizes: {count}{' '.join(map(str, SHAPE[::-1]))}", f"kinds: {kind}domain domain domain"),
        *(f"space directions: {direction}(1.5,0,0) (0,2,0) (0,0,3)", "space origin: (7,-11,13)"),
    ]
    for number, (name, layer, value) in enumerate(segments):
        values = {"ID": f"Segment_{number}", "Name": name, "Layer": layer, "LabelValue": value, "Color": "1 0 0"}
        lines += [f"Segment{number}_{key}:={content}" for key, content in values.items()]
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + np.moveaxis(layers, 0, -1).tobytes())


@pytest.mark.parametrize(("values", "labels"), [((1, 1, 2), (1, 2, 3)), ((4, 2, 9), (4, 2, 9))])
def test_layers_of_a_segmentation_are_one_mask(tmp_path, values, labels):
    names, layers = ("liver", "spleen", "cyst"), np.zeros((2, *SHAPE), np.uint8)
    layers[0, :2], layers[1, 2, :3], layers[1, 2, 3:] = values
    slicer(tmp_path / "a.seg.nrrd", list(zip(names, (0, 1, 1), values, strict=True)), layers)
    expected = np.zeros(SHAPE, int)
    expected[:2], expected[2, :3], expected[2, 3:] = labels
    mask = read_label(tmp_path / "a.seg.nrrd")
    np.testing.assert_array_equal(mask.array, expected)
    assert read_label_header(tmp_path / "a.seg.nrrd").label_names == dict(zip(labels, names, strict=True))
    np.testing.assert_allclose(mask.grid.affine, [[-1.5, 0, 0, -7], [0, -2, 0, 11], [0, 0, 3, 13], [0, 0, 0, 1]])
    layers[1, 0, 0, 0] = values[2]
    slicer(tmp_path / "a.seg.nrrd", list(zip(names, (0, 1, 1), values, strict=True)), layers)
    with pytest.raises(UserError, match="segments 'liver' and 'cyst' overlap"):
        read_label(tmp_path / "a.seg.nrrd")


def test_labels_are_called_as_the_segments_of_all_masks(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for number in range(3):
        sitk.WriteImage(itk_image(SCAN), str(tmp_path / f"images/c{number}.nrrd"))
        slicer(tmp_path / f"labels/c{number}.seg.nrrd", [("liver", 0, 1), ("a cyst", 0, 3)], MASK[None] // 2 * 3)
    np.testing.assert_array_equal(read_label(tmp_path / "labels/c1.seg.nrrd").array, MASK // 2 * 3)
    assert dict(open_dataset(tmp_path).labels) == {"background": 0, "a cyst": 3}
    slicer(tmp_path / "labels/c1.seg.nrrd", [("a cyst", 0, 1), ("liver", 0, 3)], MASK[None] // 2 * 3)
    with pytest.raises(UserError, match=r"value 1 is 'a cyst', but 'liver' in c0\.seg\.nrrd"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("end", [".npy", ".npz"])
@pytest.mark.parametrize("shape", [(5, 6), SHAPE, (2, *SHAPE)])
def test_arrays_are_read_in_their_order(tmp_path, end, shape):
    array = np.asfortranarray(np.random.default_rng(0).normal(size=shape))
    (np.save if end == ".npy" else np.savez_compressed)(tmp_path / f"a{end}", array)
    image = read_image(tmp_path / f"a{end}")
    np.testing.assert_array_equal(image.array, array.astype(np.float32).reshape(-1, *shape[-3:]))
    assert image.grid.assumed


@pytest.mark.parametrize(
    ("keys", "shape"), [(["image", "label"], SHAPE), (["volumes/raw", "volumes/labels"], (5, 6)), (["only"], SHAPE)]
)
def test_data_sets_of_hdf5_are_found_by_their_names(tmp_path, keys, shape):
    values = {key: np.full(shape, number + 1, np.uint8) for number, key in enumerate(keys)}
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for key, array in values.items():
            file.create_dataset(key, data=array, compression="gzip").attrs["element_size_um"] = [9, 8, 7][-len(shape) :]
    image = read_image(tmp_path / "a.h5")
    assert (image.array == 1).all()
    np.testing.assert_allclose(image.grid.spacing, np.array([9, 8, 7][-len(shape) :]) / 1000)
    np.testing.assert_array_equal(read_label(tmp_path / "a.h5").array, values[keys[-1]])


def linked(path):
    with h5py.File(path.with_name("secret.h5"), "w") as file:
        file["image"] = SCAN
    with h5py.File(path, "w") as file:
        file["image"] = h5py.ExternalLink("secret.h5", "image")


def external(path):
    path.with_name("secret.raw").write_bytes(SCAN.tobytes())
    with h5py.File(path, "w") as file:
        file.create_dataset("image", SHAPE, np.int16, external=[(str(path.with_name("secret.raw")), 0, SCAN.nbytes)])


def virtual(path):
    layout = h5py.VirtualLayout(SHAPE, np.int16)
    layout[:] = h5py.VirtualSource(str(path.with_name("secret.h5")), "image", SHAPE)
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("image", layout)


def several(path):
    with h5py.File(path, "w") as file:
        file["a"], file["b"] = SCAN, SCAN


def empty_chunk(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("image", SHAPE, np.int16, maxshape=(None,) * 3, chunks=(900, 900, 900), compression="gzip")


@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        ("a.npy", lambda path: np.save(path, np.array([{}, []], dtype=object)), "Python objects"),
        ("a.npz", lambda path: np.savez(path, a=SCAN, b=SCAN), r"contains 2 arrays \(a.npy, b.npy\)"),
        ("a.npy", lambda path: np.save(path, np.zeros((9, 9, 3))), "seems to end in channels"),
        ("a.npy", lambda path: np.save(path, np.zeros(9)), "has 1 axes"),
        ("a.npy", lambda path: path.write_bytes(b"\x93NUMPY\1\0"), "cannot be read"),
        ("a.h5", linked, r"0 data sets \(none\)"),
        ("a.h5", external, "keeps image in other files"),
        ("a.h5", virtual, "keeps image in other files"),
        ("a.h5", several, r"2 data sets \(a, b\)"),
        ("a.h5", empty_chunk, "chunks larger than itself"),
        ("a.hdr", lambda path: path.write_bytes(b"ENVI\nsamples = 9"), "cannot be read"),
        ("a.mgz", lambda path: path.write_bytes(b""), "cannot be read"),
    ],
)
def test_what_is_not_one_array_is_refused(tmp_path, name, write, said):
    write(tmp_path / name)
    with pytest.raises(UserError, match=said):
        read_image(tmp_path / name)


@pytest.mark.parametrize(("name", "gzipped"), [("a.nii", True), ("a.nii.gz", False)])
def test_a_nifti_is_read_whether_its_name_says_gzip_or_not(tmp_path, name, gzipped):
    nib.save(nib.Nifti1Image(SCAN.T, affine_of("LAS")), tmp_path / "b.nii")
    content = (tmp_path / "b.nii").read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(content) if gzipped else content)
    image = read_image(tmp_path / name)
    np.testing.assert_array_equal(image.array[0], SCAN)
    np.testing.assert_allclose(image.grid.affine, affine_of("LAS"), atol=1e-5)


@pytest.mark.parametrize("end", [".nii.gz", ".mgz", ".npz", ".h5", ".nrrd", ".mha"])
def test_no_damaged_byte_gives_another_mask(tmp_path, end):
    nib.save(nib.Nifti1Image(SCAN.T, affine_of("LAS")), tmp_path / "scan.nii")
    write_label(tmp_path / f"a{end}", MASK, tmp_path / "scan.nii")
    whole = (tmp_path / f"a{end}").read_bytes()
    start = {".nrrd": whole.find(b"\n\n"), ".mha": whole.find(b"LOCAL")}.get(end, 0)  # no checksum holds the header
    other = 0
    for place in range(start + 6, len(whole), max(1, len(whole) // 100)):
        (tmp_path / f"a{end}").write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            other += not np.array_equal(read_label(tmp_path / f"a{end}").array, MASK)
        except UserError as error:
            assert f"a{end}" in str(error)  # noqa: PT017
    assert other == 0
