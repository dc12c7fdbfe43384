"""Who may ask, and how much a request may send: checked before anything of it is read."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Collection
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segment.errors import UserError

VARIABLE = "SEGMENT_TOKEN"
SHORTEST = 16  # letters of a token
OPEN = frozenset({"/healthz", "/readyz", "/ping", "/v2/health/live", "/v2/health/ready", "/", "/niivue.js"})
"""Paths without a token: they tell nothing of scans."""


class TooLarge(Exception):
    """The body of a request exceeds the limit."""


def read_tokens(file: Path | None) -> tuple[str, ...]:
    """The tokens that clients may give.

    Args:
        file: One token a line; lines that begin with # are left out. None: that of `VARIABLE`, if it is set.

    Returns:
        The tokens; empty if everybody may ask.

    Raises:
        UserError: When the file cannot be read, has no token, or one is short.
    """
    if file is None:
        tokens = [os.environ[VARIABLE]] if os.environ.get(VARIABLE) else []
        where = f"the environment variable {VARIABLE}"
    else:
        where = f"auth={file}"
        try:
            lines = file.read_text(encoding="ascii").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{where}: cannot be read ({error}). Give a text file with one token a line.") from None
        tokens = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        if not tokens:
            raise UserError(f"{where}: holds no token. Write one a line.")
    if any(len(token) < SHORTEST for token in tokens):
        raise UserError(f"{where}: a token needs at least {SHORTEST} letters. `openssl rand -hex 32` makes one.")
    return tuple(tokens)


class Access:
    """Refuses requests without a token, from pages of other sites, and with bodies beyond the limit.

    Args:
        app: What answers the others.
        tokens: Any of them is accepted; empty: none is needed.
        largest: Bytes of a body.
        open_paths: Paths that need no token.
    """

    def __init__(self, app: ASGIApp, tokens: Collection[str], largest: int, open_paths: Collection[str] = OPEN) -> None:
        self.app, self.largest, self.open_paths = app, largest, open_paths
        self.digests = [hashlib.sha256(token.encode()).digest() for token in tokens]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if (refused := self._refused(scope, headers)) is not None:
            await _answer(send, *refused)
            return
        left = self.largest

        async def limited() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise TooLarge
            return message

        await self.app(scope, limited, send)

    def _refused(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        """Status and reason, if a request is refused by its headers."""
        if scope["path"] not in self.open_paths and not self._allowed(headers.get("authorization", "")):
            return 401, "A token is needed: send the header 'Authorization: Bearer TOKEN'."
        origin = headers.get("origin")
        if origin and urlsplit(origin).netloc != headers.get("host"):
            return 403, "Pages of other sites may not use this server."
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self.largest:
            return 413, too_large(self.largest)
        return None

    def _allowed(self, header: str) -> bool:
        if not self.digests:
            return True
        scheme, _, token = header.partition(" ")
        given = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).digest()
        known = [hmac.compare_digest(given, digest) for digest in self.digests]
        return scheme.lower() == "bearer" and any(known)


def too_large(largest: int) -> str:
    """What to tell a client whose body exceeds the limit."""
    return f"The body is larger than {largest / 1e9:,.2f} GB, the limit of this server (max_upload)."


async def _answer(send: Send, status: int, detail: str) -> None:
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    body = json.dumps({"detail": detail}).encode()
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
