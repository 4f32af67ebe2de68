"""Something between us and the sandbox, with answers that a test may replace."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable


class PlatformProxy:
    """Forwards to the sandbox; what `answers` holds for a path replaces the text of the answer.

    Args:
        target: URL of the sandbox.
    """

    def __init__(self, target: str) -> None:
        self.url = ""
        self.answers: dict[str, Callable[[Any], str]] = {}
        self.queries: list[dict[str, str]] = []
        self._target = target
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def replace(self, path: str, document: Any) -> None:
        """From now on, answer that path with this; a text as it is, anything else as JSON."""
        self.answers[path] = lambda _: document if isinstance(document, str) else json.dumps(document)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._forward)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _forward(self, request: web.Request) -> web.Response:
        self.queries.append(dict(request.query))
        wanted = ("x-api-key", "Content-Type", "Host")
        headers = {name: request.headers[name] for name in wanted if name in request.headers}
        url = f"{self._target}{request.path}"
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                request.method, url, params=request.query, headers=headers, data=await request.read()
            ) as response,
        ):
            body, kind, status = await response.read(), response.content_type, response.status
        if (answer := self.answers.get(request.path)) is not None:
            body = answer(json.loads(body) if kind == "application/json" else body).encode()
        return web.Response(body=body, status=status, content_type=kind)
