"""A gateway between runner and sandbox that lies about outputs: what it serves in their place, what it says of them."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Serve = Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]


class OutputProxy:
    """Forwards everything to the sandbox.

    `serve` holds what the next fetches of outputs get, the last one for all that follow; none is the file itself.
    `say` changes what a job's result says, before it is passed on.

    Args:
        target: URL of the sandbox.
    """

    def __init__(self, target: str) -> None:
        self.url = ""
        self.serve: list[Serve | None] = [None]
        self.say: Callable[[dict[str, Any]], Any] = lambda document: document
        self.fetches = 0
        self._target = target
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", "/{path:.*}", self._forward)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession() as self._session:
            self._ready.set()
            await self._stop.wait()
        await runner.cleanup()

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        wanted = ("x-api-key", "Content-Type", "Host")
        headers = {name: request.headers[name] for name in wanted if name in request.headers}
        async with self._session.request(
            request.method, f"{self._target}{request.path_qs}", headers=headers, data=await request.read()
        ) as response:
            body, kind, status = await response.read(), response.content_type, response.status
            passed = {name: value for name, value in response.headers.items() if name.lower().startswith("x-")}
        if request.path.startswith("/outputs/"):
            self.fetches += 1
            serve = self.serve.pop(0) if len(self.serve) > 1 else self.serve[0]
            if serve is not None:
                return await serve(request, body)
        if request.method == "GET" and request.path.startswith("/v2/requests/") and kind == "application/json":
            return web.json_response(self.say(await response.json()), status=status)
        return web.Response(body=body, status=status, content_type=kind, headers=passed)


def answer(body: bytes, **options: Any) -> Serve:
    """Serves these bytes."""

    async def serve(_request: web.Request, _content: bytes) -> web.StreamResponse:
        return web.Response(body=body, **options)

    return serve


def sends_to(location: str) -> Serve:
    """Sends whoever fetches elsewhere."""
    return answer(b"", status=302, headers={"Location": location})
