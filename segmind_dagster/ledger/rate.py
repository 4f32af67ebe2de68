"""The account's request rate, shared by every run and process through one row of the ledger.

Send times are evenly spaced, a little below the bound, so that no window of the provider holds one request too many
because some took longer over the network. A 429 shows that the real limit is lower: all runs wait for the
reset, and continue at the rate that the provider accepted in that window, which is in `attempts`. After a while
the rate grows back towards the configured bound. Only a 429 cuts, never another error.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, update

from segmind_dagster.ledger.leases import Moment
from segmind_dagster.ledger.schema import ATTEMPTS, RATE_LIMIT
from segmind_dagster.ledger.statements import upsert

if TYPE_CHECKING:
    from sqlalchemy import Connection

_SCOPE = "account"
_WINDOW = timedelta(minutes=1)
_HEADROOM = 0.99
# what a late reservation may make up for; with the headroom, a window still holds no request too many
_CATCH_UP = timedelta(seconds=0.25)
# no reset is farther away: what is farther was written by a wrong clock and is ignored
_FARTHEST, _MOST_WAITING = timedelta(minutes=10), 1000
# one refusal changes the rate at most by half and at least by a twentieth
_LARGEST_CUT, _SMALLEST_CUT = 0.5, 0.95
_QUIET_WINDOWS = 3
_GROWTH_PER_WINDOW = 1.03


@dataclass(frozen=True, slots=True)
class _Rate:
    """The recorded rate, with times on the caller's wall clock."""

    per_minute: float
    next_slot_at: datetime
    cut_at: datetime | None


def _recorded(connection: Connection, now: datetime, moment: Moment | None) -> _Rate | None:
    """The recorded rate; the wall clock that wrote it may differ, so only the time since then counts."""
    row = connection.execute(select(RATE_LIMIT).where(RATE_LIMIT.c.scope == _SCOPE)).one_or_none()
    if row is None:
        return None
    shift = timedelta(0)
    if row.written_at is not None and moment is not None:
        passed_s = moment.since_s(Moment(row.boot, row.written_s))
        # that clock may be wrong: if it went back, no time has passed
        passed = max(now - row.written_at, timedelta(0)) if passed_s is None else timedelta(seconds=passed_s)
        shift = now - passed - row.written_at
    return _Rate(row.per_minute, row.next_slot_at + shift, None if row.cut_at is None else row.cut_at + shift)


def _written(now: datetime, moment: Moment | None) -> dict[str, Any]:
    if moment is None:
        return {"written_at": None, "boot": None, "written_s": None}
    return {"written_at": now, "boot": moment.clock, "written_s": moment.at_s}


def reserve_requests(
    connection: Connection, *, count: int, per_minute: float, now: datetime, at_s: float | None = None
) -> list[datetime]:
    """Reserve the next `count` send times."""
    moment = None if at_s is None else Moment.of(connection, at_s)
    row = _recorded(connection, now, moment)
    rate = _rate_now(row, per_minute, now)
    # rounded up: a minute must never hold one request too many
    step = timedelta(microseconds=ceil(60_000_000 / (rate * _HEADROOM)))
    farthest = now + max(_FARTHEST, _MOST_WAITING * step)
    start = now if row is None else max(now - _CATCH_UP, min(row.next_slot_at, farthest))
    moments = [start + step * k for k in range(count)]
    changed = ("next_slot_at", "cut_at", "written_at", "boot", "written_s")
    connection.execute(
        upsert(connection.dialect.name, RATE_LIMIT, *changed),
        {
            "scope": _SCOPE,
            "per_minute": rate,
            "next_slot_at": start + step * count,
            "cut_at": None if row is None else row.cut_at,
            **_written(now, moment),
        },
    )
    return moments


def reserve_a_second(
    connection: Connection, *, most: int, per_minute: float, now: datetime, at_s: float | None = None
) -> list[datetime]:
    """Reserve send times for about one second: few writes when fast, nothing hoarded when slow."""
    rate = current_rate(connection, per_minute=per_minute, now=now, at_s=at_s)
    count = max(1, min(most, int(rate / 60)))
    return reserve_requests(connection, count=count, per_minute=per_minute, now=now, at_s=at_s)


def cut_rate(
    connection: Connection, *, reset_at: datetime, per_minute: float, now: datetime, at_s: float | None = None
) -> None:
    """After a 429: no run sends before the reset, and the rate falls, once per window.

    Args:
        connection: the ledger.
        reset_at: when the provider's window ends.
        per_minute: the configured upper bound.
        now: the time.
        at_s: the clock of this machine that does not jump.
    """
    # from here on all times are on our wall clock
    reserve_requests(connection, count=0, per_minute=per_minute, now=now, at_s=at_s)
    row = connection.execute(select(RATE_LIMIT).where(RATE_LIMIT.c.scope == _SCOPE)).one()
    changes: dict[str, Any] = {"next_slot_at": max(row.next_slot_at, reset_at)}
    # `cut_at` is the end of the window that the last cut was for: further refusals of that burst change nothing
    if row.cut_at is None or now >= row.cut_at:
        rate = _rate_now(row, per_minute, now)
        accepted = _accepted_since(connection, reset_at - _WINDOW)
        changes["per_minute"] = max(1.0, min(max(accepted, rate * _LARGEST_CUT), rate * _SMALLEST_CUT))
        changes["cut_at"] = max(reset_at, now + _WINDOW)
    connection.execute(update(RATE_LIMIT).where(RATE_LIMIT.c.scope == _SCOPE).values(**changes))


def current_rate(connection: Connection, *, per_minute: float, now: datetime, at_s: float | None = None) -> float:
    """Requests a minute that are sent at present: the configured bound, or what refusals have taught."""
    moment = None if at_s is None else Moment.of(connection, at_s)
    return _rate_now(_recorded(connection, now, moment), per_minute, now)


def _accepted_since(connection: Connection, moment: datetime) -> int:
    was_taken = ATTEMPTS.c.failure_kind.is_(None) | (ATTEMPTS.c.failure_kind != "rate_limited")
    query = select(func.count()).select_from(ATTEMPTS).where(ATTEMPTS.c.intent_at >= moment, was_taken)
    return connection.execute(query).scalar_one()


def _rate_now(row: Any, per_minute: float, now: datetime) -> float:
    """The bound, or the cut rate as it has grown back since."""
    if row is None or row.cut_at is None:
        return per_minute
    windows = max((now - row.cut_at) / _WINDOW - _QUIET_WINDOWS, 0)
    return float(min(per_minute, row.per_minute * _GROWTH_PER_WINDOW ** min(windows, 500)))
