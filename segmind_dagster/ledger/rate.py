"""The account's request rate, shared by every run and process through one row of the ledger.

Slots are handed out evenly spaced. A 429 shows that the real limit is lower: the rate is cut once per burst,
everybody waits for the reset, and the rate grows back towards the configured bound.
Inspired by additive increase and multiplicative decrease; only a 429 cuts, never another error.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from math import ceil
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from segmind_dagster.ledger.entries import upsert
from segmind_dagster.ledger.schema import RATE_LIMIT

if TYPE_CHECKING:
    from sqlalchemy import Connection

_SCOPE = "account"
_CUT = 0.7
_GROWTH_PER_MINUTE = 1.1
_WINDOW = timedelta(minutes=1)


def reserve_slots(connection: Connection, *, count: int, per_minute: float, now: datetime) -> list[datetime]:
    """Take the next `count` moments at which a request may be sent.

    Args:
        connection: the ledger.
        count: how many.
        per_minute: the configured upper bound.
        now: the time.
    """
    row = connection.execute(select(RATE_LIMIT).where(RATE_LIMIT.c.scope == _SCOPE)).one_or_none()
    rate = _rate_now(row, per_minute, now)
    start = now if row is None else max(now, row.next_slot_at)
    # rounded up: a minute must never hold one slot too many
    step = timedelta(microseconds=ceil(60_000_000 / rate))
    slots = [start + step * k for k in range(count)]
    rows = upsert(connection, RATE_LIMIT)
    connection.execute(
        rows.on_conflict_do_update(index_elements=["scope"], set_={"next_slot_at": rows.excluded.next_slot_at}),
        {"scope": _SCOPE, "per_minute": rate, "next_slot_at": start + step * count},
    )
    return slots


def cut_rate(connection: Connection, *, reset_at: datetime, per_minute: float, now: datetime) -> None:
    """A 429 came back: nobody sends before the reset, and the rate falls once per window."""
    reserve_slots(connection, count=0, per_minute=per_minute, now=now)
    row = connection.execute(select(RATE_LIMIT).where(RATE_LIMIT.c.scope == _SCOPE)).one()
    is_new_burst = row.cut_at is None or now - row.cut_at >= _WINDOW
    changes = {"next_slot_at": max(row.next_slot_at, reset_at)}
    if is_new_burst:
        current = _rate_now(row, per_minute, now)
        connection.execute(
            update(RATE_LIMIT)
            .where(RATE_LIMIT.c.scope == _SCOPE)
            .values(per_minute=max(1.0, current * _CUT), cut_at=now)
        )
    connection.execute(update(RATE_LIMIT).where(RATE_LIMIT.c.scope == _SCOPE).values(**changes))


def _rate_now(row: Any, per_minute: float, now: datetime) -> float:
    """The bound, or what has grown back of it since the last cut."""
    if row is None or row.cut_at is None:
        return per_minute
    windows = max((now - row.cut_at) / _WINDOW, 0)
    return float(min(per_minute, row.per_minute * _GROWTH_PER_MINUTE ** min(windows, 100)))
