"""A project against a sandbox with tiny pictures and short jobs, whose ledger can be lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pytest
from lab.recovery_project import Lab

from segmind_dagster.gateway import repeating
from segmind_dagster.sandbox import SandboxServer, SandboxSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class OpenLab(Protocol):
    """The fixture `open_lab`: a sandbox with these settings, and a project for it."""

    def __call__(self, *, environ: dict[str, str] | None = None, **sandbox: Any) -> Lab: ...


@pytest.fixture
def open_lab(tmp_path: Path) -> Iterator[OpenLab]:
    servers: list[SandboxServer] = []

    def opened(*, environ: dict[str, str] | None = None, **sandbox: Any) -> Lab:
        usual = {"picture_mode": "tiny", "fixed_latency_s": 0.02, "price_jitter": True}
        servers.append(SandboxServer(SandboxSettings(**{**usual, **sandbox})).start())
        return Lab(servers[-1], tmp_path / f"project{len(servers)}", **(environ or {}))

    yield opened
    for server in servers:
        server.stop()


@pytest.fixture
def lab(open_lab: OpenLab) -> Lab:
    return open_lab()


@pytest.fixture(autouse=True)
def _gets_are_repeated_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway backs off on the real clock: here it need not."""
    monkeypatch.setattr(repeating, "_BACK_OFF", lambda _state: 0.005)
