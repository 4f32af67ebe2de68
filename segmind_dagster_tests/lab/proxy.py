"""A server between product and sandbox, in a thread of its own, whose answers a test alters, breaks or replaces.

Faults of the sandbox itself (its `Faults`) are not told again here: the proxy is for a provider that lies.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    Change = Callable[[Any], Any]
    Serve = Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]

# the beginnings of paths: the request history and each of its rows, polls and results of jobs, output files
HISTORY, JOBS, OUTPUTS = "/inference-request/request-history", "/v2/requests/", "/outputs/"
_BROKEN = "<html>Bad Gateway</html>"
_TOLD = ("x-", "date", "retry-after")


@dataclass(frozen=True)
class _Answer:
    status: int
    body: bytes
    content_type: str
    headers: dict[str, str]


class Proxy:
    """Forwards everything to the sandbox; use it as a context manager.

    Args:
        target: URL of the sandbox.
        is_platform: only the platform is asked through it, so that answers name the sandbox's own addresses.

    Attributes:
        answers: by the beginning of a path, what makes another answer of the sandbox's. It gets the document, or
            bytes that are no JSON; a text that it returns is sent as it is, all else as JSON.
        statuses: by the beginning of a path, the HTTP status; without an answer of its own it brings an HTML page.
        outputs: what the fetches of each output file get in turn, the last one for all that follow; None is the
            file itself.
        withheld: headers, in lower case, that no answer has.
        fetches: how many output files were asked for.
        queries: the query of every request.
        asked: method and path of every request.
    """

    def __init__(self, target: str, *, is_platform: bool = False) -> None:
        self.url = ""
        self.answers: dict[str, Change] = {}
        self.statuses: dict[str, int] = {}
        self.outputs: list[Serve | None] = [None]
        self.withheld: set[str] = set()
        self.fetches = 0
        self._fetches: Counter[str] = Counter()
        self.queries: list[dict[str, str]] = []
        self.asked: list[str] = []
        self._target = target
        self._passed_on = ("x-api-key", "Content-Type", *(() if is_platform else ("Host",)))
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def replace(self, path: str, document: Any) -> None:
        """From now on, answer that path with this."""
        self.answers[path] = lambda _: document

    def tell_the_truth(self) -> None:
        """From now on, every answer is the sandbox's."""
        self.answers.clear()
        self.statuses.clear()
        self.outputs = [None]

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
        self.queries.append(dict(request.query))
        self.asked.append(f"{request.method} {request.path}")
        answer = await self._asked_of_the_sandbox(request)
        if request.path.startswith(OUTPUTS):
            self.fetches += 1
            serve = self.outputs[min(self._fetches[request.path], len(self.outputs) - 1)]
            self._fetches[request.path] += 1
            if serve is not None:
                return await serve(request, answer.body)
        status, change = _of(self.statuses, request.path), _of(self.answers, request.path)
        if change is not None:
            is_json = answer.content_type == "application/json"
            said = change(json.loads(answer.body) if is_json else answer.body)
            text = said if isinstance(said, str) else json.dumps(said)
            return web.Response(text=text, status=status or answer.status, content_type=answer.content_type)
        if status is not None:
            return web.Response(text=_BROKEN, status=status, content_type="text/html")
        return web.Response(
            body=answer.body, status=answer.status, content_type=answer.content_type, headers=answer.headers
        )

    async def _asked_of_the_sandbox(self, request: web.Request) -> _Answer:
        headers = {name: request.headers[name] for name in self._passed_on if name in request.headers}
        async with self._session.request(
            request.method, f"{self._target}{request.path_qs}", headers=headers, data=await request.read()
        ) as response:
            told = {
                name: value
                for name, value in response.headers.items()
                if name.lower().startswith(_TOLD) and name.lower() not in self.withheld
            }
            return _Answer(response.status, await response.read(), response.content_type, told)


def _of(by_path: dict[str, Any], path: str) -> Any:
    return next((value for beginning, value in by_path.items() if path.startswith(beginning)), None)


def serving(body: bytes, **options: Any) -> Serve:
    """Serves these bytes in place of an output file."""

    async def serve(_request: web.Request, _content: bytes) -> web.StreamResponse:
        return web.Response(body=body, **options)

    return serve


def first_file(body: bytes) -> Serve:
    """Serves these bytes for the file that is asked for first, as often as it is; all others as they are."""
    first: list[str] = []

    async def serve(request: web.Request, content: bytes) -> web.StreamResponse:
        first.append(request.path)
        return web.Response(body=body if request.path == first[0] else content)

    return serve


def once_each(bodies: Iterable[bytes]) -> Serve:
    """Serves these bytes, one for each of the first files, to the first fetch of it; all else as it is."""
    left, seen = iter(bodies), set[str]()

    async def serve(request: web.Request, content: bytes) -> web.StreamResponse:
        if request.path in seen:
            return web.Response(body=content)
        seen.add(request.path)
        return web.Response(body=next(left, content))

    return serve


def sending_to(location: str) -> Serve:
    """Sends whoever fetches an output file elsewhere."""
    return serving(b"", status=302, headers={"Location": location})
