"""The verb convert: series to files that other programs read the same, annotations to masks, masks to DICOM."""

import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from annotated_sets import CELL, DISH, HEIGHT, WIDTH, write_voc
from made_dicom import EIGHT, SPACING, make_series, voxels
from pydicom import dcmread
from pydicom.dataset import Dataset

from segment.commands import convert
from segment.config.compose import compose
from segment.data import open_dataset
from segment.errors import UserError
from segment.io.dicom.series import contents
from segment.io.dicom.structures import write_structures
from segment.io.images import read_image, read_label, write_label
from segment.io.mask_formats import ENDINGS


def run(**values) -> None:
    convert.run(compose("convert", [f"{key}={value}" for key, value in values.items()]))


@pytest.mark.parametrize(("kind", "end"), [("nifti", ".nii.gz"), ("nrrd", ".nrrd"), ("mha", ".mha")])
def test_a_series_becomes_a_file_of_the_same_values_and_positions(tmp_path, capsys, kind, end):
    files = make_series(tmp_path / "study" / "ct", orientation=EIGHT[7])
    (tmp_path / "study" / "damaged.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\x02")
    run(input=tmp_path / "study", output=tmp_path / "out", format=kind)
    captured = capsys.readouterr()
    assert "1 file(s) in" in captured.out
    assert "damaged.dcm: left out, no image, or truncated" in captured.err
    found, source = read_image(tmp_path / "out" / f"ct{end}"), read_image(files[0])
    np.testing.assert_array_equal(found.array, source.array)
    np.testing.assert_allclose(found.grid.affine, source.grid.affine, atol=1e-4)
    with pytest.raises(UserError, match="exists"):
        run(input=tmp_path / "study", output=tmp_path / "out", format=kind)


def test_what_nibabel_and_simpleitk_read_of_a_converted_series(tmp_path):
    files = make_series(tmp_path / "ct")
    run(input=tmp_path / "ct", output=tmp_path / "nifti")
    run(input=tmp_path / "nifti", output=tmp_path / "nrrd", format="nrrd")
    image = nib.load(tmp_path / "nifti" / "ct.nii.gz")
    assert image.get_data_dtype() == np.int32
    np.testing.assert_array_equal(image.get_fdata().T, voxels() - 1024)
    assert sitk.ReadImage(str(tmp_path / "nrrd" / "ct.nrrd")).GetSpacing() == pytest.approx(SPACING[::-1])
    assert b"Doe" not in (tmp_path / "nrrd" / "ct.nrrd").read_bytes()
    np.testing.assert_allclose(image.affine, read_image(files[0]).grid.affine, atol=1e-4)


def test_a_series_that_is_no_volume_does_not_stop_the_others(tmp_path):
    make_series(tmp_path / "study" / "gap", change=lambda index, dataset: index != 2)
    make_series(tmp_path / "study" / "whole")
    with pytest.raises(UserError, match=r"1 of 2 files could not .*1 slice is missing.* The others are in"):
        run(input=tmp_path / "study", output=tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["whole.nii.gz"]


def pet(index, dataset):
    """370 MBq of F-18 injected an hour before; 70 kg. The injection has no date."""
    dataset.Modality, dataset.RescaleSlope, dataset.RescaleIntercept = "PT", 2, 0
    dataset.Units, dataset.CorrectedImage, dataset.DecayCorrection = "BQML", ["ATTN", "DECY"], "START"
    dataset.SeriesDate = dataset.AcquisitionDate = "20200101"
    dataset.SeriesTime, dataset.AcquisitionTime, dataset.PatientWeight = "003000.5", "003100", 70
    drug = Dataset()
    drug.RadiopharmaceuticalStartTime, drug.RadionuclideTotalDose = "233000", 370e6
    drug.RadionuclideHalfLife = 6586.2
    dataset.RadiopharmaceuticalInformationSequence = [drug]


def test_standardised_uptake_values(tmp_path):
    make_series(tmp_path / "pet", change=pet)
    run(input=tmp_path / "pet", output=tmp_path / "out", suv=True)
    dose = 370e6 * 0.5 ** (3600 / 6586.2)
    found = nib.load(tmp_path / "out" / "pet.nii.gz").get_fdata().T
    np.testing.assert_allclose(found, voxels() * (2 * 70_000 / dose), rtol=1e-5)

    def heavy(index, dataset):
        pet(index, dataset)
        del dataset.PatientWeight

    make_series(tmp_path / "unknown", change=heavy)
    for folder, words in (("unknown", "weight, the dose or the half-life is missing"), ("ct", "modality is CT")):
        make_series(tmp_path / "ct")
        with pytest.raises(UserError, match=words):
            run(input=tmp_path / folder, output=tmp_path / "none", suv=True)
    assert not list((tmp_path / "none").glob("*"))


def test_annotations_become_a_data_set(tmp_path):
    root, mask = tmp_path / "archive", np.zeros((5, 6, 7), np.uint8)
    mask[1:3, 2:5, 1:4] = 1
    for name, patient in (("a", "P1"), ("b", "P1"), ("c", "P2"), ("d", "P1"), ("e", "P3")):
        make_series(root / name, seed=ord(name), patient=patient)
    for series in contents(root).series[:]:
        if series.path.parent.name in "abc":
            write_structures(series.path.with_name("RS"), mask, series, {"liver": 1, "couch": 2}, "model")
    run(input=root, output=tmp_path / "out", labels="{liver: 3}")
    dataset = open_dataset(tmp_path / "out")
    assert [case.id for case in dataset.cases] == ["a", "b", "c"]
    assert [case.id for case in dataset.test_cases] == ["e"]  # d is left out, as further series of P1
    assert dict(dataset.labels) == {"background": 0, "liver": 3}
    np.testing.assert_array_equal(read_label(dataset.cases[0].label).array, mask * 3)
    direct = open_dataset(root, cache=tmp_path / "cache")
    assert [case.group for case in direct.cases] == ["patient_1", "patient_1", "patient_2"]
    assert dict(direct.labels) == {"background": 0, "couch": 1, "liver": 2}
    np.testing.assert_array_equal(read_label(direct.cases[0].label).array, mask * 2)
    with pytest.raises(UserError, match="No annotation has a structure 'Liver'; they have couch, liver"):
        run(input=root, output=tmp_path / "none", labels="{Liver: 3}")


@pytest.mark.parametrize("kind", ["dicom_seg", "dicom_labelmap", "rtstruct", "seg.nrrd"])
def test_masks_become_files_that_name_their_structures(tmp_path, kind):
    mask = np.zeros((5, 6, 7), np.uint8)
    mask[1:3, 2:5, 1:4], mask[4, 5, 6] = 1, 4
    files = make_series(tmp_path / "ct")
    write_label(tmp_path / "masks" / "ct.nii.gz", mask, files[0])
    declared = {"labels": {"background": 0, "liver": 1, "tumour": 4}, "dataset": "abdomen"}
    (tmp_path / "masks" / "predictions.json").write_text(json.dumps(declared))
    reference = {} if kind == "seg.nrrd" else {"reference": tmp_path / "ct"}
    run(input=tmp_path / "masks", output=tmp_path / "out", format=kind, **reference)
    (written,) = (tmp_path / "out").iterdir()
    if kind == "seg.nrrd":
        image = sitk.ReadImage(str(written))
        names = {
            int(image.GetMetaData(f"Segment{n}_LabelValue")): image.GetMetaData(f"Segment{n}_Name") for n in (0, 1)
        }
        assert names == {1: "liver", 4: "tumour"}
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), mask)
        np.testing.assert_array_equal(read_label(written).array, mask)
        return
    if kind != "rtstruct":
        segments = dcmread(written).SegmentSequence
        assert segments[-1].SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == "abdomen"
    with pytest.raises(UserError, match="series of these DICOM masks are elsewhere"):
        run(input=tmp_path / "out", output=tmp_path / "none")
    run(input=tmp_path / "out", output=tmp_path / "again", labels="{liver: 1, tumour: 4}", **reference)
    np.testing.assert_array_equal(read_label(tmp_path / "again" / "ct.nii.gz").array, mask)
    written.rename(tmp_path / "ct" / "annotation")
    run(input=tmp_path / "ct", output=tmp_path / "back", labels="{liver: 1, tumour: 4}")
    np.testing.assert_array_equal(read_label(tmp_path / "back" / "labelsTr" / "ct.nii.gz").array, mask)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "refers to the DICOM series of the scans. Give reference=FOLDER"),
        ({"reference": "other"}, "is not on the grid of its series"),
        ({"reference": "missing"}, "reference=.*missing: there is no such"),
        ({"reference": "ct", "labels": "{liver: 1}"}, "has the value 4 without a name"),
        ({"reference": "ct", "codes": "{liver: 7}"}, "codes.liver: must be such as"),
        ({"reference": "ct", "codes": "{livr: {value: 1, meaning: L}}", "labels": "{liver: 4}"}, "mean 'liver'"),
        ({"reference": "ct", "format": "dicom"}, "there is no such format. Did you mean"),
    ],
)
def test_mistakes_are_named(tmp_path, given, words):
    files = make_series(tmp_path / "ct")
    make_series(tmp_path / "other", voxels((5, 6, 8)))
    write_label(tmp_path / "masks" / "ct.nii.gz", np.full((5, 6, 7), 4, np.uint8), files[0])
    values = {"format": "dicom_seg"} | given
    if "reference" in values:
        values["reference"] = tmp_path / values["reference"]
    with pytest.raises(UserError, match=words):
        run(input=tmp_path / "masks", output=tmp_path / "out", **values)
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize("kind", ["png", "nifti", "seg.nrrd"])
def test_annotations_become_masks(tmp_path, monkeypatch, capsys, kind):
    monkeypatch.setenv("SEGMENT_CACHE", str(tmp_path / "cache"))
    boxes = (("dish", DISH), ("cell", CELL), ("cell", (5, 5, 5, 9)))
    write_voc(tmp_path / "in", "a", "b", boxes=boxes)
    run(input=tmp_path / "in", output=tmp_path / "out", format=kind, labels="{background:0,cell:1,dish:2}")
    assert "2 file(s) in" in (captured := capsys.readouterr()).out
    assert captured.err.count("Object 3, a box of 'cell' at (5, 5), has no area") == 2
    wanted = np.zeros((HEIGHT, WIDTH), np.uint8)
    for value, (left, top, right, bottom) in ((2, DISH), (1, CELL)):
        wanted[top:bottom, left:right] = value
    found = read_label(tmp_path / "out" / f"a{ENDINGS[kind]}")
    np.testing.assert_array_equal(found.array, wanted)
    run(input=tmp_path / "in", output=tmp_path / "round", format=kind, boxes="ellipse")
    assert (read_label(tmp_path / "round" / f"b{ENDINGS[kind]}").array > 0).sum() < (wanted > 0).sum()
    with pytest.raises(UserError, match="refers to a DICOM series, which these images are not"):
        run(input=tmp_path / "in", output=tmp_path / "none", format="rtstruct")
