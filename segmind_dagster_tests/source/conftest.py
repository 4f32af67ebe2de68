"""Sandboxes with tiny pictures, and projects with a warehouse of their own."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from lab.proxy import Proxy
from lab.source_project import Project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from segmind_dagster.sandbox import SandboxServer


class OpenProject(Protocol):
    """The fixture `open_project`: a sandbox with these settings, and a project for it."""

    def __call__(self, **sandbox: Any) -> Project: ...


@pytest.fixture
def open_project(tmp_path: Path, start_sandbox: Callable[..., SandboxServer]) -> OpenProject:
    projects = itertools.count(1)

    def opened(**sandbox: Any) -> Project:
        return Project(start_sandbox(**sandbox), tmp_path / f"project{next(projects)}")

    return opened


@pytest.fixture
def project(open_project: OpenProject) -> Project:
    return open_project()


@pytest.fixture
def proxied(open_project: OpenProject) -> Iterator[tuple[Project, Proxy]]:
    """A project whose every address is a proxy of the sandbox."""
    project = open_project()
    with Proxy(project.server.url) as proxy:
        project.environ["SEGMIND_API_URL"] = proxy.url
        yield project, proxy
