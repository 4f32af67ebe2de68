"""The ledger file disappears amid a run: it stops with one clear message, and nothing more is submitted."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any

import pytest
from lab.project import V2

from segmind_dagster.errors import LedgerGoneError
from segmind_dagster.outputs import OutputStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import OpenLab

GENERATIONS = 40
AT_ONCE = 4


def delete(ledger: Path) -> None:
    ledger.unlink()


def move(ledger: Path) -> None:
    ledger.rename(ledger.with_name("moved.sqlite"))


def replace(ledger: Path) -> None:
    other = ledger.with_name("other.sqlite")
    other.write_bytes(ledger.read_bytes())
    other.replace(ledger)


@pytest.mark.parametrize("go", [delete, move, replace])
def test_a_run_without_its_ledger_file_submits_nothing_more(
    open_lab: OpenLab, monkeypatch: pytest.MonkeyPatch, go: Callable[[Path], None]
) -> None:
    lab = open_lab(price_jitter=False)
    key = lab.write("fruit", GENERATIONS, models=[V2])
    keep, posts, turn = OutputStore.keep, [], Lock()

    def keep_and_lose_the_ledger(self: OutputStore, *args: Any, **kwargs: Any) -> Any:
        stored = keep(self, *args, **kwargs)
        with turn:
            if not posts:
                posts.append(lab.posts)
                go(lab.folder / "data" / "ledger.sqlite")
        return stored

    monkeypatch.setattr(OutputStore, "keep", keep_and_lose_the_ledger)
    with pytest.raises(LedgerGoneError, match="disappeared while it was in use"):
        lab.generate(key, settings=lab.settings(SEGMIND_MAX_IN_FLIGHT=str(AT_ONCE)))
    # what was being sent at that moment, and no more
    assert lab.posts <= posts[0] + AT_ONCE
    assert lab.posts < GENERATIONS
