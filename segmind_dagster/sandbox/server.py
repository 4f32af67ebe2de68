"""The sandbox as a running server: its application, a background thread for code, the foreground for people.

Puts parts together and owns their lifetimes. Every request passes one gate: key, then rate limit; what goes wrong on
purpose comes after it.
"""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
import threading
from email.utils import formatdate
from time import time
from typing import TYPE_CHECKING, Any, Self, TypeVar

from aiohttp import web

from segmind_dagster.errors import SettingsError
from segmind_dagster.sandbox import answers, pages
from segmind_dagster.sandbox.account_routes import AccountRoutes
from segmind_dagster.sandbox.fault_answers import ROUTES, rate_limited, spoilt
from segmind_dagster.sandbox.faults import ANSWER_FAULTS
from segmind_dagster.sandbox.gateway_routes import GatewayRoutes
from segmind_dagster.sandbox.output_routes import OutputRoutes
from segmind_dagster.sandbox.settings import SandboxSettings
from segmind_dagster.sandbox.state import SandboxState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from decimal import Decimal
    from types import TracebackType

    from aiohttp.typedefs import Middleware

    from segmind_dagster.sandbox.faults import Faults
    from segmind_dagster.sandbox.lies import Lies

_Answer = TypeVar("_Answer")

_OPEN_PATHS = ("/outputs/", "/assets/", "/sandbox/", "/health")
_MAX_BODY_BYTES = 128 * 2**20
_BACKLOG = 2048
_START_S = 30.0
_LAST_ANSWERS_S = 0.2


def build_app(state: SandboxState) -> web.Application:
    """The application over a state."""

    @web.middleware
    async def gate(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        no_route = request.match_info.http_exception
        if no_route is not None:
            # routing comes before the key: a wrong verb is answered by the web server, as a page
            if no_route.status == web.HTTPMethodNotAllowed.status_code:
                return answers.html_answer(pages.METHOD_NOT_ALLOWED, no_route.status)
            return answers.error_answer(404, "Not Found")
        if request.path.startswith(_OPEN_PATHS):
            return await handler(request)
        if refusal := answers.key_refusal(request, state.settings.api_key):
            return refusal
        if request.method != "GET" or state.settings.rate_counts_gets:
            reset_at = state.rate.refuse_until(state.now())
            if reset_at is not None:
                return rate_limited(reset_at)
        return await handler(request)

    app = web.Application(middlewares=[gate, _spoiler(state)], client_max_size=_MAX_BODY_BYTES)
    for part in (AccountRoutes(state), GatewayRoutes(state), OutputRoutes(state)):
        app.add_routes(part.routes())
    if state.settings.clock is not time:
        app.on_response_prepare.append(_date_of(state.settings.clock))
    return app


def _spoiler(state: SandboxState) -> Middleware:
    @web.middleware
    async def spoiler(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        return _spoilt(state, request) or await handler(request)

    return spoiler


def _spoilt(state: SandboxState, request: web.Request) -> web.Response | None:
    """What a fault makes of a request that submits nothing; None when it is answered as it should be."""
    resource = request.match_info.route.resource
    route = ROUTES.get(resource.canonical) if resource else None
    fault = state.fault_of(route, ANSWER_FAULTS) if route else None
    if route is None or fault is None:
        return None
    nth, reset_at = state.requests[route], state.now() + state.faults.faults.rate_limit_reset_s
    state.requests[route] += 1
    return spoilt(request, fault, route=route, nth=nth, reset_at=reset_at)


class SandboxServer:
    """A sandbox in a background thread; use it as a context manager.

    Args:
        settings: how it behaves; the defaults when None.

    Raises:
        SettingsError: its port is taken, or its state folder cannot be read (on `start`).
    """

    def __init__(self, settings: SandboxSettings | None = None) -> None:
        self.settings = settings or SandboxSettings()
        self._url: str | None = None
        self._state: SandboxState | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Base URL, without a slash at the end."""
        if self._url is None:
            raise RuntimeError("The sandbox has not been started: use it in a with statement, or call start().")
        return self._url

    @property
    def api_key(self) -> str:
        """The key it accepts."""
        return self.settings.api_key

    def start(self) -> Self:
        """Listen; returns once requests are answered."""
        listener = _listen(self.settings)
        try:
            self._state = SandboxState(self.settings)
        except BaseException:
            listener.close()
            raise
        self._url = _url_of(listener, self.settings.host)
        is_ready = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(self._state, listener, is_ready), name="segmind-sandbox", daemon=True
        )
        self._thread.start()
        if not is_ready.wait(_START_S):
            raise RuntimeError(f"The sandbox did not answer at {self._url} within {_START_S:.0f} s of its start.")
        return self

    def stop(self) -> None:
        """Stop listening, write the journal, wait for the thread; does nothing the second time."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        thread.join()

    def account(self, *, jobs: bool = True) -> dict[str, Any]:
        """What `GET /sandbox/account` answers, without HTTP; also after `stop`."""
        return self._in_loop(lambda state: state.account(jobs=jobs))

    def set_faults(self, faults: Faults) -> None:
        """From now on, submissions meet these faults."""
        self._in_loop(lambda state: state.set_faults(faults))

    def set_lies(self, lies: Lies) -> None:
        """From now on, the provider lies like this."""
        self._in_loop(lambda state: state.set_lies(lies))

    def add_credits(self, amount_usd: Decimal) -> None:
        """Raise the balance."""
        self._in_loop(lambda state: state.book.add_credits(amount_usd))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _in_loop(self, ask: Callable[[SandboxState], _Answer]) -> _Answer:
        """Ask in the server's own thread while it runs: the state belongs to its loop."""
        if self._state is None:
            raise RuntimeError("The sandbox has not been started: use it in a with statement, or call start().")
        state, loop = self._state, self._loop
        if self._thread is None or loop is None:
            return ask(state)

        async def asked() -> _Answer:
            return ask(state)

        return asyncio.run_coroutine_threadsafe(asked(), loop).result()

    def _run(self, state: SandboxState, listener: socket.socket, is_ready: threading.Event) -> None:
        async def main() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            await _serve_until(self._stop, state, listener, is_ready.set)

        asyncio.run(main())


def serve(settings: SandboxSettings, announce: Callable[[str], None]) -> None:
    """Run a sandbox in the foreground until SIGINT or SIGTERM.

    Args:
        settings: how it behaves.
        announce: called with the URL once requests are answered.

    Raises:
        SettingsError: its port is taken, or its state folder cannot be read.
    """
    listener = _listen(settings)
    url = _url_of(listener, settings.host)

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await _serve_until(stop, state, listener, lambda: announce(url))

    with listener:
        state = SandboxState(settings)
        asyncio.run(main())


async def _serve_until(
    stop: asyncio.Event, state: SandboxState, listener: socket.socket, on_ready: Callable[[], None]
) -> None:
    runner = web.AppRunner(build_app(state), access_log=None, shutdown_timeout=_LAST_ANSWERS_S)
    await runner.setup()
    try:
        await web.SockSite(runner, listener, backlog=_BACKLOG).start()
        on_ready()
        await stop.wait()
    finally:
        await runner.cleanup()
        state.close()


def _listen(settings: SandboxSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise SettingsError(
            "port",
            f"port {settings.port} on {settings.host} is in use, perhaps by another sandbox; "
            "stop that one, or choose another port (0 lets the system choose)",
        ) from error


def _url_of(listener: socket.socket, host: str) -> str:
    return (
        f"http://[{host}]:{listener.getsockname()[1]}" if ":" in host else f"http://{host}:{listener.getsockname()[1]}"
    )


def _date_of(clock: Callable[[], float]) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    async def set_date(_: web.Request, response: web.StreamResponse) -> None:
        response.headers["Date"] = formatdate(clock(), usegmt=True)

    return set_date
