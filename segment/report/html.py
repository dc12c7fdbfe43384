"""Pages that need no network and no other file: one base template, its style, and a policy that lets only ours run."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

_TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, scripts: Sequence[str] = (), allowed: Sequence[str] = (), **content: Any) -> str:
    """Fill a template of a page.

    Text is escaped; the page may connect to nothing, and no script but those named here can run in it.

    Args:
        template: File name of a template, which extends ``base.html.j2``.
        scripts: File names of the scripts that the page ends with.
        allowed: Texts of further scripts that these may put into the page.
        **content: What the template shows.

    Returns:
        The page.
    """
    texts = [read_template(name) for name in scripts]
    hashes = [_digest(text) for text in (*texts, *allowed)]
    policy = {
        "default-src": ["'none'"],
        "img-src": ["data:", "blob:"],
        "style-src": ["'unsafe-inline'"],
        "script-src": hashes or ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
    }
    return (
        _environment()
        .get_template(template)
        .render(
            policy="; ".join(" ".join((name, *sources)) for name, sources in policy.items()),
            style=Markup(read_template("style.css")),
            scripts=[Markup(text) for text in texts],
            **content,
        )
    )


def json_block(value: Any) -> Markup:
    """Make a value into JSON that can stand in a script element: no text of it can end the element.

    Args:
        value: What JSON can hold.

    Returns:
        Markup that is not escaped again.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def data_url(kind: str, content: bytes) -> str:
    """Put a file into an address, e.g. of an image: ``data_url("image/png", bytes)``."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


@cache
def read_template(name: str) -> str:
    """The text of a file beside the templates, without line ends around it."""
    return (_TEMPLATES / name).read_text(encoding="utf-8").strip()


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _digest(script: str) -> str:
    """What a policy names a script by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}'"
