"""The server's routes, over one service: what every protocol of clients shares is here."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from segment import __version__
from segment.errors import UserError
from segment.failures import explain_failure
from segment.serving.access import Access, TooLarge, too_large
from segment.serving.jobs import Job
from segment.serving.kserve import kserve_router
from segment.serving.log import Log
from segment.serving.metrics import ServerMetrics
from segment.serving.monai_label import monai_label_router
from segment.serving.page import page_router
from segment.serving.plain import plain_router, refusals, refused
from segment.serving.sagemaker import sagemaker_router
from segment.serving.service import Busy, Service


@dataclass(frozen=True)
class Rules:
    """What clients may do.

    Attributes:
        tokens: Any of them is accepted; empty: none is needed.
        largest: Bytes of a body.
    """

    tokens: Sequence[str] = ()
    largest: int = 2_000_000_000


def create_app(service: Service, rules: Rules, log: Log | None = None) -> FastAPI:
    """The application.

    Args:
        service: Begun and ended with the application.
        rules: What clients may do.
        log: Where each scan leaves a line; None: nowhere.
    """
    server_metrics = ServerMetrics(service)

    def finished(job: Job) -> None:
        server_metrics.count(job)
        if log is not None:
            log.write(job)

    service.on_finished = finished

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.begin()
        try:
            yield
        finally:
            await service.drain(0)
            await service.end()

    app = FastAPI(
        title="segment",
        version=__version__,
        description="Predicts masks of medical images, as `segment predict` does.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(Access, tokens=rules.tokens, largest=rules.largest)
    _handle_errors(app, rules.largest)
    _add_health(app, service, server_metrics)
    app.include_router(page_router())
    for router in (plain_router, sagemaker_router, kserve_router, monai_label_router):
        app.include_router(router(service))
    return app


def _add_health(app: FastAPI, service: Service, server_metrics: ServerMetrics) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the server lives."""
        return {"status": "alive"}

    @app.get("/readyz", responses=refusals(503), response_model=None)
    async def readyz() -> dict[str, str] | JSONResponse:
        """Whether a scan would be predicted now."""
        if not service.ready:
            return refused(503, "The server is about to stop." if service.stopping else "The models are being loaded.")
        return {"status": "ready"}

    @app.get("/models", responses=refusals(503), response_model=None)
    async def models() -> dict[str, Any] | JSONResponse:
        """The models by name: labels, channels, and what differs from how they were scored."""
        return service.described or refused(503, "The models are being loaded.")

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        """Metrics for Prometheus."""
        return Response(server_metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _handle_errors(app: FastAPI, largest: int) -> None:
    def busy(request: Request, error: Any) -> JSONResponse:
        return refused(error.status, str(error), **{"retry-after": "5"})

    def too_big(request: Request, error: Any) -> JSONResponse:
        return refused(413, too_large(largest), connection="close")

    def mistake(request: Request, error: Any) -> JSONResponse:
        return refused(422, str(error))

    def failure(request: Request, error: Any) -> JSONResponse:
        if (message := explain_failure(error)) is None:
            raise error
        return refused(507, message)

    handlers: dict[type[Exception], Callable[[Request, Any], JSONResponse]] = {
        Busy: busy,
        TooLarge: too_big,
        UserError: mistake,
        OSError: failure,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
