"""A folder from which nothing can be renamed into the test's own."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_PLACES = ("/dev/shm", "/tmp", "/var/tmp")


@pytest.fixture
def another_disk(tmp_path: Path) -> Iterator[Path]:
    here = tmp_path.stat().st_dev
    elsewhere = [place for place in _PLACES if Path(place).is_dir() and Path(place).stat().st_dev != here]
    if not elsewhere:
        pytest.fail(f"These tests need two disks: none of {', '.join(_PLACES)} is on another one than {tmp_path}.")
    with TemporaryDirectory(dir=elsewhere[0]) as folder:
        yield Path(folder)
