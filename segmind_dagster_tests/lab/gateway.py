"""A gateway against a sandbox, or against a server that answers as a test says."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from segmind_dagster.gateway.client import Gateway
from segmind_dagster.gateway.errors import GatewayError
from segmind_dagster.sandbox import SandboxServer, SandboxSettings
from segmind_dagster.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from segmind_dagster.gateway.wire import HistoryRow
    from segmind_dagster.settings import Settings

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

KEY = SandboxSettings().api_key
HTML = "<html><body>502</body></html>"


class Bench:
    """Runs one piece of asynchronous work with a gateway, and knows where its files go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sink = folder / "sink"
        self.servers: list[SandboxServer] = []

    def sandbox(self, **settings: Any) -> SandboxServer:
        usual = {"picture_mode": "tiny", "fixed_latency_s": 0.0}
        self.servers.append(SandboxServer(SandboxSettings(**{**usual, **settings})).start())
        return self.servers[-1]

    def settings(self, url: str, **variables: str) -> Settings:
        environ = {"SEGMIND_API_URL": url, "SEGMIND_API_KEY": KEY, **variables}
        return load_settings(environ=environ, project_dir=self.folder)

    def run(self, url: str, work: Callable[[Gateway], Awaitable[Any]], **options: Any) -> Any:
        """The result of the work, with a gateway that talks to this address."""
        variables = options.pop("variables", {})

        async def main() -> Any:
            async with Gateway(self.settings(url, **variables), **options) as gateway:
                return await work(gateway)

        return asyncio.run(main())

    def against(self, handler: Handler, work: Callable[[Gateway, str], Awaitable[Any]], **options: Any) -> Any:
        """The same, with a server that answers every request by this handler; the work is told its address."""
        variables = options.pop("variables", {})

        async def main() -> Any:
            async with serving(handler) as url, Gateway(self.settings(url, **variables), **options) as gateway:
                return await work(gateway, url)

        return asyncio.run(main())


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """A server on loopback for as long as the block lasts; its address."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


def answering(*answers: web.Response | Callable[[], web.Response]) -> tuple[Handler, list[web.Request]]:
    """A handler that gives these answers in turn, the last one again and again; and the requests it saw."""
    seen: list[web.Request] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        await request.read()
        answer = answers[min(len(seen), len(answers) - 1)]
        seen.append(request)
        return answer() if callable(answer) else answer

    return handler, seen


def refused_by(bench: Bench, handler: Handler, work: Callable[[Gateway], Awaitable[Any]]) -> GatewayError:
    """The error that some work meets with a server of this handler."""
    with pytest.raises(GatewayError) as raised:
        bench.against(handler, lambda gateway, _: work(gateway))
    return raised.value


def since_an_hour(gateway: Gateway) -> Awaitable[list[HistoryRow]]:
    """What the history holds of the last hour."""
    return gateway.history(since=datetime.now(UTC) - timedelta(hours=1), now=datetime.now(UTC))
