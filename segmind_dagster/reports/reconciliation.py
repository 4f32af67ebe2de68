"""What the joined rows of ledger, history and balance mean: which charges are explained, paid twice or lost. Pure.

Nothing is called wrong that may only be early: what is in flight, what the history was not read for yet, and what
happened around a reading is not judged, and an unknown amount is not guessed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any, Final

from segmind_dagster.lifecycle.matching import HistoryRow, Likeness, Names, Submission, compare
from segmind_dagster.lifecycle.next_step import KEPT
from segmind_dagster.lifecycle.parsing import FREE
from segmind_dagster.lifecycle.states import WRITTEN_OFF
from segmind_dagster.registry import bundled_catalogue

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

# how far our clock may be from Segmind's
SKEW: Final = timedelta(minutes=2)
# after this long the history has what happened
LATE: Final = timedelta(hours=1)
# a request that has not ended by then is no longer worked at
_LONGEST_JOB: Final = timedelta(days=1)
_RUNWAY_DAYS: Final = timedelta(days=7)
# less than this says nothing about a day's spending
_LEAST: Final = timedelta(days=1)
_CENT: Final = Decimal("0.01")
_DAY: Final = timedelta(days=1)
_GONE: Final = frozenset({"expired", WRITTEN_OFF})

Row = dict[str, Any]


def unexplained(
    rows: Iterable[Mapping[str, Any]],
    *,
    since: datetime | None,
    owned: Callable[[Sequence[str]], Collection[str]],
    unanswered: Sequence[Submission],
) -> list[Row]:
    """Charges in the history that our ledger does not account for.

    Args:
        rows: of `NOT_OURS`, `request_body` as a mapping.
        since: when our first POST was sent; None before it. What the account bought earlier is not ours to explain.
        owned: which of these request ids the ledger accounts for by now; its rows may not be loaded yet.
        unanswered: every submission whose outcome is unknown.
    """
    if since is None:
        return []
    later = [row for row in rows if row["created_at"] is None or row["created_at"] >= since - SKEW]
    ours = set(owned([row["request_id"] for row in later])) if later else set()
    return [
        {
            **{name: row[name] for name in ("request_id", "model", "status", "cost_usd", "created_at")},
            "may_be_ours": any(_may_be(row, sent) for sent in unanswered),
        }
        for row in later
        if row["request_id"] not in ours
    ]


def paid_twice(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Generations that were charged more than once, a row each; what a person decided is kept apart from accidents."""
    found = []
    for generation_id, group in groupby(rows, key=lambda row: row["generation_id"]):
        charges = list(group)
        again = [(after["cost_usd"], before["failure_kind"] == WRITTEN_OFF) for before, after in pairwise(charges)]
        found.append({
            "generation_id": generation_id,
            "model": charges[0]["model"],
            "prompt_set": charges[0]["prompt_set"],
            "charges": len(charges),
            "cost_usd": sum((charge["cost_usd"] for charge in charges), FREE),
            "excess_usd": sum((usd for usd, is_decided in again if not is_decided), FREE),
            "decided_usd": sum((usd for usd, is_decided in again if is_decided), FREE),
            "request_ids": ", ".join(charge["request_id"] or "not known" for charge in charges),
            "last_at": charges[-1]["intent_at"],
        })  # fmt: skip
    return found


def not_held(rows: Iterable[Mapping[str, Any]], *, settled: Collection[str], now: datetime) -> list[Row]:
    """Charges for which there is no output here, and whether it can still be fetched.

    Args:
        rows: of `charged_in_vain`.
        settled: generations that are stored by now, or that a run is at.
        now: the time.
    """
    return [
        {
            **row,
            "expires_at": row["submitted_at"] + KEPT,
            "can_be_fetched": row["failure_kind"] not in _GONE and now < row["submitted_at"] + KEPT,
        }
        for row in rows
        if row["generation_id"] not in settled
    ]


def cost_differences(rows: Iterable[Mapping[str, Any]], *, covered_from: datetime, read_at: datetime) -> list[Row]:
    """Charges on which ledger and history do not agree.

    Args:
        rows: of `DIFFERENT`.
        covered_from: from when on the history is loaded whole.
        read_at: until when.
    """
    found = []
    for row in rows:
        is_absent = row["found_id"] is None
        sent_at = row["submitted_at"]
        if is_absent and (sent_at is None or not covered_from + SKEW <= sent_at <= read_at - LATE):
            continue
        # the cost of a request that is under way there comes with its end
        if not is_absent and (row["history_status"] or "").upper() not in {"COMPLETED", "FAILED"}:
            continue
        ledger, history = row["ledger_cost_usd"], row["history_cost_usd"]
        found.append({
            **{name: row[name] for name in (
                "generation_id", "attempt", "model", "prompt_set", "request_id", "ledger_cost_usd", "cost_source",
                "history_cost_usd", "submitted_at",
            )},
            "what": "absent from the history" if is_absent else "different",
            "difference_usd": None if history is None else history - ledger,
        })  # fmt: skip
    return found


@dataclass(slots=True)
class _Window:
    """What was charged between two looks at the balance."""

    history_usd: Decimal = FREE
    ledger_usd: Decimal = FREE
    in_flight_usd: Decimal = FREE
    unknown: int = 0
    ledger_unknown: int = 0
    under_way: int = 0


def balance_windows(
    balances: Sequence[Mapping[str, Any]],
    charges: Iterable[Mapping[str, Any]],
    *,
    covered_from: datetime | None,
    read_at: datetime | None,
) -> list[Row]:
    """What the balance did between two looks at it, and what history and ledger say was charged meanwhile.

    A charge belongs to the window in which its request ended. One that was under way at a look, or ended so close to
    it that the clocks decide, may have been charged on either side: its amount is how far a window may be off.

    Args:
        balances: `observed_at` and `balance_usd`, in order of time.
        charges: of `CHARGES`, in any order.
        covered_from: from when on the history is loaded whole; None when it never was.
        read_at: until when.
    """
    moments = [balance["observed_at"] for balance in balances]
    windows = [_Window() for _ in range(len(moments) + 1)]
    for charge in charges:
        began = charge["created_at"]
        if began is None:
            # it may stand anywhere, so that no window is known
            for window in windows:
                window.unknown += 1
            continue
        ended = charge["ended_at"]
        first = bisect_left(moments, began - SKEW)
        last = bisect_right(moments, ended + SKEW if ended else began + _LONGEST_JOB)
        own = windows[bisect_left(moments, ended)] if ended else None
        for window in windows[first : last + 1]:
            window.under_way += ended is None
            window.unknown += ended is not None and charge["cost_usd"] is None
            if first < last and ended:
                window.in_flight_usd += charge["cost_usd"] or FREE
        if own is not None:
            own.history_usd += charge["cost_usd"] or FREE
            own.ledger_usd += charge["ledger_cost_usd"] or FREE
            own.ledger_unknown += bool(charge["is_ours"]) and charge["ledger_cost_usd"] is None
    return [
        _judged(before, after, window, covered_from=covered_from, read_at=read_at)
        for (before, after), window in zip(pairwise(balances), windows[1:], strict=False)
    ]


def _judged(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    window: _Window,
    *,
    covered_from: datetime | None,
    read_at: datetime | None,
) -> Row:
    decrease = before["balance_usd"] - after["balance_usd"]
    is_covered = (
        covered_from is not None
        and read_at is not None
        and covered_from <= before["observed_at"]
        and after["observed_at"] <= read_at + SKEW
    )
    is_known = is_covered and not window.unknown
    difference = window.history_usd - decrease if is_known else None
    return {
        "from_at": before["observed_at"],
        "to_at": after["observed_at"],
        "before_usd": before["balance_usd"],
        "after_usd": after["balance_usd"],
        "decrease_usd": decrease,
        "history_usd": window.history_usd if is_known else None,
        "ledger_usd": window.ledger_usd if is_covered and not window.ledger_unknown else None,
        "in_flight_usd": window.in_flight_usd if is_covered else None,
        "difference_usd": difference,
        "verdict": _verdict(difference, window, after["observed_at"], read_at, _rounding(before, after)),
    }


def _rounding(*balances: Mapping[str, Any]) -> Decimal:
    """How far two balances may be off together: a cent, when they are given in whole cents."""
    amounts = [balance["balance_usd"] for balance in balances]
    return _CENT if all(amount == amount.quantize(_CENT) for amount in amounts) else FREE


def _verdict(
    difference: Decimal | None, window: _Window, to_at: datetime, read_at: datetime | None, rounding_usd: Decimal
) -> str:
    if difference is None or read_at is None:
        return "not known"
    if abs(difference) <= window.in_flight_usd + rounding_usd:
        return "agrees"
    if window.under_way or to_at > read_at - LATE:
        return "too early to tell"
    return "topped up" if difference > 0 else "fell too far"


def runways(balances: Sequence[Mapping[str, Any]]) -> list[Row]:
    """For each look at the balance, how long it lasts at the rate of the week before.

    Stretches in which the balance rose tell nothing about spending and are left out, with their time.

    Args:
        balances: `observed_at` and `balance_usd`, in order of time.
    """
    return [_runway(balances[: place + 1]) for place in range(len(balances))]


def _runway(balances: Sequence[Mapping[str, Any]]) -> Row:
    latest = balances[-1]
    spent, elapsed = FREE, timedelta(0)
    for before, after in _backwards(balances):
        if before["observed_at"] < latest["observed_at"] - _RUNWAY_DAYS - SKEW and elapsed >= _LEAST:
            break
        if after["balance_usd"] <= before["balance_usd"]:
            spent += before["balance_usd"] - after["balance_usd"]
            elapsed += after["observed_at"] - before["observed_at"]
    is_reported = elapsed >= _LEAST
    days = elapsed / _DAY
    per_day = spent / Decimal(str(days)) if is_reported else None
    return {
        "observed_at": latest["observed_at"],
        "balance_usd": latest["balance_usd"],
        "spent_usd": spent,
        "days": days,
        "spent_per_day_usd": per_day,
        "runway_days": float(max(latest["balance_usd"], FREE) / per_day) if per_day else None,
    }


def _backwards(balances: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    for place in range(len(balances) - 1, 0, -1):
        yield balances[place - 1], balances[place]


def _may_be(row: Mapping[str, Any], sent: Submission) -> bool:
    request = HistoryRow(
        request_id=row["request_id"], model_slug=row["model"] or "", body=row["request_body"], created_at=None
    )
    return compare(request, sent, Names(slugs=frozenset(bundled_catalogue().entries))) >= Likeness.ALTERED
