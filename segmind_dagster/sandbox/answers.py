"""The small parts of which answers are made: JSON, the error envelope, pages, and connections that break."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping

HANG_S = 600.0
_HANG_CHECK_S = 0.05


def json_answer(payload: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON body."""
    body = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


def error_answer(status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """The error envelope `{"error": message}`."""
    return json_answer({"error": message}, status, headers)


def html_answer(page: str, status: int = 200) -> web.Response:
    """An HTML page."""
    return web.Response(text=page, status=status, content_type="text/html")


def reset(request: web.Request) -> web.Response:
    """Close the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def hang(request: web.Request) -> web.Response:
    """Say nothing until the client goes away, or `HANG_S` have passed."""
    for _ in range(int(HANG_S / _HANG_CHECK_S)):
        if request.transport is None or request.transport.is_closing():
            break
        await asyncio.sleep(_HANG_CHECK_S)
    return reset(request)


def key_refusal(request: web.Request, api_key: str) -> web.Response | None:
    """The 401 for a request without the right `x-api-key`; None when the key is right."""
    given = request.headers.get("x-api-key")
    if given == api_key:
        return None
    if given is None and "Authorization" not in request.headers:
        return error_answer(401, "Missing Authorization or x-api-key in header")
    return unauthorized()


def unauthorized() -> web.Response:
    """The 401 for a key that is not valid."""
    return error_answer(401, "Unauthorized. API key is invalid or may have expired. Please check your API key.")
