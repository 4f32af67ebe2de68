"""A sandbox on loopback with its clock in the test's hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from lab.sandbox import Client, Clock, Start

from segmind_dagster.sandbox import SandboxServer, SandboxSettings

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def start(clock: Clock) -> Iterator[Start]:
    """Starts sandboxes with a stopped clock, tiny pictures and jobs of 10 s unless told otherwise."""
    servers: list[SandboxServer] = []

    def started(**settings: Any) -> Client:
        usual = {"clock": clock, "picture_mode": "tiny", "fixed_latency_s": 10.0}
        servers.append(SandboxServer(SandboxSettings(**{**usual, **settings})).start())
        return Client(servers[-1])

    yield started
    for server in servers:
        server.stop()
