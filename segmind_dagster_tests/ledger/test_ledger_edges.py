from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from lab.ledger import NOON, ORIGIN

from segmind_dagster.errors import IllegalTransitionError, LedgerError
from segmind_dagster.ledger import Claim, open_ledger, rate, writes

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("cost", ["0.0000000025", "0.00123456789012345"])
def test_costs_finer_than_the_ledger_still_add_up(book: Any, cost: str) -> None:
    book.plan("g")
    book.succeeded(book.submitted(book.claim("g", reserved_usd=Decimal("0.000000001"))), cost_usd=Decimal(cost))
    assert book.day_usd() == sum(book.attempts_usd().values())


@pytest.mark.parametrize("state", ["submitting", "submitted"])
def test_only_an_unknown_submission_can_be_declared_absent(book: Any, state: str) -> None:
    held = book.in_state("g", state)
    before = book.everything()
    with pytest.raises(IllegalTransitionError):
        book.ledger.write(writes.mark_absent, held, reason="not listed", now=NOON)
    assert book.everything() == before


def test_reopening_nothing_does_nothing(book: Any) -> None:
    book.ledger.write(writes.reopen, {}, target="planned", now=NOON)


@pytest.mark.parametrize("move", ["succeeded", "failed"])
def test_settling_a_missing_attempt_names_it(book: Any, move: str) -> None:
    with pytest.raises(LedgerError, match="ghost"):
        getattr(book, move)(Claim("ghost", 1, "me"))


@pytest.mark.parametrize("bound", [7, 36, 54, 90, 110, 1800])
def test_a_minute_never_has_one_request_too_many(ledger: Any, bound: float) -> None:
    send_times = ledger.write(rate.reserve_requests, count=bound + 1, per_minute=bound, now=NOON)
    assert send_times[-1] - send_times[0] >= timedelta(minutes=1)


def test_a_429_after_recovery_cuts_the_recovered_rate(ledger: Any) -> None:
    for now in (NOON, NOON + timedelta(hours=2)):
        ledger.write(rate.cut_rate, reset_at=now, per_minute=60, now=now)
    first, second = ledger.write(rate.reserve_requests, count=2, per_minute=60, now=NOON + timedelta(hours=2))
    assert (second - first).total_seconds() == pytest.approx(2 / 0.99, rel=0.001)


def test_closing_releases_the_database(tmp_path: Path) -> None:
    ledger = open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite", api_origin=ORIGIN, holds_outputs=lambda: None)
    ledger.close()
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.sqlite"]


@pytest.mark.parametrize("url", ["nonsense", "sqlite:///{file}/ledger.sqlite"])
def test_a_ledger_that_cannot_be_opened_is_a_ledger_error(tmp_path: Path, url: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError):
        open_ledger(url.format(file=tmp_path / "file"), api_origin=ORIGIN, holds_outputs=lambda: None)
