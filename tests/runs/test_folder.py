import json

import nibabel as nib
import numpy as np
import pytest

from segment.errors import UserError
from segment.files import read_mapping, write_text
from segment.report.notable import notable_cases, notable_scans
from segment.runs.folder import read_run


def test_worst_and_median_scan_are_found_and_drawn(make_run):
    run = read_run(make_run(shifts=(1, 0, 3, 2, 0)))
    worst, median = notable_scans(run)
    assert (worst.kind, worst.case) == ("worst", "scan_2")
    assert (median.kind, median.case) == ("median", "scan_0")
    assert worst.score == pytest.approx(0.4)
    assert median.score == pytest.approx(0.8)
    assert worst.picture.shape[0] == 256 + 20
    assert not np.array_equal(worst.picture, median.picture)


@pytest.mark.parametrize(
    ("scans", "expected"),
    [
        (1, ["worst"]),
        (2, ["worst"]),
        (3, ["worst", "median"]),
        (6, ["worst", "second worst", "median"]),
        (9, ["worst", "second worst", "third worst", "median"]),
    ],
)
def test_the_worst_three_and_the_median_are_named_once_each(make_run, scans, expected):
    run = read_run(make_run(shifts=tuple(number % 5 for number in range(scans))))
    found = notable_cases(run, worst=3)
    assert [notable.kind for notable in found] == expected
    assert len({notable.case for notable in found}) == len(found)
    assert [notable.score for notable in found] == sorted(notable.score for notable in found)


def test_orientation_does_not_change_the_drawing(make_run):
    path = make_run()
    before = notable_scans(read_run(path))[0].picture
    for file in [*(path.parents[1] / "sources").iterdir(), *(path / "predictions").iterdir()]:
        image = nib.load(file)
        turned = image.as_reoriented(nib.orientations.axcodes2ornt("ASR"))
        nib.save(nib.Nifti1Image(np.asarray(turned.dataobj), turned.affine), file)
    np.testing.assert_array_equal(notable_scans(read_run(path))[0].picture, before)


def spoil_image(path, provenance):
    provenance["cases"]["scan_2"]["images"] = [str(path / "gone.nii.gz")]


def spoil_cases(path, provenance):
    provenance["cases"] = {"scan_0": provenance["cases"]["scan_0"], "scan_2": {"images": "x", "label": None}}


def spoil_prediction(path, provenance):
    (path / "predictions" / "scan_2.nii.gz").unlink()


def spoil_shape(path, provenance):
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), path / "predictions" / "scan_2.nii.gz")


def spoil_value(path, provenance):
    provenance["labels"].pop("Posterior")


@pytest.mark.parametrize(
    ("spoil", "left"),
    [
        (spoil_image, ["median"]),
        (spoil_cases, ["median"]),
        (spoil_prediction, ["median"]),
        (spoil_shape, ["median"]),
        (spoil_value, []),
        (lambda path, provenance: provenance.pop("cases"), []),
        (lambda path, provenance: provenance.pop("labels"), []),
        (lambda path, provenance: provenance.update(labels={"a": 0, "b": 0}), []),
        (lambda path, provenance: provenance.update(labels={"a": "zero"}), []),
    ],
)
def test_scans_without_files_have_no_picture(make_run, caplog, spoil, left):
    path = make_run()
    provenance = json.loads((path / "provenance.json").read_text())
    spoil(path, provenance)
    (path / "provenance.json").write_text(json.dumps(provenance))
    assert [scan.kind for scan in notable_scans(read_run(path))] == left
    assert "scan_2" in caplog.text


def test_run_without_provenance_has_no_pictures(make_run):
    path = make_run()
    (path / "provenance.json").unlink()
    run = read_run(path)
    assert notable_scans(run) == []


@pytest.mark.parametrize("name", ["scans.csv", "summary.json", "config.yaml"])
def test_unfinished_run_names_the_missing_file(make_run, name):
    path = make_run()
    (path / name).unlink()
    with pytest.raises(UserError, match=f"{name} cannot be read .*finished run"):
        read_run(path)


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system ['true']",
        "a: &x [1, 1]\nb: [*x, *x]",
        "a: [",
        "- 1",
        "\x00",
    ],
)
def test_configuration_is_plain_data(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"config\.yaml"):
        read_mapping(tmp_path / "config.yaml")


def test_text_is_written_atomically(tmp_path):
    target = tmp_path / "deep" / "file.txt"
    write_text(target, "first\r\n")
    assert target.read_bytes() == b"first\r\n"
    with pytest.raises(TypeError):
        write_text(target, b"second")
    assert target.read_bytes() == b"first\r\n"
    assert list(target.parent.iterdir()) == [target]


def test_bytes_of_names_that_are_no_letters_can_be_written(tmp_path):
    write_text(tmp_path / "page.html", "scan_\udcff")
    assert (tmp_path / "page.html").read_text() == "scan_\\udcff"
