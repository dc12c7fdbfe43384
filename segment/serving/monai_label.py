"""The inference interface of MONAI Label, as far as its client in 3D Slicer asks for it.

Source: Project-MONAI/MONAILabel, plugins/slicer/MONAILabel/MONAILabelLib/client.py. The client reads ``GET /info/``,
uploads the volume with ``PUT /session/`` or ``PUT /datastore/?image=ID`` and posts ``/infer/{model}``, naming it by
``session_id`` or ``image``; the answer is a multipart form of parameters (``params``, JSON) and mask (``file``).
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse

from segment import __version__
from segment.serving.jobs import INPUT, Job
from segment.serving.plain import BODY, chosen_model, ended, files_schema, mask_answer, refusals
from segment.serving.service import Service
from segment.serving.uploads import FIELD, receive

SESSIONS = 16  # uploads that are kept for further models
SESSION = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": files_schema("files")}}}}
Id = Annotated[str, Query(max_length=100)]


@dataclass
class _Session:
    """An upload that is kept: the folder of a job that was never queued."""

    job: Job
    made: float


class Sessions:
    """Uploads that clients refer to, until they are old or replaced by newer ones.

    Args:
        service: Whose folder they are in.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.kept: dict[str, _Session] = {}

    async def receive(self, request: Request, id: str, field: str) -> str:
        """Keep the file in a field of a request, or its whole body, under an id, which is returned."""
        job = self.service.new_job(next(iter(self.service.models)), "nrrd")
        try:
            await receive(request, job, self.service.timeout, field=field)
        except BaseException:
            self.service.discard(job)
            raise
        self.service.release(job)
        if id in self.kept:
            self.remove(id)
        self.clean(SESSIONS - 1)
        self.kept[id] = _Session(job, time.monotonic())
        return id

    def clean(self, most: int = SESSIONS) -> None:
        """Remove old uploads, and the oldest beyond a number."""
        now = time.monotonic()
        for id, one in list(self.kept.items()):
            if len(self.kept) > most or now > one.made + self.service.keep:
                self.remove(id)

    def remove(self, id: str) -> None:
        """Remove an upload.

        Raises:
            HTTPException: When there is none (404).
        """
        self.find(id).job.remove()
        del self.kept[id]

    def find(self, id: str) -> _Session:
        """An upload.

        Raises:
            HTTPException: When there is none (404).
        """
        if id not in self.kept:
            raise HTTPException(404, "There is no such session; it may have been replaced. Send the volume again.")
        return self.kept[id]


def monai_label_router(service: Service) -> APIRouter:
    """The routes."""
    router = APIRouter()
    sessions = Sessions(service)

    @router.get("/info/", include_in_schema=False)
    async def info() -> dict[str, Any]:
        """What Slicer shows of the server."""
        return _info(service)

    _session_routes(router, sessions)

    @router.post(
        "/infer/{model}",
        openapi_extra=BODY,
        responses=refusals(400, 404, 408, 409, 413, 422, 429, 503, 504, 507),
        response_model=None,
    )
    async def infer(
        request: Request, model: str, session_id: Id = "", image: Id = "", output: Id = "all"
    ) -> Response | FileResponse:
        """Predict a volume of a session, or one that is sent with the request."""
        if output not in ("all", "image", "json"):
            raise HTTPException(422, f"output={output}: give all, image or json.")
        job = service.new_job(chosen_model(service, model), "nrrd")
        try:
            if session_id or image:
                source = sessions.find(session_id or image).job.folder / INPUT
                shutil.copytree(source, job.folder / INPUT, dirs_exist_ok=True)
            else:
                await receive(request, job, service.timeout)
        except BaseException:
            service.discard(job)
            raise
        service.submit(job)
        await ended(request, service, job)
        if output == "image":
            return mask_answer(job, service)
        try:
            return _answer(job, service.described[model], output == "all")
        finally:
            service.forget(job)

    return router


def _session_routes(router: APIRouter, sessions: Sessions) -> None:
    @router.put("/session/", openapi_extra=SESSION, responses=refusals(400, 408, 413, 422, 429, 503, 507))
    async def create(request: Request) -> dict[str, Any]:
        """Keep a volume for `/infer`."""
        return {"session_id": await sessions.receive(request, uuid.uuid4().hex, "files"), "session_info": {}}

    @router.put("/datastore/", openapi_extra=BODY, responses=refusals(400, 408, 413, 422, 429, 503, 507))
    async def upload(request: Request, image: Id) -> dict[str, Any]:
        """Keep a volume for `/infer` under the client's own name."""
        return {"image": await sessions.receive(request, image, FIELD)}

    @router.get("/session/{id}", responses=refusals(404, 422))
    async def session(id: str, update_ts: bool = False) -> dict[str, Any]:
        """Whether a volume is still kept."""
        found = sessions.find(id)
        if update_ts:
            found.made = time.monotonic()
        return {"session_id": id}

    @router.delete("/session/{id}", responses=refusals(404, 422))
    async def remove(id: str) -> dict[str, Any]:
        """Remove a volume."""
        sessions.remove(id)
        return {"session_id": id}


def _info(service: Service) -> dict[str, Any]:
    """The application as MONAI Label describes one: the models, their labels, and nothing to train."""
    models = {
        name: {
            "type": "segmentation",
            "labels": told["structures"],
            "dimension": told["dimensions"],
            "description": f"{told['dataset']}, {', '.join(told['channels'])}",
            "config": {},
        }
        for name, told in service.described.items()
    }
    labels = list(dict.fromkeys(label for told in models.values() for label in told["labels"]))
    none: dict[str, Any] = {"trainers": {}, "strategies": {}, "scoring": {}, "train_stats": {}, "datastore": {}}
    return {"name": "segment", "description": "Served by segment", "version": __version__, "labels": labels} | {
        "models": models,
        **none,
    }


def _answer(job: Job, described: Mapping[str, Any], whole: bool) -> Response:
    """Parameters, and the mask, as a multipart form."""
    assert job.mask is not None
    told = {"label_names": described["structures"], "latencies": {"infer": job.answer["seconds"]}}
    told["volumes_ml"] = job.answer["volumes_ml"]
    params = json.dumps(told)
    if not whole:
        return Response(params, media_type="application/json")
    mark = uuid.uuid4().hex
    parts = (
        f'--{mark}\r\nContent-Disposition: form-data; name="params"\r\n'
        f"Content-Type: application/json\r\n\r\n{params}\r\n"
        f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="{job.name}-mask.nrrd"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    body = parts.encode() + job.mask.read_bytes() + f"\r\n--{mark}--\r\n".encode()
    return Response(body, media_type=f"multipart/form-data; boundary={mark}")
