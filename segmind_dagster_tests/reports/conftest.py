"""A warehouse filled by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from lab.warehouse import Warehouse

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def warehouse() -> Iterator[Warehouse]:
    with Warehouse() as filled:
        yield filled
