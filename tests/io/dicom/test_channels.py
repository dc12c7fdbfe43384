"""Series of one study as the channels of one scan: found by description, resampled where grids differ, or refused."""

import shutil

import numpy as np
import pytest
from made_dicom import SHAPE, make_series, voxels
from pydicom import dcmread
from pydicom.uid import generate_uid

from segment.commands import check
from segment.config.compose import compose
from segment.data.layouts import dicom
from segment.errors import UserError
from segment.inference.inputs import Studies, find_scans
from segment.io.dicom.channels import channel_series
from segment.io.dicom.series import contents
from segment.io.dicom.structures import write_structures
from segment.io.images import read_image, read_label


def make_study(root, patient, descriptions, modality="MR", first=0, **given):
    """Series of one study and one frame of reference, in a folder each; returns the first file of each."""
    study, frame = generate_uid(), generate_uid()
    found = []
    for seed, description in enumerate(descriptions, first):

        def change(index, dataset, description=description):
            dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = study, frame
            dataset.SeriesDescription, dataset.Modality = description, modality

        more = given.get(description, {})
        found.append(make_series(root / f"s{seed - first}", seed=seed, patient=patient, change=change, **more)[0])
    return found


@pytest.mark.parametrize(
    ("channels", "descriptions", "expected"),
    [
        (["T1", "T2", "FLAIR"], ["AX T2 FLAIR", "AX T2", "AX T1"], [2, 1, 0]),
        (["T1", "T1ce", "T2"], ["t2w", "t1w", "T1ce_post"], [1, 2, 0]),
        (["t1", "T1 GD"], ["t1 gd", "t1"], [1, 0]),
        (["T2"], ["T2", "T2 FS"], [0]),
        (["T1", "T2"], ["T1", "T1", "T2"], "2 series fit the channel 'T1' among those described as 'T1', 'T1', 'T2'"),
        (["T1", "DWI"], ["T1", "T2"], "no series fits the channel 'DWI'"),
    ],
)
def test_series_are_found_by_description(tmp_path, channels, descriptions, expected):
    paths = make_study(tmp_path, "P", descriptions)
    by_path = {item.path: item for item in contents(tmp_path).series}
    series = [by_path[path] for path in paths]
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            channel_series(series, channels, {})
    else:
        assert channel_series(series, channels, {}) == [series[place] for place in expected]
        # Whatever the order in which they were found.
        assert channel_series(series[::-1], channels, {}) == [series[place] for place in expected]


def test_ct_and_pet_are_told_apart_by_modality(tmp_path):
    make_study(tmp_path / "ct", "P", ["thorax"], "CT")
    make_study(tmp_path / "pt", "P", ["thorax"], "PT")
    found = channel_series(contents(tmp_path).series, ["PT", "CT"], {})
    assert [item.modality for item in found] == ["PT", "CT"]


def test_a_scan_of_a_study_is_predicted_on_the_first_channels_grid(tmp_path):
    """T2 has the same field of view in half as many columns, so a linear ramp along x stays one."""
    ramp = np.broadcast_to(np.arange(8, dtype=np.int16) * 10, (5, 6, 8))
    coarse = {"T2": {"array": ramp[..., ::2] + 5, "spacing": (2.5, 0.8, 1.4), "origin": (-12 + 0.35, 30, 45)}}
    first, second = make_study(tmp_path / "in" / "P1", "P1", ["T1", "T2"], T1={"array": ramp}, **coarse)
    said: list[str] = []
    studies = Studies(["T1", "T2"], {}, tmp_path, said.append)
    ((name, files),) = find_scans(tmp_path / "in", 2, studies)
    assert (name, files[0]) == ("P1.nii.gz", first)
    assert said == ["the channels of P1 are the series T1 'T1', T2 'T2'."]
    one, other = read_image(files[0]), read_image(files[1])
    np.testing.assert_allclose(one.grid.affine, other.grid.affine, atol=1e-5)
    np.testing.assert_allclose(one.array[..., 1:6], other.array[..., 1:6], atol=1e-3)
    turned = Studies(["T1", "T2"], {"T1": "t2", "T2": "T1"}, tmp_path / "turned")
    assert next(find_scans(tmp_path / "in", 2, turned))[1][0] == second
    with pytest.raises(UserError, match=r"series\.T9: the model has no such channel"):
        list(find_scans(tmp_path / "in", 2, Studies(["T1", "T2"], {"T9": "x"}, tmp_path)))
    with pytest.raises(UserError, match=r"no series fits the channel 'DWI'.*series={CHANNEL: DESCRIPTION}"):
        list(find_scans(tmp_path / "in", 2, Studies(["T1", "DWI"], {}, tmp_path)))
    assert len(list(find_scans(tmp_path / "in", 1, Studies(["T1"], {}, tmp_path)))) == 2


def test_different_grids_without_a_common_frame_of_reference_are_refused(tmp_path):
    make_study(tmp_path / "a", "P", ["T1"])
    make_study(tmp_path / "b", "P", ["T2"], T2={"spacing": (2.5, 0.8, 0.9)})
    for path in tmp_path.rglob("IM*"):
        dataset = dcmread(path)
        dataset.StudyInstanceUID = "2.25.1"
        dataset.save_as(path)
    with pytest.raises(UserError, match=r"no frame of reference in common.*register them first"):
        list(find_scans(tmp_path, 2, Studies(["T1", "T2"], {}, tmp_path / "copies")))


def test_training_scans_of_studies(tmp_path, capsys):
    root = tmp_path / "in"
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:3, 2:5, 1:4] = 1
    for place, patient in enumerate("ABC"):
        make_study(
            root / patient, patient, ["T1", "T2", "scout view"], first=3 * place, T2={"spacing": (2.5, 0.8, 0.9)}
        )
    for patient in ("A", "B"):
        series = next(item for item in contents(root / patient).series if item.description == "T1")
        write_structures(series.path.with_name("marks"), mask, series, {"liver": 1}, "drawn")
    given = ["data=auto", f"data.root={root}", "data.channels=[T2,T1]", f"cache={tmp_path / 'cache'}"]
    check.run(compose("check", given))
    captured = capsys.readouterr()
    assert "3 scans read, 0 errors, 0 warnings" in captured.out
    assert "liver. Channels are the series T2 'T2', T1 'T1' (such as A)." in captured.err
    dataset = dicom.read(root, "name", None, ["T2", "T1"], cache=tmp_path / "cache")
    assert [case.id for case in dataset.cases] == ["A", "B"]
    assert [case.id for case in dataset.test_cases] == ["C"]
    assert dataset.channels == ("T2", "T1")
    second, first = (read_image(path) for path in dataset.cases[0].images)
    np.testing.assert_allclose(second.grid.affine, first.grid.affine, atol=1e-5)
    np.testing.assert_array_equal(first.array[0], voxels() - 1024)
    np.testing.assert_array_equal(read_label(dataset.cases[0].label).array, mask)
    # A study that lacks a channel is named.
    shutil.rmtree(root / "B" / "s1")
    with pytest.raises(UserError, match=r"The study 'B' is no scan: no series fits the channel 'T2'"):
        dicom.read(root, "name", None, ["T2", "T1"], cache=tmp_path / "cache")
