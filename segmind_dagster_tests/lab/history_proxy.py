"""Segmind's platform between runner and sandbox, with a history that can be broken, emptied or reshaped."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable


class HistoryProxy:
    """Forwards GETs to the sandbox; `answer` may replace what the history says, `status` breaks it.

    Args:
        target: URL of the sandbox.
    """

    def __init__(self, target: str) -> None:
        self.url = ""
        self.status = 200
        self.answer: Callable[[Any], Any] = lambda document: document
        self.seen: list[dict[str, str]] = []
        self._target = target
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

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
        app.router.add_get("/{path:.*}", self._forward)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _forward(self, request: web.Request) -> web.Response:
        self.seen.append(dict(request.query))
        if self.status != 200:
            return web.Response(text="<html>Bad Gateway</html>", status=self.status, content_type="text/html")
        headers = {"x-api-key": request.headers["x-api-key"]}
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self._target}{request.path}", params=request.query, headers=headers) as response,
        ):
            return web.json_response(self.answer(await response.json()), status=response.status)
