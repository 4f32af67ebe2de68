"""Sandboxes with tiny pictures, and code locations for a project each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import dagster as dg
import pytest
from lab.dagster_project import DagsterLab

from segmind_dagster.sandbox import SandboxServer, SandboxSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class OpenLab(Protocol):
    """The fixture `open_lab`: a sandbox with these settings, and a code location for it."""

    def __call__(self, **sandbox: Any) -> DagsterLab: ...


@pytest.fixture
def open_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenLab]:
    servers: list[SandboxServer] = []
    with dg.DagsterInstance.ephemeral() as instance:

        def opened(**sandbox: Any) -> DagsterLab:
            usual = {"picture_mode": "tiny", "fixed_latency_s": 0.02}
            servers.append(SandboxServer(SandboxSettings(**{**usual, **sandbox})).start())
            monkeypatch.setenv("SEGMIND_API_KEY", servers[-1].api_key)
            monkeypatch.setenv("SEGMIND_REQUESTS_PER_MINUTE", "60000")
            monkeypatch.setenv("SEGMIND_UNKNOWN_SETTLE_SECONDS", "0.15")
            monkeypatch.setenv("SEGMIND_V1_TIMEOUT_SECONDS", "3")
            return DagsterLab(servers[-1], tmp_path / f"project{len(servers)}", instance)

        yield opened
    for server in servers:
        server.stop()


@pytest.fixture
def lab(open_lab: OpenLab) -> DagsterLab:
    return open_lab()
