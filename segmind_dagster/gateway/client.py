"""The asynchronous client for generation: POSTs that may cost money are sent once, GETs are repeated.

Every failure leaves as a `GatewayError` whose kind says what it means; nothing here decides what to do next.
Only the paths are ours: addresses of jobs are built from the request id, never taken from an answer, and
outputs are fetched from allow-listed hosts only.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import aiohttp

from segmind_dagster.errors import OutputError
from segmind_dagster.gateway import wire
from segmind_dagster.gateway.addresses import KnownHosts, PublicResolver
from segmind_dagster.gateway.answers import (
    ANSWER_LIMIT_BYTES,
    get_failure,
    is_request_id,
    name_of,
    parse,
    read_limited,
    request_id_of,
    reset_s,
)
from segmind_dagster.gateway.errors import (
    GatewayError,
    NotSentError,
    UnnamedAnswerError,
    UnreachableError,
    error_text,
    kind_of,
)
from segmind_dagster.gateway.fetching import Fetcher, Received
from segmind_dagster.gateway.history import read_history
from segmind_dagster.gateway.pace import Pace
from segmind_dagster.gateway.redaction import redactor_of
from segmind_dagster.gateway.repeating import repeated

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime
    from decimal import Decimal
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from aiohttp.abc import AbstractStreamWriter

    from segmind_dagster.lifecycle.matching import HistoryRow
    from segmind_dagster.registry import Model
    from segmind_dagster.settings import Settings

_Answer = TypeVar("_Answer")
_CONNECTIONS = 400
_SUBMIT_TIMEOUT_S = 60.0
_GET_TIMEOUT_S = 30.0
_CONNECT_TIMEOUT_S = 10.0
_GET = aiohttp.ClientTimeout(total=_GET_TIMEOUT_S, sock_connect=_CONNECT_TIMEOUT_S)
# the first question must not keep a run from beginning
_KNOCK = aiohttp.ClientTimeout(total=4.0, sock_connect=3.0)


class Gateway:
    """A session with Segmind; use it as an asynchronous context manager.

    Args:
        settings: addresses, key and allow-listed hosts.
        max_output_bytes: largest output that is accepted.
        submit_timeout_s: how long a v2 submission may take.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        max_output_bytes: int = 1 << 30,
        submit_timeout_s: float = _SUBMIT_TIMEOUT_S,
    ) -> None:
        self._settings = settings
        self._key = settings.require_api_key()
        self._redactor = redactor_of(settings)
        self._fetcher = Fetcher(settings, self._redactor, max_output_bytes=max_output_bytes)
        self._submit_timeout_s = submit_timeout_s
        self._hosts = KnownHosts(settings)
        self._pace = Pace()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            # connections are reused; v2 jobs in flight hold none, so this bounds sockets, not work
            connector=aiohttp.TCPConnector(
                limit=_CONNECTIONS, ttl_dns_cache=300, resolver=PublicResolver(self._settings)
            ),
            timeout=_GET,
            auto_decompress=True,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def submit(
        self, model: Model, body: Mapping[str, Any], sink: Path, *, may_send: Callable[[], bool] = lambda: True
    ) -> wire.Answer:
        """Send one POST, once.

        Args:
            model: what to call.
            body: as it is sent.
            sink: file for the output, should it come in the same exchange.
            may_send: asked when there is a connection, right before the first byte goes out.

        Raises:
            NotSentError: `may_send` said no.
            GatewayError: anything but a readable acceptance; its kind says whether it may have been charged.
        """
        is_sync = model.api_version == "v1"
        url = f"{self._settings.api_url}/{model.api_version}/{quote(model.slug, safe='')}"
        timeout_s = self._settings.v1_timeout_seconds if is_sync else self._submit_timeout_s
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=_CONNECT_TIMEOUT_S)
        what = f"POST {url}"
        payload = _Withholding(json.dumps(body, ensure_ascii=False).encode(), may_send)
        try:
            async with self._http.post(
                url,
                data=payload,
                headers={"x-api-key": self._key, "Content-Type": "application/json"},
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                if response.status == 200 and is_sync:  # noqa: PLR2004  HTTP
                    return await self._accept_sync(model, response, sink, what)
                answer = await read_limited(response)
                request_id = request_id_of(answer) if 200 <= response.status < 300 else None  # noqa: PLR2004  HTTP
                if request_id is None:
                    raise self._refusal(what, response, answer)
                return wire.Answer(status="pending", request_id=request_id, http_status=response.status)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise GatewayError("connect_error", self._say(f"{what}: no connection ({name_of(error)}).")) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if payload.is_withheld:
                raise NotSentError("connect_error", f"{what}: held back before anything was sent.") from None
            raise GatewayError(
                "unknown_outcome", self._say(f"{what}: sent, but no answer came back ({name_of(error)}).")
            ) from None

    async def status(self, request_id: str) -> wire.Answer:
        """The state of a job.

        Raises:
            GatewayError: `expired` when the record is gone; another kind when it could not be read.
        """
        return await self._job(f"/v2/requests/{quote(request_id, safe='')}/status")

    async def result(self, request_id: str) -> wire.Answer:
        """The result of a finished job; raises as `status` does."""
        return await self._job(f"/v2/requests/{quote(request_id, safe='')}")

    async def credits_usd(self) -> Decimal | None:
        """The balance, free credits included; None when the answer is not understood.

        It is the first thing asked, so that a host which is not there is said within seconds.

        Raises:
            UnreachableError: there is no connection to the host.
            GatewayError: it could not be read.
        """
        _, document = await self._get(f"{self._settings.api_url}/v1/get-user-credits", is_knock=True)
        found = wire.read_credits(document)
        return None if found is None else found.balance_usd

    async def history(self, *, since: datetime, now: datetime, is_whole: bool = True) -> list[HistoryRow]:
        """The account's requests since a moment, newest first, each once; see `gateway.history`.

        Raises:
            GatewayError: the history could not be read, not whole, or was not understood.
        """
        rows = await read_history(self._get, self._settings.platform_url, since=since, now=now, is_whole=is_whole)
        return [self._as_shown(row) for row in rows]

    async def history_row(self, request_id: str) -> HistoryRow | None:
        """What the history remembers of a request, if it does."""
        url = f"{self._settings.platform_url}/inference-request/request-history/{quote(request_id, safe='')}"
        status, document = await self._get(url)
        row = wire.read_history_row(document) if status == 200 else None  # noqa: PLR2004  HTTP
        # a server that ignored the id must not hand us the output of another request
        return self._as_shown(row) if row is not None and row.request_id == request_id else None

    async def upload(self, data_url: str) -> str:
        """Store an input file (`data:image/png;base64,...`) with Segmind and return its address; storing costs nothing.

        Raises:
            GatewayError: it was not stored, or at an address that is not to be put into a body that is paid for.
        """
        url = f"{self._settings.storage_url}/upload-asset"

        async def once() -> str:
            status, answer, _ = await self._exchange("POST", url, payload={"data_urls": [data_url]})
            addresses = wire.read_file_urls(parse(answer))
            if status >= 300 or not addresses:  # noqa: PLR2004  HTTP
                raise get_failure(f"POST {url}", status, answer, {}, self._redactor)
            try:
                self._hosts.check_upload(addresses[0])
            except OutputError as error:
                raise GatewayError(
                    "invalid_request", self._say(f"POST {url}: the upload is named at {addresses[0]!r}, but {error}.")
                ) from None
            return addresses[0]

        return await self._repeated(once)

    async def fetch(self, url: str, sink: Path) -> str:
        """Stream an output to a file, whole; on failure the file is left as it is.

        Returns the digest of the bytes.

        Raises:
            OutputError: the host is not allowed, or what came is not whole.
            GatewayError: `expired` when it is gone, else a kind that fetching again may cure.
        """
        # from other hosts, at their own rate
        return await repeated(lambda: self._fetcher.fetch_once(self._http, url, sink))

    @property
    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("Gateway is used outside its `async with` block.")
        return self._session

    async def _accept_sync(self, model: Model, response: aiohttp.ClientResponse, sink: Path, what: str) -> wire.Answer:
        request_id = response.headers.get("x-request-id")
        if not is_request_id(request_id):
            raise await self._unnamed(response, sink, what)
        answer = wire.Answer(
            status="completed", request_id=request_id, http_status=200, accounting=wire.read_headers(response.headers)
        )
        try:
            sha256 = await self._fetcher.stream(response, sink)
        except (OutputError, aiohttp.ClientError, TimeoutError, OSError) as error:
            # it is charged: the request id is what counts, and the history names the file
            reason = error if isinstance(error, OutputError) else OutputError(f"it broke off ({name_of(error)})")
            refused = Received(path=sink, reason=reason.reason, is_cut=reason.is_cut, is_only_copy=True)
            return replace(answer, received=refused)
        if model.output == "text" and (text := await asyncio.to_thread(_text_in, sink)) is not None:
            return replace(answer, output_text=text)
        return replace(answer, received=Received(path=sink, sha256=sha256, is_only_copy=True))

    async def _unnamed(self, response: aiohttp.ClientResponse, sink: Path, what: str) -> UnnamedAnswerError:
        """An answer that names no request; what came with it may be what was paid for."""
        is_cut = False
        try:
            await self._fetcher.stream(response, sink)
        except OutputError as error:
            is_cut = error.is_cut
        except (aiohttp.ClientError, TimeoutError, OSError):
            pass
        return UnnamedAnswerError(self._say(f"{what}: answered 200 without an x-request-id."), is_cut=is_cut)

    async def _job(self, path: str) -> wire.Answer:
        url = f"{self._settings.api_url}{path}"

        async def once() -> wire.Answer:
            status, answer, headers = await self._exchange("GET", url)
            job = wire.read_job(parse(answer))
            # a failed job answers 422 with its own body (SDK 1.3.0, v2.py)
            if job is not None and (status == 200 or job.status == "failed"):  # noqa: PLR2004  HTTP
                return replace(job, error=self._redactor.short(job.error)) if job.error else job
            if status == 404:  # noqa: PLR2004  HTTP
                raise GatewayError("expired", f"GET {url}: the record is gone.", http_status=status)
            raise get_failure(f"GET {url}", status, answer, headers, self._redactor)

        return await self._repeated(once)

    async def _get(
        self, url: str, query: Mapping[str, str] | None = None, *, is_knock: bool = False
    ) -> tuple[int, Any]:
        async def once() -> tuple[int, Any]:
            status, answer, headers = await self._exchange("GET", url, query=query, within=_KNOCK if is_knock else _GET)
            if status in {200, 404}:
                return status, parse(answer)
            raise get_failure(f"GET {url}", status, answer, headers, self._redactor)

        return await self._repeated(once, is_knock=is_knock)

    async def _exchange(
        self,
        method: str,
        url: str,
        *,
        query: Mapping[str, str] | None = None,
        payload: Any = None,
        within: aiohttp.ClientTimeout = _GET,
    ) -> tuple[int, bytes, Mapping[str, str]]:
        try:
            async with self._http.request(
                method,
                url,
                params=query,
                json=payload,
                headers={"x-api-key": self._key},
                timeout=within,
                allow_redirects=False,
            ) as response:
                return response.status, await read_limited(response), response.headers
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise UnreachableError(
                "connect_error", self._say(f"{method} {url}: no connection ({name_of(error)}).")
            ) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise GatewayError("connect_error", self._say(f"{method} {url}: no answer ({name_of(error)}).")) from None

    def _refusal(self, what: str, response: aiohttp.ClientResponse, answer: bytes) -> GatewayError:
        kind = kind_of(response.status, answer)
        said = self._redactor.short(error_text(answer)) or "nothing"
        return GatewayError(
            kind,
            self._say(f"{what}: answered {response.status}: {said}"),
            http_status=response.status,
            reset_s=reset_s(response.headers) if kind == "rate_limited" else None,
        )

    def _as_shown(self, row: HistoryRow) -> HistoryRow:
        return replace(row, error=self._redactor.short(row.error)) if row.error else row

    def _say(self, message: str) -> str:
        return self._redactor.text(message)

    async def _repeated(self, once: Callable[[], Awaitable[_Answer]], *, is_knock: bool = False) -> _Answer:
        return await repeated(once, pace=self._pace, is_knock=is_knock)


class _Withholding(aiohttp.BytesPayload):
    """A body that asks once more before it goes out: waiting for a connection may take a while."""

    def __init__(self, content: bytes, may_send: Callable[[], bool]) -> None:
        super().__init__(content)
        self._may_send = may_send
        self.is_withheld = False

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        # the headers wait for the body, so that nothing has gone out yet
        if not self._may_send():
            self.is_withheld = True
            raise ConnectionAbortedError("held back")
        await super().write_with_length(writer, content_length)


def _text_in(path: Path) -> str | None:
    """An answer as text; None when it is too long to be one."""
    if path.stat().st_size > ANSWER_LIMIT_BYTES:
        return None
    return path.read_bytes().decode("utf-8", errors="replace")
