"""The plain interface, over a real model: masks as `segment predict` writes them, and refusals."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from made_dicom import make_series
from served_models import OLD, SCAN, serving, zipped

from segment.commands import predict
from segment.config.compose import compose
from segment.inference.encoding import features_of
from segment.inference.model import load_model, predictor_with
from segment.inference.quality import expected_scan_dice
from segment.serving.app import Rules
from segment.serving.log import Log, read_log

TOKEN = "a-token-of-many-letters"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    log = Log(folder / "seen.jsonl")
    with serving({"first": str(OLD / "seed0"), "second": str(OLD / "seed1")}, log=log, parent=folder) as found:
        found.folder = folder
        yield found


def test_masks_are_those_of_segment_predict_byte_for_byte(client, tmp_path):
    scans = tmp_path / "scans"
    scans.mkdir()
    shutil.copy(SCAN, scans / "plain.nii.gz")
    turned = nib.load(SCAN).as_reoriented(nib.orientations.axcodes2ornt(("P", "I", "R")))
    nib.save(turned, scans / "turned.nii")
    image = sitk.ReadImage(SCAN)
    for name in ("other.nrrd", "another.mha"):
        sitk.WriteImage(image, scans / name)
    array = sitk.GetArrayFromImage(image).astype(np.int16)
    slices = make_series(tmp_path / "series", array, spacing=image.GetSpacing()[::-1])
    for source, output in ((scans, "masks"), (tmp_path / "series", "of_series")):
        predict.run(compose("predict", [f"model={OLD / 'seed0'}", f"input={source}", f"output={tmp_path / output}"]))

    for scan in sorted(scans.iterdir()):
        expected = (tmp_path / "masks" / scan.name).read_bytes()
        form = client.post("/predict", files={"file": (scan.name, scan.read_bytes())})
        body = client.post("/predict", content=scan.read_bytes(), headers={"content-type": "application/octet-stream"})
        assert form.status_code == body.status_code == 200, (form.text, body.text)
        assert form.content == body.content == expected
        assert form.headers["content-disposition"].endswith(f'"{scan.name.replace(".", "-mask.", 1)}"')
    expected = (tmp_path / "of_series" / "series.nii.gz").read_bytes()
    pack = zipped(tmp_path / "series.zip", {f"a/{file.name}": file.read_bytes() for file in slices})
    sent = {"file": pack.open("rb")}, [("file", (file.name, file.read_bytes())) for file in slices]
    for files in sent:
        found = client.post("/predict", files=files)
        assert found.status_code == 200, found.text
        assert found.content == expected
    assert np.unique(nib.load(tmp_path / "of_series" / "series.nii.gz").dataobj).size > 1
    segmentation = client.post("/predict?format=dicom_seg", files=sent[1])
    assert segmentation.content[128:132] == b"DICM"
    other = client.post("/predict?model=second", content=SCAN.read_bytes())
    assert other.content != (tmp_path / "masks" / "plain.nii.gz").read_bytes()


def test_a_job_tells_its_progress_and_keeps_its_mask_until_it_is_removed(client):
    created = client.post("/jobs?preview=true&name=x.nii.gz", content=SCAN.read_bytes())
    assert created.status_code == 202
    place = f"/jobs/{created.json()['id']}"
    events = client.get(f"{place}/events").text.strip().split("\n\n")
    told = [json.loads(event.removeprefix("data: ")) for event in events]
    assert told[-1]["state"] == "done"
    assert told[-1]["volumes_ml"].keys() == {"shell", "core"}
    assert [one["progress"] for one in told] == sorted(one["progress"] for one in told)
    assert client.get(place).json() == told[-1]
    assert client.get(f"{place}/mask").content == client.post("/predict", content=SCAN.read_bytes()).content
    for kind in ("seg.nrrd", "own"):  # the mask of the job in other formats
        asked = client.post(f"/predict?format={kind}&name=x.nii.gz", content=SCAN.read_bytes())
        again = client.get(f"{place}/mask?format={kind}")
        assert again.content == asked.content
        assert again.headers["content-disposition"] == asked.headers["content-disposition"]
        assert again.headers["x-segment-volumes-ml"] == asked.headers["x-segment-volumes-ml"]
    refused = client.get(f"{place}/mask?format=dicom_seg")
    assert (refused.status_code, "is not of a DICOM series" in refused.json()["detail"]) == (422, True)
    assert {"image", "prediction", "centre"} <= client.get(f"{place}/preview").json().keys()
    assert client.delete(place).status_code == 200
    assert client.get(place).status_code == 404
    assert not list(client.service.folder.iterdir())  # nothing of any scan stays


def test_models_health_and_metrics_are_told(client):
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").status_code == 200
    assert client.get("/models").json()["second"]["structures"] == {"shell": 1, "core": 2}
    client.post("/predict", content=SCAN.read_bytes())
    client.post("/predict", content=b"neither")
    metrics = client.get("/metrics").text
    assert 'segment_jobs_total{model="first",outcome="done"}' in metrics
    assert 'segment_volume_ml_count{label="core",model="first"}' in metrics
    assert 'segment_memory_bytes{process="server"}' in metrics


def test_the_log_holds_features_and_neither_names_nor_pixels(client):
    before = len(read_log(client.folder / "seen.jsonl"))
    name = "Doe^Jane-1970.nii.gz"
    volumes = client.post("/predict", files={"file": (name, SCAN.read_bytes())}).headers["x-segment-volumes-ml"]
    client.post("/predict", files={"file": (name, b"\x1f\x8bno scan")})
    seen = read_log(client.folder / "seen.jsonl")
    assert len(seen) == before + 1
    assert seen[-1].features["volume_core"] == pytest.approx(json.loads(volumes)["core"], abs=1e-3)
    assert seen[-1].features["spacing_z"] == 1.5
    assert len(read_log(client.folder / "seen.jsonl", "second")) < len(seen)
    assert "Doe" not in (client.folder / "seen.jsonl").read_text()


PLANTED = {
    "PatientName": "Doe^Jane",
    "PatientID": "Q7788X",
    "PatientBirthDate": "19700203",
    "InstitutionName": "Saint Elsewhere",
    "StationName": "STATIONQ",
    "DeviceSerialNumber": "SN4711",
    "OperatorsName": "Operator^Olga",
    "AccessionNumber": "ACC0815",
    "StudyDescription": "knee of Jane",
}


def test_the_log_tells_of_scanner_encoder_and_quality_what_it_is_asked_for_and_of_nobody(tmp_path):
    image = sitk.ReadImage(SCAN)
    scanner = {"Manufacturer": "SIEMENS", "MagneticFieldStrength": "1.5", "ConvolutionKernel": ["B30f", "1"]}
    written = {**PLANTED, **scanner, "ManufacturerModelName": "Avanto of Jane"}
    files = make_series(
        tmp_path / "series",
        sitk.GetArrayFromImage(image).astype(np.int16),
        spacing=image.GetSpacing()[::-1],
        change=lambda index, dataset: [setattr(dataset, key, value) for key, value in written.items()],
    )
    models, place, log = {"m": str(OLD / "seed0")}, tmp_path / "seen.jsonl", Log(tmp_path / "seen.jsonl")
    sent = [("file", (file.name, file.read_bytes())) for file in files]
    with serving(models, more=("encoder", "quality"), log=log, parent=tmp_path) as client:
        answers = [client.post("/predict", **body) for body in ({"files": sent}, {"content": SCAN.read_bytes()})]
        metrics = client.get("/metrics").text
    assert [one.status_code for one in answers] == [200, 200]
    of_dicom, of_nifti = read_log(place)
    assert of_dicom.scanner == {
        "modality": "CT",
        "manufacturer": "SIEMENS",
        "field_strength": "1.5",
        "kernel": "B30f/1",
    }
    assert of_nifti.scanner == {}
    for secret in (*PLANTED.values(), "Jane", "Olga", "Doe"):
        assert secret not in place.read_text() + metrics
    model = load_model(OLD / "seed0")
    predictor = predictor_with(model, model.settings())
    prepared, placement = predictor.read([SCAN])
    probabilities = predictor.on_source(predictor.probabilities(prepared, placement), placement)
    classes = predictor.mask(prepared, placement)
    expected = expected_scan_dice(probabilities, classes, model.labels)
    for label, value in expected.items():
        assert of_nifti.features[f"expected_dice_{label}"] == pytest.approx(value, abs=1e-3)
    assert of_nifti.features["expected_dice"] == pytest.approx(np.mean(list(expected.values())), abs=1e-3)
    entropies = -(probabilities * np.log(probabilities + 1e-9)).sum(0) / np.log(len(probabilities))
    assert of_nifti.features["uncertainty"] == pytest.approx(entropies[classes > 0].mean(), abs=2e-3)
    np.testing.assert_allclose(of_nifti.encoder, features_of(model.network, prepared, model.plan.patch_size), rtol=1e-3)


def hostile(folder):
    """Name, content and expected status of uploads that must be refused."""
    bomb = zipped(folder / "bomb.zip", {"a.nii": bytes(1 << 25)})
    outside = zipped(folder / "outside.zip", {"../../escaped.nii.gz": SCAN.read_bytes()})
    nothing = zipped(folder / "nothing.zip", {})
    two = zipped(folder / "two.zip", {"a.nii.gz": SCAN.read_bytes(), "b.nii.gz": SCAN.read_bytes()})
    detached = b"NRRD0004\ntype: short\ndimension: 3\nsizes: 4 4 4\nencoding: raw\ndata file: /etc/passwd\n\n"
    huge = nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4))
    header = bytearray(huge.to_bytes())
    header[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()
    return {
        "bomb": ("bomb.zip", bomb.read_bytes(), 422),
        "outside": ("outside.zip", outside.read_bytes(), 422),
        "nothing": ("nothing.zip", nothing.read_bytes(), 422),
        "two": ("two.zip", two.read_bytes(), 422),
        "detached": ("scan.nhdr", detached, 422),
        "huge": ("scan.nii", bytes(header), 422),
        "cut": ("scan.nii.gz", SCAN.read_bytes()[:300], 422),
        "empty": ("scan.nii.gz", b"", 422),
        "unknown": ("../../../etc/passwd", b"root:x:0:0", 422),
        "dicom": ("scan.dcm", bytes(128) + b"DICM" + bytes(range(200)), 422),
        "not finite": ("scan.nii", nib.Nifti1Image(np.full((9, 9, 9), np.nan, "f4"), np.eye(4)).to_bytes(), 422),
        "flat": ("scan.png", b"\x89PNG\r\n\x1a\n" + bytes(40), 422),
    }


def test_hostile_uploads_are_refused_in_one_paragraph_and_the_server_lives(client, tmp_path):
    for case, (name, content, status) in hostile(tmp_path).items():
        answer = client.post("/predict", files={"file": (name, content)})
        assert answer.status_code == status, (case, answer.text)
        detail = answer.json()["detail"]
        assert "\n" not in detail, case
        assert str(client.service.folder) not in detail, case
        assert "root:" not in detail, case
    assert client.post("/predict", content=SCAN.read_bytes()).status_code == 200
    assert client.service.restarts == 0
    assert not list(client.service.folder.parent.rglob("escaped*"))
    form = {"content-type": "multipart/form-data; boundary=x"}
    for body in (b"", b"--x\r\nbroken", b"--x\r\n\r\n--x--\r\n"):
        assert client.post("/predict", content=body, headers=form).status_code in (400, 422)
    assert client.post("/predict", data={"file": "text"}).status_code == 422
    assert client.post("/predict?model=third", content=b"x").status_code == 404
    assert client.post("/predict?format=doc", content=b"x").status_code == 422
    assert client.get("/jobs/../../etc").status_code == 404


def test_tokens_sites_and_sizes_are_checked_before_the_body(tmp_path):
    with serving({"m": str(OLD / "seed0")}, rules=Rules((TOKEN,), 5000), parent=tmp_path) as client:
        scan = SCAN.read_bytes()
        right = {"authorization": f"Bearer {TOKEN}"}
        assert client.get("/healthz").status_code == 200
        for header in ({}, {"authorization": f"Bearer {TOKEN}x"}, {"authorization": TOKEN}):
            refused = client.post("/predict", content=scan, headers=header)
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert client.get("/metrics").status_code == 401
        assert client.post("/predict", content=scan, headers=right).status_code == 200
        elsewhere = right | {"origin": "https://evil.example"}
        assert client.post("/predict", content=scan, headers=elsewhere).status_code == 403
        assert client.post("/predict", content=scan, headers=right | {"origin": "http://testserver"}).is_success
        assert client.post("/predict", content=bytes(5001), headers=right).status_code == 413
        unannounced = client.post("/predict", content=(bytes(1000) for _ in range(6)), headers=right)
        assert unannounced.status_code == 413
        assert "access-control-allow-origin" not in unannounced.headers
