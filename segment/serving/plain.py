"""The plain interface: a scan in, its mask out; at once, or as a job with progress."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from pydantic import BaseModel, Field
from starlette.background import BackgroundTask

from segment.io.formats import stem
from segment.io.mask_formats import ENDINGS
from segment.serving.jobs import DONE, FAILED, PREVIEW, Job
from segment.serving.service import Service
from segment.serving.uploads import receive

Format = Literal["own", *ENDINGS]  # type: ignore[valid-type]
Model = Annotated[str | None, Query(description="Name of the model; by default the first.", max_length=100)]
Kind = Annotated[Format, Query(description="Format of the mask; `own` is that of the scan, NIfTI for DICOM.")]
Again = Annotated[
    Format | None, Query(description="Format of the mask; by default the one that the job was asked for.")
]
Name = Annotated[str | None, Query(description="File name of a scan that is sent as a plain body.", max_length=300)]

_BINARY = {"schema": {"type": "string", "format": "binary"}}


def files_schema(field: str) -> dict[str, Any]:
    """JSON schema of a form with files in a field."""
    files = {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}
    return {"type": "object", "required": [field], "properties": {field: files}}


BODY = {
    "requestBody": {
        "required": True,
        "description": "NIfTI, NRRD, MHA, DICOM or another format that is read; one file, a zip file with a DICOM "
        "series, or several fields `file`: its slices, or one file for each channel in order.",
        "content": {"multipart/form-data": {"schema": files_schema("file")}, "application/octet-stream": _BINARY},
    }
}
REFUSALS = {
    400: "The multipart body is damaged.",
    401: "No token, or a wrong one.",
    403: "A page of another site.",
    404: "There is no such model or job.",
    408: "The body took too long.",
    409: "There is no mask: the job is not done, or it failed.",
    413: "Too large for the server.",
    422: "The scan or a parameter cannot be used.",
    429: "Too many scans are waiting.",
    503: "The server is about to stop, or a worker ended with the scan.",
    504: "The scan took too long.",
    507: "The server's disk is full.",
}


class Refused(BaseModel):
    """Why a request was refused."""

    detail: Any = Field(description="One paragraph.")


class Told(BaseModel):
    """A job."""

    id: str
    model: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    progress: float = Field(ge=0, le=1)
    status: int | None = Field(None, description="HTTP status of a failure.")
    detail: str | None = Field(None, description="Reason of a failure.")
    seconds: float | None = Field(None, description="Seconds that the network took.")
    volumes_ml: dict[str, float] | None = Field(None, description="Volume of each structure, ml; cm² of a 2D image.")
    notes: list[str] | None = Field(None, description="What differs from how the model was scored.")


def refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Descriptions of refusals for the OpenAPI document."""
    return {code: {"model": Refused, "description": REFUSALS[code]} for code in (401, 403, *codes)}


def chosen_model(service: Service, model: str | None) -> str:
    """The name of the model that a request means.

    Raises:
        HTTPException: When it is not served (404).
    """
    name = model or next(iter(service.models))
    if name not in service.models:
        raise HTTPException(404, f"model={name}: is not served. There are: {', '.join(service.models)}.")
    return name


async def uploaded(
    request: Request, service: Service, model: str, kind: str, name: str | None = None
) -> tuple[Job, Mapping[str, Any]]:
    """Create a job of a request's body, and queue it.

    Returns:
        The job, and the other fields of a form.
    """
    job = service.new_job(model, kind)
    try:
        fields = await receive(request, job, service.timeout, name)
    except BaseException:
        service.discard(job)
        raise
    service.submit(job)
    return job, fields or {}


async def ended(request: Request, service: Service, job: Job) -> Job:
    """Wait until a job is over; it is cancelled when the client leaves.

    Raises:
        HTTPException: When the scan was not predicted; its files are removed.
    """
    waiting = asyncio.ensure_future(job.ended())
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        leaving.cancel()
        service.cancel(job)
    if job.state != DONE:
        service.forget(job)
        raise HTTPException(job.status if job.state == FAILED else 409, job.detail or "The job was cancelled.")
    return job


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def mask_answer(job: Job, service: Service | None = None, of: Job | None = None) -> FileResponse:
    """The mask of a job that is done as a file.

    Args:
        job: The job.
        service: Forgets the job once it is sent; None: it is kept.
        of: The job that predicted it; None: this one.
    """
    told = (of or job).answer
    assert job.mask is not None
    end = job.mask.name[len(stem(job.mask)) :]
    end = ENDINGS.get(job.kind, end)
    headers = {"x-segment-seconds": str(told["seconds"]), "x-segment-model": job.model}
    headers["x-segment-volumes-ml"] = json.dumps(told["volumes_ml"])
    after = BackgroundTask(service.forget, job) if service else None
    return FileResponse(job.mask, 200, headers, "application/octet-stream", after, f"{job.name}-mask{end}")


def plain_router(service: Service) -> APIRouter:
    """The routes."""
    router = APIRouter()
    file_answer: dict[int | str, dict[str, Any]] = {
        200: {"content": {"application/octet-stream": _BINARY}, "description": "The mask."}
    }

    @router.post(
        "/predict",
        openapi_extra=BODY,
        response_class=FileResponse,
        responses=file_answer | refusals(400, 404, 408, 413, 422, 429, 503, 504, 507),
    )
    async def predict(request: Request, model: Model = None, format: Kind = "own", name: Name = None) -> FileResponse:
        """Predict a scan: the answer is its mask, on its grid."""
        job, _ = await uploaded(request, service, chosen_model(service, model), format)
        return mask_answer(await ended(request, service, job), service)

    @router.post(
        "/jobs",
        status_code=202,
        openapi_extra=BODY,
        response_model=Told,
        response_model_exclude_none=True,
        responses=refusals(400, 404, 408, 413, 422, 429, 503, 507),
    )
    async def create(
        request: Request, model: Model = None, format: Kind = "own", name: Name = None, preview: bool = False
    ) -> dict[str, Any]:
        """Queue a scan; ask for its state, its events or its mask later."""
        chosen = chosen_model(service, model)
        job = service.new_job(chosen, format)
        job.preview, job.lasting = preview, True
        try:
            await receive(request, job, service.timeout)
        except BaseException:
            service.discard(job)
            raise
        service.submit(job)
        return job.described

    _job_routes(router, service, file_answer)
    return router


def found_job(service: Service, id: str) -> Job:
    """The job of an id.

    Raises:
        HTTPException: When there is none (404).
    """
    if id not in service.jobs:
        raise HTTPException(404, f"There is no job {id!r}; answers are kept for {service.keep:g} s.")
    return service.jobs[id]


def done_job(service: Service, id: str) -> Job:
    """The job of an id, which has a mask.

    Raises:
        HTTPException: When there is none (404), or it is not done (409).
    """
    job = found_job(service, id)
    if job.state != DONE:
        raise HTTPException(409, job.detail or f"The job is {job.state}.")
    return job


def _job_routes(router: APIRouter, service: Service, file_answer: dict[int | str, dict[str, Any]]) -> None:
    @router.get("/jobs/{id}", response_model=Told, response_model_exclude_none=True, responses=refusals(404, 422))
    async def state(id: str) -> dict[str, Any]:
        """How far a job is."""
        return found_job(service, id).described

    @router.delete("/jobs/{id}", response_model=Told, response_model_exclude_none=True, responses=refusals(404, 422))
    async def cancel(id: str) -> dict[str, Any]:
        """Cancel a job, or remove its answer."""
        job = found_job(service, id)
        service.cancel(job)
        service.forget(job)
        return job.described

    @router.get("/jobs/{id}/events", response_class=StreamingResponse, responses=_events() | refusals(404, 422))
    async def events(id: str) -> StreamingResponse:
        """The states of a job as Server-Sent Events, until it is over."""
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(_stream(found_job(service, id)), media_type="text/event-stream", headers=headers)

    @router.get(
        "/jobs/{id}/mask",
        response_class=FileResponse,
        responses=file_answer | refusals(404, 409, 413, 422, 429, 503, 504, 507),
    )
    async def mask(id: str, format: Again = None) -> FileResponse:
        """The mask of a job that is done; in the format that the job was asked for, or in another one."""
        job = done_job(service, id)
        if format in (None, job.kind):
            return mask_answer(job)
        other = service.again(job, str(format))
        await other.ended()
        if other.state != DONE:
            raise HTTPException(other.status if other.state == FAILED else 409, other.detail or "The job was removed.")
        return mask_answer(other, of=job)

    @router.get("/jobs/{id}/preview", include_in_schema=False)
    async def preview(id: str) -> FileResponse:
        """Small volumes for the page's viewer."""
        file = done_job(service, id).folder / PREVIEW
        if not file.exists():
            raise HTTPException(409, "The job was not asked for a preview.")
        return FileResponse(file, media_type="application/json")


def _events() -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {"text/event-stream": {}}, "description": "Events."}}


async def _stream(job: Job) -> AsyncIterator[str]:
    async for told in job.changes():
        yield f"data: {json.dumps(told)}\n\n"


def refused(status: int, detail: str, **headers: str) -> JSONResponse:
    """An answer that refuses a request."""
    return JSONResponse({"detail": detail}, status, headers)
