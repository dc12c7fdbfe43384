"""Self-contained HTML pages: a base template, its style, and a policy that allows only our own scripts."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from segment.visual.overlays import INVENTED, MISLABELLED, MISSED

_TEMPLATES = Path(__file__).parent / "templates"
_HEADING = re.compile(r'<h2 id="([\w-]+)">([^<]+)</h2>')
_CONTENTS = '<nav class="contents" aria-label="Contents"></nav>'


def render(
    template: str,
    scripts: Sequence[str] = (),
    allowed: Sequence[str] = (),
    sources: Mapping[str, Sequence[str]] | None = None,
    **content: Any,
) -> str:
    """Render a page template.

    Text is escaped; the page cannot make connections unless `sources` says so, and only the scripts given here can run.

    Args:
        template: File name of a template that extends ``base.html.j2``.
        scripts: File names of scripts to append to the page.
        allowed: Source texts of further scripts that these scripts may insert.
        sources: Further directives of the content security policy, by name.
        **content: Variables of the template.

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
        **(sources or {}),
    }
    page = (
        _environment()
        .get_template(template)
        .render(
            policy="; ".join(" ".join((name, *values)) for name, values in policy.items()),
            style=Markup(read_template("style.css")),  # noqa: S704 - our own file
            scripts=[Markup(text) for text in texts],  # noqa: S704 - our own files
            **content,
        )
    )
    return _with_contents(page)


def _with_contents(page: str) -> str:
    """Put links to the headings into the page's empty table of contents."""
    links = "".join(f'<a href="#{name}">{title}</a>' for name, title in _HEADING.findall(page))
    return page.replace(_CONTENTS, _CONTENTS.replace("></", f">{links}</"), 1)


def json_block(value: Any) -> Markup:
    """Convert a value to JSON for a script element, escaped so that it cannot end the element.

    Args:
        value: A JSON-serialisable value.

    Returns:
        Markup that is not escaped again.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))  # noqa: S704 - escaped


def data_url(kind: str, content: bytes) -> str:
    """Encode a file as a data URL, e.g. an image: ``data_url("image/png", content)``."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def error_colours() -> dict[str, str]:
    """The legend of error maps: what a colour means to the colour in CSS."""
    named = {"missed": MISSED, "invented": INVENTED, "another label": MISLABELLED}
    return {name: f"rgb({red}, {green}, {blue})" for name, (red, green, blue) in named.items()}


@cache
def read_template(name: str) -> str:
    """The text of a file in the templates folder, stripped."""
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
    """The hash of a script for a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}'"
