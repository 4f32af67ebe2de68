"""Which addresses in an answer are believed: hosts by name, and what a name resolves to at the moment of connecting.

Outputs are fetched from, and uploaded inputs are named at, Segmind's hosts and those that the settings list. A name on
the list may point anywhere, and elsewhere a second later: what `PublicResolver` checks is what is connected to.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from aiohttp.abc import AbstractResolver
from aiohttp.resolver import DefaultResolver

from segmind_dagster.errors import OutputError
from segmind_dagster.gateway.redaction import without_query

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aiohttp.abc import ResolveResult

    from segmind_dagster.settings import Settings

_HTTPS = 443


class KnownHosts:
    """The hosts that an address in an answer may name.

    Args:
        settings: our own API, and the allow-list.
    """

    def __init__(self, settings: Settings) -> None:
        self._own = frozenset(_origin(url) for url in (settings.api_url, settings.storage_url))
        self._api = _origin(settings.api_url)
        self._listed = frozenset(settings.output_hosts)

    def check(self, url: str) -> None:
        """Refuse an address that an output is not to be fetched from.

        Raises:
            OutputError: it is not allowed; the message says why.
        """
        parts = _split(url)
        names = {(parts.hostname or "").lower(), parts.netloc.lower()}
        if not names & {self._api[1], *self._listed}:
            raise OutputError(
                f"its host {parts.hostname!r} is not among the allowed ones; if it is right, add it to "
                "SEGMIND_OUTPUT_HOSTS",
                is_permanent=True,
            )
        if parts.username is not None or parts.password is not None or parts.port == 0:
            raise OutputError("its address carries a user name, or no real port", is_permanent=True)
        if parts.scheme != "https" and _origin(url) != self._api:
            raise OutputError(f"its address is not https: {without_query(url)}", is_permanent=True)

    def check_upload(self, url: str) -> None:
        """Refuse an address that an input is not to be named at: the body it goes into is paid for.

        Raises:
            OutputError: it is not allowed; the message says why.
        """
        if not url.isascii() or not url.isprintable() or set(url) & set(" \\<>\"'"):
            raise OutputError("its address holds characters that no address holds", is_permanent=True)
        if _origin(url) in self._own and "@" not in _split(url).netloc:
            return
        self.check(url)
        parts = _split(url)
        if parts.port not in {None, _HTTPS} and parts.netloc.lower() not in self._listed:
            raise OutputError(f"its address has the port {parts.port}", is_permanent=True)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
        url.encode()  # half of a surrogate pair, which JSON can hold, is no character
    except ValueError as error:
        raise OutputError("its address is not a URL", is_permanent=True) from error
    return parts


def _origin(url: str) -> tuple[str, str]:
    parts = _split(url)
    return parts.scheme, parts.netloc.lower()


class PublicResolver(AbstractResolver):
    """Resolves names to public addresses only, except those of our own API and addresses that are listed.

    Args:
        settings: our own hosts, and the allow-list, which may hold addresses and networks.
        inner: looks names up; the system's resolver when omitted.
    """

    def __init__(self, settings: Settings, *, inner: AbstractResolver | None = None) -> None:
        self._inner = inner or DefaultResolver()
        own = (settings.api_url, settings.platform_url, settings.storage_url)
        self._own_hosts = frozenset(urlsplit(url).hostname for url in own)
        self._listed = tuple(_networks(settings.output_hosts))

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a host that may be connected to.

        Raises:
            OutputError: it has none but private ones.
        """
        found = await self._inner.resolve(host, port, family)
        if host.lower() in self._own_hosts:
            return found
        allowed = [each for each in found if self._is_allowed(each["host"])]
        if found and not allowed:
            raise OutputError(
                f"its host {host!r} has the private address {found[0]['host']}; if that is right, add this address to "
                "SEGMIND_OUTPUT_HOSTS as well",
                is_permanent=True,
            )
        return allowed

    async def close(self) -> None:
        """Let go of the resolver inside."""
        await self._inner.close()

    def _is_allowed(self, text: str) -> bool:
        address = ip_address(text)
        if isinstance(address, IPv6Address):
            # the same machine by another name
            address = address.ipv4_mapped or address.sixtofour or address
        is_public = address.is_global and not address.is_multicast
        return is_public or any(address.version == each.version and address in each for each in self._listed)


def _networks(entries: Iterable[str]) -> Iterator[IPv4Network | IPv6Network]:
    for entry in entries:
        for text in (entry, urlsplit(f"//{entry}").hostname or ""):
            try:
                yield ip_network(text, strict=False)
            except ValueError:
                continue
