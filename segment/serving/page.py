"""The server's page: drop a scan, watch its progress, look at image and mask."""

from __future__ import annotations

from functools import cache

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse

from segment.io.mask_formats import ENDINGS
from segment.report.html import json_block, render
from segment.report.viewer import ViewerCode, viewer_code
from segment.visual.pictures import colours

HEADERS = {"x-content-type-options": "nosniff", "x-frame-options": "DENY", "referrer-policy": "no-referrer"}
_MOST = 64  # colours of labels


def page_router() -> APIRouter:
    """The routes."""
    router = APIRouter(include_in_schema=False)

    @router.get("/", response_class=HTMLResponse)
    def page() -> HTMLResponse:
        """The page."""
        return HTMLResponse(_page(), headers=HEADERS)

    @router.get("/niivue.js")
    def niivue() -> Response:
        """NiiVue, from its package; the page may insert this very text as a script."""
        code = _code()
        text = code.script if code else ""
        return Response(text, 200 if code else 404, HEADERS, "text/javascript; charset=utf-8")

    return router


@cache
def _code() -> ViewerCode | None:
    return viewer_code()


@cache
def _page() -> str:
    code = _code()
    return render(
        "serve.html.j2",
        ["serve.js"],
        [code.script] if code else [],
        {"connect-src": ["'self'"]},
        title="segment",
        formats=["own", *ENDINGS],
        colours=json_block([[int(part) for part in colour] for colour in colours(_MOST)]),
    )
