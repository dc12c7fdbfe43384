"""Amazon SageMaker's container contract: ``GET /ping`` and ``POST /invocations``.

Source: Amazon SageMaker AI developer guide, "Custom inference code with hosting services" and "Asynchronous inference".
The platform reads the input of an asynchronous endpoint from its location, posts it here, and writes the answer to the
output location, so that both kinds of endpoints send the same request.
"""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import FileResponse

from segment.io.mask_formats import ENDINGS
from segment.serving.plain import BODY, chosen_model, ended, mask_answer, refusals, uploaded
from segment.serving.service import Service

ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
TARGET = "x-amzn-sagemaker-target-model"


def sagemaker_router(service: Service) -> APIRouter:
    """The routes."""
    router = APIRouter()

    @router.get("/ping", response_class=Response)
    async def ping() -> Response:
        """Whether the container can answer; the platform asks within 2 s."""
        return Response(status_code=200 if service.ready else 503)

    @router.post(
        "/invocations",
        openapi_extra=BODY,
        response_class=FileResponse,
        responses=refusals(400, 404, 408, 413, 422, 429, 503, 504, 507),
    )
    async def invocations(request: Request) -> FileResponse:
        """Predict a scan; model and format are named by headers or by custom attributes ``format=nifti,name=a.nii``."""
        given = _attributes(request.headers.get(ATTRIBUTES, ""))
        model = chosen_model(service, request.headers.get(TARGET) or given.get("model"))
        kind = given.get("format", "own")
        if kind not in ("own", *ENDINGS):
            raise HTTPException(422, f"format={kind}: there is no such format. There are: own, {', '.join(ENDINGS)}.")
        job, _ = await uploaded(request, service, model, kind, given.get("name"))
        answer = mask_answer(await ended(request, service, job), service)
        answer.headers[ATTRIBUTES] = json.dumps({"volumes_ml": job.answer["volumes_ml"]})[:1024]
        return answer

    return router


def _attributes(text: str) -> dict[str, Any]:
    """Custom attributes ``key=value,key=value``; anything else is left out."""
    pairs = (part.split("=", 1) for part in text.split(",") if "=" in part)
    return {key.strip(): value.strip() for key, value in pairs}
