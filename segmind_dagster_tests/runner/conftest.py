"""Sandboxes with tiny pictures and short jobs, and a project for each."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from lab.runner_project import Lab

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from segmind_dagster.sandbox import SandboxServer


class OpenLab(Protocol):
    """The fixture `open_lab`: a sandbox with these settings, and a project for it."""

    def __call__(self, *, environ: dict[str, str] | None = None, **sandbox: Any) -> Lab: ...


@pytest.fixture
def open_lab(tmp_path: Path, start_sandbox: Callable[..., SandboxServer]) -> OpenLab:
    projects = itertools.count(1)

    def opened(*, environ: dict[str, str] | None = None, **sandbox: Any) -> Lab:
        return Lab(start_sandbox(**sandbox), tmp_path / f"project{next(projects)}", **(environ or {}))

    return opened


@pytest.fixture
def lab(open_lab: OpenLab) -> Lab:
    return open_lab()


@pytest.fixture(autouse=True)
def _quick(quick_gets: None) -> None:
    """No test here waits for a GET to be repeated."""
