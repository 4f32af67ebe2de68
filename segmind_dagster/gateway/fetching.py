"""Brings output bytes home: from allow-listed hosts only, streamed to a file, within bounds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import aiohttp

from segmind_dagster.errors import OutputError
from segmind_dagster.gateway.addresses import KnownHosts
from segmind_dagster.gateway.answers import get_failure, name_of
from segmind_dagster.gateway.errors import GatewayError
from segmind_dagster.gateway.redaction import without_query

if TYPE_CHECKING:
    from pathlib import Path

    from segmind_dagster.gateway.redaction import Redactor
    from segmind_dagster.settings import Settings

_CHUNK_BYTES = 1 << 16
_MAX_REDIRECTS = 3
FETCH_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """Bytes that were paid for, in a local file.

    Args:
        path: the file.
        sha256: their digest, when they came whole.
        reason: why they are refused, if they are.
        is_cut: whether there were more of them than are accepted.
        is_only_copy: whether they came with the answer to a POST (v1), so that they cannot be fetched again.
    """

    path: Path
    sha256: str | None = None
    reason: str | None = None
    is_cut: bool = False
    is_only_copy: bool = False


class Fetcher:
    """Fetches outputs.

    Args:
        settings: API address and allow-listed hosts.
        redactor: takes the key out of messages.
        max_output_bytes: largest output that is accepted.
    """

    def __init__(self, settings: Settings, redactor: Redactor, *, max_output_bytes: int) -> None:
        self._redactor = redactor
        self._max_output_bytes = max_output_bytes
        self._hosts = KnownHosts(settings)

    async def fetch_once(self, session: aiohttp.ClientSession, url: str, sink: Path) -> str:
        """Stream an output to a file, whole.

        Args:
            session: for the request.
            url: where it is.
            sink: file to write; on failure it is left as it is.

        Returns the digest of the bytes.

        Raises:
            OutputError: the host is not allowed, or what came is not whole.
            GatewayError: `expired` when it is gone, else a kind that fetching again may cure.
        """
        for _ in range(_MAX_REDIRECTS + 1):
            self._hosts.check(url)
            shown = without_query(url)
            try:
                async with session.get(
                    url,
                    allow_redirects=False,
                    # compressed media gain nothing, and an archive that breaks off may unpack without a complaint
                    headers={"Accept-Encoding": "identity"},
                    timeout=aiohttp.ClientTimeout(total=FETCH_TIMEOUT_S, sock_read=30),
                ) as response:
                    if response.status in {301, 302, 303, 307, 308} and "location" in response.headers:
                        url = _joined(url, response.headers["location"])
                        continue
                    if response.status in {403, 404, 410}:
                        raise GatewayError(
                            "expired", f"GET {shown}: answered {response.status}.", http_status=response.status
                        )
                    if response.status != 200:  # noqa: PLR2004  HTTP
                        raise get_failure(f"GET {shown}", response.status, b"", response.headers, self._redactor)
                    return await self.stream(response, sink)
            except (aiohttp.ClientError, TimeoutError) as error:
                # the client's own messages may repeat the address, signature included
                said = self._redactor.text(f"GET {shown}: no answer ({name_of(error)}).")
                raise GatewayError("connect_error", said) from None
        raise OutputError(f"more than {_MAX_REDIRECTS} redirects", is_permanent=True)

    async def stream(self, response: aiohttp.ClientResponse, sink: Path) -> str:
        """Write an answer's bytes to a file while they come, counting and digesting them.

        What came stays in the file when it is refused, up to the limit: it was paid for, and goes to the quarantine.

        Returns their digest.

        Raises:
            OutputError: they are too many, or fewer than announced.
        """
        digest = hashlib.sha256()
        size = 0
        announced = response.headers.get("content-length", "")
        try:
            with sink.open("wb") as file:
                async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                    if size + len(chunk) > self._max_output_bytes:
                        file.write(chunk[: self._max_output_bytes - size])
                        raise OutputError(
                            f"larger than {self._max_output_bytes} bytes, and cut there", is_permanent=True, is_cut=True
                        )
                    size += len(chunk)
                    digest.update(chunk)
                    file.write(chunk)
        except (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError) as error:
            raise OutputError(f"truncated after {size} bytes") from error
        if announced.isdecimal() and int(announced) != size and not response.headers.get("content-encoding"):
            raise OutputError(f"{size} bytes came, {announced} were announced")
        return digest.hexdigest()


def _joined(base: str, location: str) -> str:
    try:
        return urljoin(base, location)
    except ValueError as error:
        raise OutputError("it redirects to what is not a URL", is_permanent=True) from error
