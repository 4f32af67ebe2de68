"""Loads the account's request history step by step: from where it was read before, late and unfinished rows again.

How far it has been read is kept with dlt's state, an entry for each API and account, because a warehouse may hold
the histories of several. What a page means is in `gateway.history`; what follows from the rows, in `reports`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from segmind_dagster.gateway.history import SPAN, Pages, TooLongError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence

    from segmind_dagster.gateway.redaction import Redactor
    from segmind_dagster.lifecycle.matching import HistoryRow

RESOURCE: Final = "request_history"
_FIRST: Final = timedelta(days=90)
# rows may arrive late, and days are the provider's: the last two are always read again
_OVERLAP: Final = timedelta(days=2)
# a request that was in progress is read again until it has ended, or can no longer be expected to
_PENDING_AT_MOST: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class HistoryCoverage:
    """How far the history of one API and account is loaded.

    Args:
        covered_from: from here on it is whole.
        read_at: up to here; what was made later is not in it.
        pending_since: the oldest request that had not ended then; None without any.
    """

    covered_from: datetime
    read_at: datetime
    pending_since: datetime | None = None

    @classmethod
    def of(cls, state: Mapping[str, Any], api_origin: str) -> HistoryCoverage | None:
        """What was remembered of an API and account; None when nothing was ever read."""
        if api_origin not in state:
            return None
        return cls(**{
            name: None if moment is None else datetime.fromisoformat(moment)
            for name, moment in state[api_origin].items()
        })  # type: ignore[arg-type]  # fmt: skip

    def remember(self, state: MutableMapping[str, Any], api_origin: str) -> None:
        """Put it with dlt's state, which is kept if, and only if, the rows are."""
        state[api_origin] = {
            "covered_from": self.covered_from.isoformat(),
            "read_at": self.read_at.isoformat(),
            "pending_since": self.pending_since.isoformat() if self.pending_since else None,
        }

    def next_start(self) -> datetime:
        """Where the next reading has to begin."""
        oldest = max(self.pending_since or self.read_at, self.read_at - _PENDING_AT_MOST)
        return max(min(self.read_at - _OVERLAP, oldest), self.covered_from)


def history_rows(
    ask: Callable[[dict[str, str]], tuple[int, Any]],
    state: MutableMapping[str, Any],
    *,
    api_origin: str,
    redactor: Redactor,
    now: datetime,
) -> Iterator[list[dict[str, Any]]]:
    """Rows of `request_history`, one a request, page by page; remembers how far it came.

    Args:
        ask: GETs a page: query to status and parsed answer.
        state: dlt's state of the resource.
        api_origin: whose history it is.
        redactor: takes keys out of what is loaded.
        now: the time.

    Raises:
        GatewayError: a page is not understood.
    """
    before = HistoryCoverage.of(state, api_origin)
    start = before.next_start() if before else now - _FIRST
    pending: list[datetime] = []
    # one row an output, and days may be read twice: within a load, not every destination makes one row of two
    seen: set[str] = set()
    begin, end = start.date(), (now + timedelta(days=1)).date()
    while begin <= end:
        stop = min(begin + SPAN, end)
        for page in _whole(ask, begin, stop):
            fresh = {row.request_id: row for row in page if row.request_id not in seen}
            seen.update(fresh)
            pending += [row.created_at for row in fresh.values() if row.created_at and not row.is_finished]
            yield [_row(row, api_origin, redactor) for row in fresh.values()]
        begin = stop + timedelta(days=1)
    covered_from = before.covered_from if before else start
    HistoryCoverage(covered_from, now, min(pending, default=None)).remember(state, api_origin)


def _whole(ask: Callable[[dict[str, str]], tuple[int, Any]], first: date, last: date) -> Iterator[Sequence[HistoryRow]]:
    """The pages of some days, in halves where they are too many to be read at once; some come twice then."""
    pages = Pages(first, last)
    try:
        while not pages.is_done:
            yield pages.read(*ask(pages.query))
    except TooLongError:
        if first == last:
            raise
        middle = first + (last - first) // 2
        yield from _whole(ask, first, middle)
        yield from _whole(ask, middle + timedelta(days=1), last)


def _row(row: HistoryRow, api_origin: str, redactor: Redactor) -> dict[str, Any]:
    ended_at = None
    if row.created_at is not None and row.is_finished:
        ended_at = row.created_at.astimezone(UTC) + timedelta(milliseconds=row.latency_ms or 0)
    return {
        "request_id": row.request_id,
        "model": row.model_slug,
        "status": row.status,
        "cost_usd": row.cost_usd,
        "latency_ms": row.latency_ms,
        "request_body": redactor.values(row.body),
        "error": redactor.short(row.error, limit=1000) if row.error else None,
        "created_at": row.created_at,
        "ended_at": ended_at,
        "api_origin": api_origin,
    }
