"""A bench for the gateway, and no pauses between its repeated GETs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from lab.gateway import Bench

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _quick(quick_gets: None) -> None:
    """No test here waits for a GET to be repeated."""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    for server in made.servers:
        server.stop()
