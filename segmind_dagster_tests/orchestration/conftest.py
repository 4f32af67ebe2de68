"""Sandboxes with tiny pictures, and code locations for a project each."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Protocol

import dagster as dg
import pytest
from lab.computed_once import assets_built_once
from lab.dagster_project import DagsterLab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from segmind_dagster.sandbox import SandboxServer

# what the code location does not get as its resource's fields
IN_THE_ENVIRONMENT = (
    "SEGMIND_API_KEY", "SEGMIND_REQUESTS_PER_MINUTE", "SEGMIND_UNKNOWN_SETTLE_SECONDS", "SEGMIND_V1_TIMEOUT_SECONDS",
)  # fmt: skip


class OpenLab(Protocol):
    """The fixture `open_lab`: a sandbox with these settings, and a code location for it."""

    def __call__(self, **sandbox: Any) -> DagsterLab: ...


@pytest.fixture(scope="session", autouse=True)
def _assets_built_once() -> Iterator[None]:
    with assets_built_once():
        yield


@pytest.fixture
def open_lab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start_sandbox: Callable[..., SandboxServer]
) -> Iterator[OpenLab]:
    projects = itertools.count(1)
    with dg.DagsterInstance.ephemeral() as instance:

        def opened(**sandbox: Any) -> DagsterLab:
            made = DagsterLab(start_sandbox(**sandbox), tmp_path / f"project{next(projects)}", instance)
            for name in IN_THE_ENVIRONMENT:
                monkeypatch.setenv(name, made.environ[name])
            return made

        yield opened


@pytest.fixture
def lab(open_lab: OpenLab) -> DagsterLab:
    return open_lab()
