"""Requests as SageMaker, clients of the Open Inference Protocol and 3D Slicer's MONAI Label send them."""

import base64
import email
import json

import nibabel as nib
import numpy as np
import pytest
from served_models import OLD, SCAN, serving

from segment.io.images import read_image


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with serving(
        {"first": str(OLD / "seed0"), "second": str(OLD / "seed1")}, parent=tmp_path_factory.mktemp("s")
    ) as it:
        yield it


@pytest.fixture(scope="module")
def masks(client):
    """The bytes of each model's mask of the scan, as a NIfTI file."""
    posted = {name: client.post(f"/predict?model={name}", content=SCAN.read_bytes()) for name in ("first", "second")}
    return {name: answer.content for name, answer in posted.items()}


def voxels(content: bytes) -> np.ndarray:
    import gzip

    return np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(content)).dataobj)


def test_sagemaker(client, masks):
    assert client.get("/ping").status_code == 200
    answer = client.post("/invocations", content=SCAN.read_bytes())
    assert answer.content == masks["first"]
    assert json.loads(answer.headers["x-amzn-sagemaker-custom-attributes"])["volumes_ml"].keys() == {"shell", "core"}
    named = {"x-amzn-sagemaker-target-model": "second", "content-type": "application/x-image"}
    attributes = {"x-amzn-sagemaker-custom-attributes": "format=nrrd,name=a.nii.gz"}
    assert client.post("/invocations", content=SCAN.read_bytes(), headers=named).content == masks["second"]
    assert client.post("/invocations", content=SCAN.read_bytes(), headers=attributes).content.startswith(b"NRRD")
    wrong = {"x-amzn-sagemaker-custom-attributes": "format=doc"}
    assert client.post("/invocations", content=SCAN.read_bytes(), headers=wrong).status_code == 422


def test_open_inference_protocol(client, masks):
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").is_success
    assert client.get("/v2/models/second/ready").is_success
    assert client.get("/v2/models/third/ready").status_code == 404
    told = client.get("/v2/models/first").json()
    assert [one["name"] for one in told["inputs"]] == ["file", "image", "affine"]
    content = base64.b64encode(SCAN.read_bytes()).decode()
    file = {"name": "file", "shape": [1], "datatype": "BYTES", "data": [content]}
    answer = client.post("/v2/models/second/infer", json={"id": "7", "inputs": [file]}).json()
    assert answer["id"] == "7"
    assert base64.b64decode(answer["outputs"][0]["data"][0]) == masks["second"]

    image = read_image(SCAN)
    raw = image.array.astype("<f4").tobytes(), image.grid.affine.astype("<f8").tobytes()
    kinds = ("image", "FP32", image.array.shape), ("affine", "FP64", (4, 4))
    inputs = [
        {"name": name, "shape": list(shape), "datatype": kind, "parameters": {"binary_data_size": len(part)}}
        for (name, kind, shape), part in zip(kinds, raw, strict=True)
    ]
    header = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    sent = {"inference-header-content-length": str(len(header))}
    answer = client.post("/v2/models/first/infer", content=header + b"".join(raw), headers=sent)
    size = int(answer.headers["inference-header-content-length"])
    (output,) = json.loads(answer.content[:size])["outputs"]
    mask = np.frombuffer(answer.content[size:], "<i4").reshape(output["shape"])
    np.testing.assert_array_equal(mask.T, voxels(masks["first"]))


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b'{"inputs": []}', 422),
        (b'{"inputs": [{"name": "file", "shape": [-1], "datatype": "BYTES", "data": ["x"]}]}', 400),
        (b'{"inputs": [{"name": "file", "shape": [1], "datatype": "BYTES", "data": ["?"]}]}', 422),
        (b'{"inputs": [{"name": "file", "shape": [1], "datatype": "BYTES", "data": [[[1]]]}]}', 422),
        (b'{"inputs": [{"name": "image", "shape": [1, 2, 2, 2], "datatype": "FP32", "data": [1]}, '
         b'{"name": "affine", "shape": [4, 4], "datatype": "FP64", "data": []}]}', 422),
        (b'{"inputs": [{"name": "file", "shape": [1], "datatype": "BYTES", '
         b'"parameters": {"binary_data_size": 1e12}}]}', 400),
    ],
)  # fmt: skip
def test_requests_that_are_not_of_the_protocol_are_refused(client, body, status):
    assert client.post("/v2/models/first/infer", content=body).status_code == status


def test_calls_of_slicer_s_monai_label_client(client, masks, tmp_path):
    told = client.get("/info/").json()
    assert told["models"]["first"]["labels"] == {"shell": 1, "core": 2}
    assert told["models"]["first"]["type"] == "segmentation"
    upload = {"file": ("volume.nii.gz", SCAN.read_bytes(), "application/octet-stream")}
    session = client.put("/session/", files={"files": upload["file"]}, data={"client_id": "a"}).json()["session_id"]
    assert client.get(f"/session/{session}").is_success
    assert client.put("/datastore/?image=P1", files=upload).json() == {"image": "P1"}
    for where in (f"session_id={session}", "image=P1"):
        params = {"params": (None, json.dumps({"device": "cpu"}))}
        answer = client.post(f"/infer/second?{where}", files=params)
        assert answer.is_success, answer.text
        form = email.message_from_bytes(
            b"Content-Type: " + answer.headers["content-type"].encode() + b"\r\n\r\n" + answer.content
        )
        parts = {part.get_param("name", header="content-disposition"): part for part in form.get_payload()}
        assert json.loads(parts["params"].get_payload())["label_names"] == {"shell": 1, "core": 2}
        file = tmp_path / parts["file"].get_filename()
        file.write_bytes(parts["file"].get_payload(decode=True))
        np.testing.assert_array_equal(read_image(file).array[0].T, voxels(masks["second"]))
    assert client.delete(f"/session/{session}").is_success
    assert client.post(f"/infer/second?session_id={session}").status_code == 404
    assert client.post("/infer/third?image=P1").status_code == 404
    for number in range(20):
        client.put(f"/datastore/?image=N{number}", files=upload)
    assert len(list(client.service.folder.iterdir())) == 16  # the oldest are removed
