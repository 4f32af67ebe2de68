"""A project whose settings are in the environment, against a sandbox with tiny pictures."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from lab.cli_project import Project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from segmind_dagster.sandbox import SandboxServer


@pytest.fixture(autouse=True)
def _the_environment_as_it_was() -> Iterator[None]:
    """Some commands change the environment of their process for good."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start_sandbox: Callable[..., SandboxServer]) -> Project:
    made = Project(start_sandbox(), tmp_path / "project")
    for name, value in made.environ.items():
        monkeypatch.setenv(name, value)
    return made
