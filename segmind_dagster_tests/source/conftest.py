"""Sandboxes with tiny pictures, and projects with a warehouse of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pytest
from lab.platform_proxy import PlatformProxy
from lab.source_project import Project

from segmind_dagster.sandbox import SandboxServer, SandboxSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class OpenProject(Protocol):
    """The fixture `open_project`: a sandbox with these settings, and a project for it."""

    def __call__(self, **sandbox: Any) -> Project: ...


@pytest.fixture
def open_project(tmp_path: Path) -> Iterator[OpenProject]:
    servers: list[SandboxServer] = []

    def opened(**sandbox: Any) -> Project:
        usual = {"picture_mode": "tiny", "fixed_latency_s": 0.02}
        servers.append(SandboxServer(SandboxSettings(**{**usual, **sandbox})).start())
        return Project(servers[-1], tmp_path / f"project{len(servers)}")

    yield opened
    for server in servers:
        server.stop()


@pytest.fixture
def project(open_project: OpenProject) -> Project:
    return open_project()


@pytest.fixture
def proxied(open_project: OpenProject) -> Iterator[tuple[Project, PlatformProxy]]:
    """A project whose every address is a proxy of the sandbox."""
    project = open_project()
    with PlatformProxy(project.server.url) as proxy:
        project.environ["SEGMIND_API_URL"] = proxy.url
        yield project, proxy
