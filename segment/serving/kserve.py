"""The Open Inference Protocol, version 2, over REST, as KServe, Triton and their clients speak it.

Source: https://github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md; the binary tensors
are Triton's extension "binary tensor data". A scan is either the bytes of its file (``file``, BYTES [1]) or voxels
(``image``, FP32 [channel, z, y, x]) with their affine (``affine``, FP64 [4, 4]); the mask is answered likewise.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse

from segment import __version__
from segment.io.mask_formats import ENDINGS
from segment.serving.jobs import INPUT, Job
from segment.serving.plain import chosen_model, ended, refusals
from segment.serving.service import Service
from segment.serving.uploads import name_files

LENGTH = "inference-header-content-length"
FILE, IMAGE, AFFINE, MASK = "file", "image", "affine", "mask"
_TYPES = {"FP32": np.float32, "FP64": np.float64, "INT16": np.int16, "UINT8": np.uint8, "UINT16": np.uint16}
_TYPES |= {"INT32": np.int32}
_MAX_HEADER = 1 << 20


@dataclass(frozen=True)
class _Tensor:
    """An input: its shape, its type and its numbers or bytes."""

    shape: tuple[int, ...]
    kind: str
    content: Any

    def array(self, name: str) -> np.ndarray:
        """Its numbers."""
        if self.kind not in _TYPES:
            raise HTTPException(422, f"{name}: has the type {self.kind}. Send one of {', '.join(_TYPES)}.")
        try:
            if isinstance(self.content, bytes):
                return np.frombuffer(self.content, np.dtype(_TYPES[self.kind]).newbyteorder("<")).reshape(self.shape)
            return np.asarray(self.content, _TYPES[self.kind]).reshape(self.shape)
        except (ValueError, TypeError, OverflowError) as error:
            raise HTTPException(422, f"{name}: does not have the shape {list(self.shape)} ({error}).") from None

    def bytes(self, name: str) -> bytes:
        """The bytes of its one element."""
        content = self.content
        if isinstance(content, bytes):
            length = int.from_bytes(content[:4], "little")
            if length + 4 != len(content):
                raise HTTPException(422, f"{name}: is not one element of type BYTES.")
            return content[4:]
        while isinstance(content, list) and len(content) == 1:
            content = content[0]
        try:
            return base64.b64decode(content, validate=True)
        except (TypeError, ValueError, binascii.Error):
            raise HTTPException(422, f"{name}: send one element, in base64 or as binary data.") from None


def kserve_router(service: Service) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/v2")

    @router.get("")
    async def server() -> dict[str, Any]:
        """Name, version and extensions of the server."""
        return {"name": "segment", "version": __version__, "extensions": ["binary_tensor_data"]}

    @router.get("/health/live")
    async def live() -> dict[str, bool]:
        """Whether the server lives."""
        return {"live": True}

    @router.get("/health/ready", response_class=Response)
    async def ready() -> Response:
        """Whether a scan would be predicted now."""
        return Response(status_code=200 if service.ready else 503)

    @router.get("/models/{model}/ready", response_class=Response, responses=refusals(404, 422))
    async def model_ready(model: str) -> Response:
        """Whether a scan would be predicted now by a model."""
        chosen_model(service, model)
        return Response(status_code=200 if service.ready else 503)

    @router.get("/models/{model}", responses=refusals(404, 422, 503), response_model=None)
    async def metadata(model: str) -> dict[str, Any] | JSONResponse:
        """Inputs and outputs of a model."""
        name = chosen_model(service, model)
        if name not in service.described:
            raise HTTPException(503, "The models are being loaded.")
        return _metadata(name, service.described[name])

    @router.post(
        "/models/{model}/infer",
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _SCHEMA}}}},
        responses=refusals(400, 404, 408, 413, 422, 429, 503, 504, 507),
        response_model=None,
    )
    async def infer(request: Request, model: str) -> Response:
        """Predict a scan."""
        inputs, asked = _read(await request.body(), request.headers.get(LENGTH))
        kind = str(asked.get("parameters", {}).get("format", "own")) if FILE in inputs else "nifti"
        if kind not in ("own", *ENDINGS):
            raise HTTPException(422, f"format={kind}: there is no such format. There are: own, {', '.join(ENDINGS)}.")
        job = service.new_job(chosen_model(service, model), kind)
        try:
            await asyncio.to_thread(_write, job, inputs)
        except BaseException:
            service.discard(job)
            raise
        service.submit(job)
        await ended(request, service, job)
        try:
            return await asyncio.to_thread(_answer, job, FILE in inputs, asked)
        finally:
            service.forget(job)

    return router


_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "parameters": {"type": "object"},
        "inputs": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "shape", "datatype", "data"],
                "properties": {
                    "name": {"enum": [FILE, IMAGE, AFFINE]},
                    "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}},
                    "datatype": {"enum": ["BYTES", *_TYPES]},
                    "data": {"type": "array"},
                },
            },
        },
    },
}


def _metadata(name: str, described: Mapping[str, Any]) -> dict[str, Any]:
    """The description of a model in the protocol's terms."""
    axes = [-1] * int(described["dimensions"])
    inputs = [
        {"name": FILE, "datatype": "BYTES", "shape": [1]},
        {"name": IMAGE, "datatype": "FP32", "shape": [len(described["channels"]), *axes]},
        {"name": AFFINE, "datatype": "FP64", "shape": [4, 4]},
    ]
    outputs = [{"name": FILE, "datatype": "BYTES", "shape": [1]}, {"name": MASK, "datatype": "INT32", "shape": axes}]
    return {"name": name, "versions": ["1"], "platform": "segment", "inputs": inputs, "outputs": outputs}


def _read(body: bytes, length: str | None) -> tuple[dict[str, _Tensor], dict[str, Any]]:
    """Inputs by name, and the JSON of a request; binary tensors follow it.

    Raises:
        HTTPException: When it is damaged (400) or has not the inputs that are needed (422).
    """
    size = int(length) if length and length.isdecimal() else len(body)
    found: dict[str, _Tensor] = {}
    try:
        asked = json.loads(body[:size])
        place = size
        for item in asked["inputs"]:
            shape = tuple(int(number) for number in item["shape"])
            count = item.get("parameters", {}).get("binary_data_size")
            content = item["data"] if count is None else body[place : place + int(count)]
            place += int(count or 0)
            if len(shape) > 5 or min(shape, default=0) < 1 or place > len(body):
                raise ValueError("a shape or a size is impossible")
            found[str(item["name"])] = _Tensor(shape, str(item["datatype"]), content)
        asked.get("parameters", {}).get("format")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise HTTPException(400, f"The request is not of the Open Inference Protocol ({error}).") from None
    if FILE not in found and not {IMAGE, AFFINE} <= found.keys():
        raise HTTPException(422, f"inputs: give {FILE!r}, or both {IMAGE!r} and {AFFINE!r}.")
    return found, asked


def _write(job: Job, inputs: Mapping[str, _Tensor]) -> None:
    """Write the upload into the folder of a job."""
    folder = job.folder / INPUT
    if FILE in inputs:
        (folder / "part").write_bytes(inputs[FILE].bytes(FILE))
        name_files(job, [(folder / "part", "", "")])
        return
    from segment.io.geometry import Grid
    from segment.io.volumes import write_volume

    array = inputs[IMAGE].array(IMAGE).astype(np.float32)
    affine = inputs[AFFINE].array(AFFINE).astype(np.float64)
    if array.ndim != 4 or affine.shape != (4, 4) or not np.isfinite(affine).all() or np.linalg.matrix_rank(affine) < 4:
        raise HTTPException(422, f"{IMAGE} has the axes channel, z, y, x; {AFFINE} is a (4, 4) matrix to RAS+ mm.")
    write_volume(folder / "scan.nii", array, Grid(array.shape[1:], affine))


def _answer(job: Job, as_file: bool, asked: Mapping[str, Any]) -> Response:
    """The mask in the form of the request, as binary data if that was asked for."""
    assert job.mask is not None
    if as_file:
        content = job.mask.read_bytes()
        output: dict[str, Any] = {"name": FILE, "datatype": "BYTES", "shape": [1]}
        plain: Any = [base64.b64encode(content).decode()]
        raw = len(content).to_bytes(4, "little") + content
    else:
        mask = _mask(job.mask)
        output = {"name": MASK, "datatype": "INT32", "shape": list(mask.shape)}
        plain, raw = mask.ravel().tolist() if not _binary(asked, MASK) else None, mask.tobytes()
    told: dict[str, Any] = {"model_name": job.model, "model_version": "1", "outputs": [output]}
    if isinstance(asked.get("id"), str):
        told["id"] = asked["id"]
    if not _binary(asked, output["name"]):
        output["data"] = plain
        return JSONResponse(told)
    output["parameters"] = {"binary_data_size": len(raw)}
    header = json.dumps(told).encode()
    return Response(header + raw, headers={LENGTH: str(len(header))}, media_type="application/octet-stream")


def _mask(path: Path) -> np.ndarray:
    from segment.io.images import read_label

    mask = np.ascontiguousarray(read_label(path).array, np.int32)
    assert math.prod(mask.shape)
    return mask


def _binary(asked: Mapping[str, Any], name: str) -> bool:
    """Whether the client wants an output as binary data."""
    for output in asked.get("outputs") or []:
        if isinstance(output, dict) and output.get("name") == name:
            return bool(output.get("parameters", {}).get("binary_data", False))
    parameters = asked.get("parameters") or {}
    return bool(parameters.get("binary_data_output", False))
