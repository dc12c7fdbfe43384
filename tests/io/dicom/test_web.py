"""DICOMweb: a round trip through a real server, and answers that are not to be trusted."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import orthanc
import pytest
from dicomweb_client import DICOMwebClient
from made_dicom import make_enhanced, make_series, voxels
from pydicom import dcmread
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage

from segment.command_line import override
from segment.commands import predict
from segment.config.compose import compose
from segment.errors import UserError
from segment.io.dicom import web
from segment.io.dicom.annotations import read_annotations
from segment.io.dicom.series import contents
from segment.io.images import read_image, read_label

UID, PARTS = "2.25.1", "multipart/related; boundary=b"
HOST = "dicomweb:http://host?StudyInstanceUID=1"
OLD = Path(__file__).parents[2] / "fixtures" / "runs_of_november_2026"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if orthanc.MISSING:
        pytest.skip(orthanc.MISSING)
    with orthanc.serve(tmp_path_factory.mktemp("orthanc")) as found:
        yield found


def send(port: int, files) -> None:
    """C-STORE."""
    client = AE()
    client.add_requested_context(CTImageStorage)
    association = client.associate("127.0.0.1", port, ae_title="TEST")
    assert association.is_established
    statuses = [association.send_c_store(dcmread(file)).Status for file in files]
    association.release()
    assert statuses == [0] * len(files)


def test_a_series_is_fetched_predicted_and_stored_back(server, tmp_path, capsys):
    scan = nib.load(OLD / "scans" / "imagesTr" / "case_0.nii.gz")
    values = np.asarray(scan.dataobj).T.astype(np.int16)
    files = make_series(tmp_path / "in", values + 1024, spacing=np.abs(np.diag(scan.affine)[2::-1]))
    send(server.dicom, files)
    study = dcmread(files[0]).StudyInstanceUID
    address = f"dicomweb:{server.web}?StudyInstanceUID={study}"
    given = [f"model={OLD / 'seed0'}", override(f"input={address}"), f"output={tmp_path / 'masks'}"]
    predict.run(compose("predict", [*given, "store=true"]))
    assert f"1 mask(s) stored at {server.web}" in capsys.readouterr().out
    (mask,) = (tmp_path / "masks").glob("*.dcm")
    client = DICOMwebClient(server.web)
    (entry,) = client.search_for_series(study, search_filters={"Modality": "SEG"})
    (stored,) = client.retrieve_series(study, entry["0020000E"]["Value"][0])
    written = hd.seg.segread(mask)
    assert stored.PixelData == written.PixelData
    assert stored.ReferencedSeriesSequence[0].SeriesInstanceUID == dcmread(files[0]).SeriesInstanceUID
    found = contents(mask.parent).annotations
    (series,) = contents(tmp_path / "in").series
    labels = json.loads((OLD / "seed0" / "model" / "model.json").read_text())["labels"]
    mask = read_annotations(found, series, {name: value for name, value in labels.items() if value})
    predict.run(compose("predict", [given[0], f"input={tmp_path / 'in'}", f"output={tmp_path / 'direct'}"]))
    np.testing.assert_array_equal(mask, read_label(tmp_path / "direct" / "in.nii.gz").array)
    assert mask.any()
    # The segmentation that the study now has too is no scan.
    with pytest.raises(UserError, match=r"series_3\.dcm exists"):
        predict.run(compose("predict", [*given, "output_format=dicom_seg"]))


def test_what_is_sent_comes_back_voxel_by_voxel(server, tmp_path):
    """Series by STOW and by C-STORE, compressed and multi-frame, of one study; the chosen one alone, or all images."""

    def packed(index, dataset):
        dataset.SeriesNumber, dataset.StudyInstanceUID, dataset.SeriesInstanceUID = 7, UID, "2.25.2"
        dataset.compress("1.2.840.10008.1.2.4.80")

    def plain(index, dataset):
        dataset.SeriesNumber, dataset.StudyInstanceUID = 7, UID

    compressed = make_series(tmp_path / "in" / "packed", change=packed)
    web.store(server.web, compressed)
    send(server.dicom, make_series(tmp_path / "in" / "plain", seed=1, change=plain))
    make_enhanced(tmp_path / "in" / "enhanced", voxels(), (1, 0, 0, 0, 1, 0), [1.0] * 5)
    enhanced = dcmread(tmp_path / "in" / "enhanced")
    enhanced.StudyInstanceUID = UID
    enhanced.save_as(tmp_path / "in" / "enhanced")
    web.store(server.web, [tmp_path / "in" / "enhanced"])
    whole, one = tmp_path / "whole", tmp_path / "one"
    for folder, address in ((whole, web.Address(server.web, UID)), (one, web.Address(server.web, UID, "2.25.2"))):
        folder.mkdir()
        web.fetch(address, folder)
    assert len(list(whole.iterdir())) == 3
    sent = {item.uid: item for item in contents(tmp_path / "in").series}
    got = {item.uid: item for item in contents(whole).series}
    assert sent.keys() == got.keys()
    for uid, item in got.items():
        first, second = read_image(sent[uid].path), read_image(item.path)
        np.testing.assert_array_equal(first.array, second.array)
        np.testing.assert_array_equal(first.grid.affine, second.grid.affine)
    assert [item.uid for item in contents(one).series] == ["2.25.2"]
    assert dcmread(next(one.rglob("*.dcm"))).file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.80"  # as stored
    with pytest.raises(UserError, match=r"has no series 2\.25\.99"):
        web.fetch(web.Address(server.web, UID, "2.25.99"), tmp_path)
    with pytest.raises(UserError, match=r"answers 404"):
        web.fetch(web.Address(server.web + "/nowhere", UID), tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file:///etc/passwd?StudyInstanceUID=1", "not the http or https address"),
        ("http://?StudyInstanceUID=1", "not the http or https address"),
        ("http://host:port?StudyInstanceUID=1", "is no address"),
        ("http://jane:secret@host?StudyInstanceUID=1", r"\.netrc"),
        ("http://host/dicom-web", "StudyInstanceUID is missing"),
        ("http://host?StudyInstanceUID=1&PatientID=2", "PatientID is no key"),
        ("http://host?StudyInstanceUID=../../1", "is no UID"),
    ],
)
def test_addresses_that_are_refused(text, words):
    with pytest.raises(UserError, match=words) as refusal:
        web.parse_address(f"dicomweb:{text}")
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["input=scan.nii"], "store=true: is for input=dicomweb:"),
        (
            [override(f"input={HOST}"), "output_format=nifti"],
            "a DICOM server stores dicom_seg",
        ),
    ],
)
def test_storing_needs_a_server_and_dicom(tmp_path, given, words):
    with pytest.raises(UserError, match=words):
        predict.run(compose("predict", [f"model={OLD / 'seed0'}", *given, f"output={tmp_path}", "store=true"]))


class Hostile(BaseHTTPRequestHandler):
    """Answers with whatever `body` says."""

    timeout = 5
    kind, body, where, code = "application/dicom+json", b"[]", "", 200
    study = b'[{"0020000E": {"vr": "UI", "Value": ["2.25.3"]}, "00080060": {"vr": "CS", "Value": ["CT"]}, '
    study += b'"00200011": {"vr": "IS", "Value": ["../../3"]}}]'

    def do_GET(self):
        listing = self.path.partition("?")[0].endswith(f"{UID}/series")
        body = self.study if listing and self.kind.startswith("multipart") else self.body
        self.send_response(self.code)
        if self.where:
            self.send_header("Location", self.where)
        self.send_header("Content-Type", "application/dicom+json" if body is self.study else self.kind)
        self.end_headers()
        for _ in range(3000 if body == b"endless" else 1):
            try:
                self.wfile.write(body * (20_000 if body == b"endless" else 1))
            except OSError:  # the client has had enough
                return

    def log_message(self, *arguments):
        pass


@pytest.fixture
def hostile():
    server = HTTPServer(("127.0.0.1", 0), Hostile)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"body": b"endless"}, "sends more than 67,108,864 bytes"),
        ({"body": b"endless", "kind": PARTS}, "sends more than 1,000 bytes"),
        ({"body": b"<html>"}, "does not answer as DICOMweb"),
        ({"body": b'[{"0020000E": 7}, 3, {"0020000E": {"Value": [{}]}}]'}, "has no image series"),
        ({"code": 401}, "answers 401"),
        ({"code": 302, "where": "http://127.0.0.1:1/"}, "leads to another address"),
        ({"code": 302, "where": "file:///etc/passwd"}, "leads to another address"),
        (
            {"kind": PARTS, "body": b"--b\r\n\r\nno dicom\r\n--b--"},
            "something else than DICOM",
        ),
        ({"kind": PARTS, "body": b""}, "sends no file"),
    ],
)
def test_hostile_answers_are_refused_and_leave_nothing_outside(hostile, tmp_path, monkeypatch, answer, words):
    for key, value in answer.items():
        monkeypatch.setattr(Hostile, key, value)
    if "1,000" in words:
        monkeypatch.setattr(web, "available_memory", lambda: 2000)
    folder = tmp_path / "in"
    folder.mkdir()
    with pytest.raises(UserError, match=words):
        web.fetch(web.Address(hostile, UID), folder)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert {path.name for path in folder.iterdir()} <= {"series"}


def test_a_server_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="cannot be reached"):
        web.fetch(web.Address("http://127.0.0.1:9", UID), tmp_path)
