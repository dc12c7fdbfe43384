"""Segmentations and structure sets: what is written is what other programs read, and what is read is what was drawn."""

import highdicom as hd
import numpy as np
import pytest
from made_annotations import LABELS, SHAPE, phantom, written
from made_dicom import EIGHT, make_enhanced, make_series, voxels
from pydicom import dcmread
from pydicom.sr.codedict import codes

from segment.errors import UserError
from segment.io.dicom.annotations import annotated_series, read_annotations, structure_masks
from segment.io.dicom.codes import Code, read_codes
from segment.io.dicom.segmentation import write_segmentation
from segment.io.dicom.series import contents
from segment.io.dicom.structures import write_structures


@pytest.mark.parametrize("orientation", EIGHT)
@pytest.mark.parametrize("kind", ["binary", "labelmap", "rtstruct"])
def test_masks_come_back_voxel_by_voxel(tmp_path, kind, orientation):
    mask = phantom()
    written(tmp_path, mask, kind, orientation)
    found = contents(tmp_path)
    (annotation,) = found.annotations
    series = annotated_series(annotation, found.series)
    np.testing.assert_array_equal(read_annotations([annotation], series, LABELS), mask)


@pytest.mark.parametrize("orientation", EIGHT)
def test_highdicom_reads_the_voxels_at_their_places(tmp_path, orientation):
    mask = phantom()
    path, series = written(tmp_path, mask, "binary", orientation)
    volume = hd.seg.segread(path).get_volume(combine_segments=True)
    for z, y, x in np.argwhere(mask)[::7]:
        place = (series.grid.affine @ [x, y, z, 1])[:3] * [-1, -1, 1]
        index = np.round(volume.map_reference_to_indices(place[None]))[0].astype(int)
        assert {2: 1, 5: 2}[mask[z, y, x]] == volume.array[tuple(index)]
    assert (volume.array == 1).sum() == (mask == 2).sum()
    assert (volume.array == 2).sum() == (mask == 5).sum()


def test_a_segmentation_says_what_it_shows_and_what_made_it(tmp_path):
    path, series = written(tmp_path, phantom(), "binary")
    segments = hd.seg.segread(path).SegmentSequence
    types = [item.SegmentedPropertyTypeCodeSequence[0] for item in segments]
    assert [(item.CodeValue, item.CodingSchemeDesignator) for item in types] == [
        ("10200004", "SCT"),
        ("108369006", "SCT"),
    ]
    assert [item.SegmentLabel for item in segments] == [*LABELS]
    assert segments[0].SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == "model"
    dataset = dcmread(path)
    assert dataset.ReferencedSeriesSequence[0].SeriesInstanceUID == series.uid
    assert dataset.PatientName == "Doe^Jane"
    write_segmentation(path, phantom(), series, LABELS, {"liver": Code("1", "mine", "99X")}, "model", "1")
    assert hd.seg.segread(path).SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "mine"


@pytest.mark.parametrize("kind", ["binary", "rtstruct"])
def test_masks_of_frames_of_one_file(tmp_path, kind):
    mask = phantom()
    make_enhanced(tmp_path / "enhanced", voxels(SHAPE), EIGHT[7], [1] * len(mask))
    (series,) = contents(tmp_path).series
    if kind == "binary":
        write_segmentation(tmp_path / "annotation", mask, series, LABELS, {}, "model", "1")
    else:
        write_structures(tmp_path / "annotation", mask, series, LABELS, "model")
    found = contents(tmp_path)
    np.testing.assert_array_equal(read_annotations(found.annotations, found.series[0], LABELS), mask)


def test_contours_of_a_structure_set_refer_to_their_images(tmp_path):
    path, series = written(tmp_path, phantom(), "rtstruct")
    dataset = dcmread(path)
    places = {item.instance: item.position[2] for item in series.stack.slices}
    contours = [contour for item in dataset.ROIContourSequence for contour in item.ContourSequence]
    assert len(contours) > 8
    for contour in contours:
        image = contour.ContourImageSequence[0].ReferencedSOPInstanceUID
        assert float(contour.ContourData[2]) == pytest.approx(places[image], abs=1e-3)
    assert [item.ROIName for item in dataset.StructureSetROISequence] == [*LABELS]


def test_structures_without_a_value_are_left_out(tmp_path):
    written(tmp_path, phantom(), "rtstruct")
    found = contents(tmp_path)
    mask = read_annotations(found.annotations, found.series[0], {"liver_tumour": 1})
    np.testing.assert_array_equal(mask, phantom() == 5)


def test_frames_along_another_axis_and_a_structure_set_of_another_series(tmp_path):
    """A sagittal segmentation on an axial series is the same voxels; half a voxel aside is refused."""
    mask = phantom()
    path, _ = written(tmp_path, mask, "binary")
    axial = contents(tmp_path)
    (annotation,) = axial.annotations
    turned = make_series(
        tmp_path / "sagittal",
        voxels((SHAPE[2], SHAPE[0], SHAPE[1])),
        orientation=(0, 1, 0, 0, 0, 1),
        spacing=(0.7, 2.5, 0.8),
    )
    (series,) = contents(turned[0].parent).series
    assert annotated_series(annotation, [series]) is None
    found = dict(structure_masks(annotation, series))
    np.testing.assert_array_equal(found["liver"], (mask == 2).transpose(2, 0, 1))
    moved = make_series(tmp_path / "moved", voxels(SHAPE), origin=(-12.35, 30, 45))
    with pytest.raises(UserError, match="do not lie on the voxels"):
        list(structure_masks(annotation, contents(moved[0].parent).series[0]))
    dataset = dcmread(path)
    dataset.SegmentSequence[1].SegmentLabel = "liver"
    dataset.save_as(path)
    with pytest.raises(UserError, match="two structures called 'liver'"):
        read_annotations([annotation], axial.series[0], LABELS)


def test_a_fraction_of_a_half_counts(tmp_path):
    make_series(tmp_path, voxels((3, 6, 7)))
    (series,) = contents(tmp_path).series
    fractions = np.zeros((3, 6, 7), np.float32)
    fractions[1, 2, :4] = [0.3, 0.49, 0.51, 1]
    likely = hd.seg.Segmentation(
        source_images=[dcmread(item.path) for item in series.stack.slices],
        pixel_array=fractions,
        segmentation_type="FRACTIONAL",
        segment_descriptions=[_described()],
        series_instance_uid=hd.UID(),
        series_number=5,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="made",
        manufacturer_model_name="made",
        software_versions="1",
        device_serial_number="1",
        max_fractional_value=200,
    )
    likely.save_as(tmp_path / "fractions")
    found = contents(tmp_path)
    np.testing.assert_array_equal(read_annotations(found.annotations, series, {"liver": 1}), fractions > 0.5)


def _described() -> hd.seg.SegmentDescription:
    return hd.seg.SegmentDescription(
        segment_number=1,
        segment_label="liver",
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=codes.SCT.Liver,
        algorithm_type="MANUAL",
    )


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("left_kidney", None, ("64033007", "Kidney", "Left")),
        ("kidney_right", None, ("64033007", "Kidney", "Right")),
        ("both lungs", None, ("39607008", "Lung", "Right and left")),
        ("liver", None, ("10200004", "Liver", "")),
        ("left kidney", {"value": "1", "meaning": "Left kidney"}, ("1", "Left kidney", "")),
        ("left kidney", {"value": "1", "meaning": "Kidney"}, ("1", "Kidney", "Left")),
        ("k2", {"value": "1", "meaning": "Kidney", "laterality": "right"}, ("1", "Kidney", "Right")),
    ],
)
def test_laterality_is_a_modifier_of_the_code(tmp_path, name, given, expected):
    make_series(tmp_path, voxels(SHAPE))
    (series,) = contents(tmp_path).series
    chosen = read_codes({name: given} if given else {}, "codes", [name])
    write_segmentation(tmp_path / "seg.dcm", phantom(), series, {name: 2}, chosen, "model", "1")
    kind = hd.seg.segread(tmp_path / "seg.dcm").SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0]
    modifiers = kind.get("SegmentedPropertyTypeModifierCodeSequence") or []
    assert (kind.CodeValue, kind.CodeMeaning, "".join(item.CodeMeaning for item in modifiers)) == expected


def test_a_wrong_laterality_is_refused():
    with pytest.raises(UserError, match=r"codes\.k\.laterality=up: must be left, right, both"):
        read_codes({"k": {"value": "1", "meaning": "Kidney", "laterality": "up"}}, "codes")
