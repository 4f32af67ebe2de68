"""A project whose settings are in the environment, against a sandbox with tiny pictures."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from lab.cli_project import Project

from segmind_dagster.sandbox import SandboxServer, SandboxSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _the_environment_as_it_was() -> Iterator[None]:
    """Some commands change the environment of their process for good."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    with SandboxServer(SandboxSettings(picture_mode="tiny", fixed_latency_s=0.02)) as server:
        folder = tmp_path / "project"
        for name, value in {
            "PROJECT_DIR": str(folder),
            "API_URL": server.url,
            "API_KEY": server.api_key,
            "REQUESTS_PER_MINUTE": "60000",
            "UNKNOWN_SETTLE_SECONDS": "0.15",
            "V1_TIMEOUT_SECONDS": "3",
        }.items():
            monkeypatch.setenv(f"SEGMIND_{name}", value)
        yield Project(server, folder)
