"""A bench for the gateway, and no pauses between its repeated GETs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from lab.gateway import Bench

from segmind_dagster.gateway import repeating

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeating, "_BACK_OFF", lambda _state: 0.0)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    for server in made.servers:
        server.stop()
