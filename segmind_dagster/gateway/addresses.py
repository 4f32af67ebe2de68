"""Refuses output hosts that resolve to private addresses, at the moment of connecting.

A name on the list may point anywhere, and elsewhere a second later: what is checked here is what is connected to.
Which names are on the list is decided in `fetching`.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver
from aiohttp.resolver import DefaultResolver

from segmind_dagster.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aiohttp.abc import ResolveResult

    from segmind_dagster.settings import Settings


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
