"""Clients that are not ours: tritonclient, and schemathesis, which makes requests of the OpenAPI document.

pip install 'tritonclient[http]' schemathesis      in an environment of their own, since they need other versions
CLIENTS=ENVIRONMENT/bin/python pytest -m slow tests/serving/test_clients.py
"""

import os
import subprocess
import sys

import httpx
import numpy as np
import pytest
from served_models import SCAN

from segment.io.images import read_image

PYTHON = os.environ.get("CLIENTS", sys.executable)
TRITON = """
import sys
import numpy as np
import tritonclient.http as triton

url, image, affine, scan, output = sys.argv[1:]
client = triton.InferenceServerClient(url)
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("seed0")
assert [one["name"] for one in client.get_model_metadata("seed0")["inputs"]] == ["file", "image", "affine"]
arrays = {"image": ("FP32", np.load(image)), "affine": ("FP64", np.load(affine))}
inputs = []
for name, (kind, array) in arrays.items():
    inputs.append(triton.InferInput(name, array.shape, kind))
    inputs[-1].set_data_from_numpy(array)
mask = client.infer("seed0", inputs, outputs=[triton.InferRequestedOutput("mask")]).as_numpy("mask")
file = triton.InferInput("file", [1], "BYTES")
file.set_data_from_numpy(np.array([open(scan, "rb").read()], object))
answer = client.infer("seed0", [file]).as_numpy("file")[0]
np.savez(output, voxels=mask, content=np.frombuffer(answer, np.uint8))
"""


def has(package: str) -> bool:
    return subprocess.run([PYTHON, "-c", f"import {package}"], capture_output=True).returncode == 0


@pytest.mark.slow
def test_tritonclient(server, tmp_path):
    if not has("tritonclient.http"):
        pytest.skip("tritonclient is not installed")
    _, url = server()
    image = read_image(SCAN)
    np.save(tmp_path / "image.npy", image.array)
    np.save(tmp_path / "affine.npy", image.grid.affine)
    files = [tmp_path / name for name in ("image.npy", "affine.npy")]
    words = [url.removeprefix("http://"), *files, SCAN, tmp_path / "masks.npz"]
    done = subprocess.run([PYTHON, "-c", TRITON, *map(str, words)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "masks.npz")
    expected = httpx.post(f"{url}/predict", content=SCAN.read_bytes(), trust_env=False, timeout=60).content
    assert found["content"].tobytes() == expected
    (tmp_path / "expected.nii.gz").write_bytes(expected)
    np.testing.assert_array_equal(found["voxels"], read_image(tmp_path / "expected.nii.gz").array[0])


@pytest.mark.slow
def test_schemathesis_finds_no_request_that_ends_with_a_mistake_of_the_server(server, tmp_path):
    if not has("schemathesis"):
        pytest.skip("schemathesis is not installed")
    program, url = server()
    # 503, 504 and 507 are answers; a mistake of the server is 500.
    words = ["run", f"{url}/openapi.json", "--max-examples", "25", "--seed", "1", "--phases", "coverage,fuzzing"]
    checks = "response_schema_conformance,content_type_conformance,status_code_conformance,not_a_server_error"
    command = [PYTHON, "-m", "schemathesis.cli", *words, "--checks", checks]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-6000:]
    assert program.poll() is None
    assert httpx.get(f"{url}/readyz", trust_env=False).is_success
