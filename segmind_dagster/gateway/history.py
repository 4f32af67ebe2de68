"""Reads the account's request history: windows, pages, and whether what was read was all of it.

Page numbers, page sizes and page counts prove nothing: a reading goes on until a page is empty, and is whole only when
as many different requests came as the answers say there are. What a row means is in `wire`, what follows from its
absence in `lifecycle.matching`.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Protocol

from segmind_dagster.gateway import wire
from segmind_dagster.gateway.errors import BrokenOffError, GatewayError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, datetime

    from segmind_dagster.lifecycle.matching import HistoryRow

_PAGE_ROWS = 100
# half a million requests: more than any plan allows in a day
_MOST_PAGES = 5000
# rows may change places while pages are read: read again so often before giving up
_MOST_PASSES = 4
# a page past the last one may be refused instead of empty
_PAST_THE_LAST = frozenset({400, 404, 416, 422})
# one question may span 31 days (SDK 1.3.0, generations.py)
SPAN: Final = timedelta(days=30)
PATH: Final = "/inference-request/request-history"


class TooLongError(GatewayError):
    """A window has more pages than anybody should read at once: ask for less of it, or there is no end to them."""


class Get(Protocol):
    """A GET that is repeated where that can help: status and parsed answer."""

    async def __call__(self, url: str, query: Mapping[str, str], /) -> tuple[int, Any]:
        """Ask."""


class Pages:
    """The pages of one window: what to ask next, and whether that was all. Asking is the caller's.

    Args:
        from_date: first day, UTC.
        to_date: last day, inclusive.
        is_whole: whether what came has to be all there is.
    """

    def __init__(self, from_date: date, to_date: date, *, is_whole: bool = True) -> None:
        self.is_done = False
        self._is_whole = is_whole
        self._window = {"from_date": from_date.isoformat(), "to_date": to_date.isoformat()}
        self._days = f"{from_date.isoformat()} to {to_date.isoformat()}"
        self._requests: set[str] = set()
        self._outputs: set[tuple[str, str | None]] = set()
        self._pass = 0
        self._begin()

    def _begin(self) -> None:
        self._pass += 1
        self._page = 1
        self._total: int | None = None
        self._ids: list[tuple[str, ...]] = []
        self._listed: set[str] = set()
        self._has_moved = False

    @property
    def query(self) -> dict[str, str]:
        """The next page's query."""
        order = {"sort_by": "model_created", "sort_order": "desc"}
        return {"page": str(self._page), "per_page": str(_PAGE_ROWS), **self._window, **order}

    def read(self, status: int, document: Any) -> tuple[HistoryRow, ...]:
        """The rows of the page that was asked for: one an output, and some again where rows have moved.

        Args:
            status: HTTP status of the answer.
            document: the parsed answer.

        Raises:
            GatewayError: it is not understood, is a page that came before, there is no end to them, or what came is
                not all there is.
        """
        if status in _PAST_THE_LAST and self._has_all:
            self.is_done = True
            return ()
        # an empty list that comes with an error proves nothing
        answer = wire.read_history(document) if status == 200 else None  # noqa: PLR2004  HTTP
        if answer is None:
            raise self._error(f"page {self._page} is not understood.")
        if self._page == 1:
            self._total = answer.total
        if not answer.rows:
            self._end()
            return ()
        self._note(answer.rows)
        if self._page == _MOST_PAGES:
            raise TooLongError(
                "unknown_outcome", f"GET {PATH}: the history of {self._days} is longer than {_MOST_PAGES} pages."
            )
        self._page += 1
        return answer.rows

    @property
    def _has_all(self) -> bool:
        """Whether as many requests came as there are, by the answers' own word; False when they do not say."""
        return self._total is not None and max(len(self._requests), len(self._outputs)) >= self._total

    def _note(self, rows: Sequence[HistoryRow]) -> None:
        ids = tuple(row.request_id for row in rows)
        if ids in self._ids:
            raise self._error(f"page {self._page} is page {self._ids.index(ids) + 1} again.")
        before = self._ids[-1] if self._ids else ()
        # newer requests push the last rows of a page onto the next one; any other repetition means that rows move
        pushed = next((size for size in range(len(ids), 0, -1) if before[-size:] == ids[:size]), 0)
        again = self._listed.intersection(ids[pushed:]) - set(ids[:pushed])
        self._has_moved = self._has_moved or bool(again)
        self._ids.append(ids)
        self._listed.update(ids)
        self._requests.update(ids)
        self._outputs.update((row.request_id, row.output_url) for row in rows)

    def _end(self) -> None:
        """An empty page: all of it, or another pass, because rows moved or some are missing."""
        if not self._is_whole or self._has_all or (self._total is None and not self._has_moved):
            self.is_done = True
        elif self._pass < _MOST_PASSES:
            self._begin()
        else:
            raise self._error(
                f"read {self._pass} times, and {len(self._requests)} requests came of "
                f"{'an unknown number' if self._total is None else self._total}; it cannot be read whole."
            )

    def _error(self, what: str) -> GatewayError:
        return GatewayError("unknown_outcome", f"GET {PATH} for {self._days}: {what}")


async def read_history(
    get: Get, platform_url: str, *, since: datetime, now: datetime, is_whole: bool
) -> list[HistoryRow]:
    """The account's requests since a moment, newest first, each once; one that is listed with two bodies, twice.

    Args:
        get: how to ask.
        platform_url: serves the history.
        since: the moment.
        now: the time.
        is_whole: whether to read on to the last page, so that what is not in it is not there; else it is enough to
            come to rows from before the moment.

    Raises:
        BrokenOffError: it could be read in part.
        GatewayError: it could not be read, not whole, or was not understood.
    """
    found: dict[tuple[str, str], HistoryRow] = {}
    first, last = since - timedelta(days=1), now + timedelta(days=1)
    while last >= first:
        begin = max(first, last - SPAN)
        pages = Pages(begin.date(), last.date(), is_whole=is_whole)
        while not pages.is_done:
            try:
                rows = pages.read(*await get(f"{platform_url}{PATH}", pages.query))
            except TooLongError:
                raise
            except GatewayError as error:
                if not found:
                    raise
                raise BrokenOffError(error, tuple(found.values())) from error
            for row in rows:
                found.setdefault((row.request_id, repr(row.body)), row)
            if not is_whole and _reaches_back(rows, since):
                break
        last = begin - timedelta(days=1)
    return list(found.values())


def _reaches_back(rows: Sequence[HistoryRow], since: datetime) -> bool:
    """Whether a page is sorted as it was asked for, newest first, and ends before the moment."""
    moments = [row.created_at for row in rows if row.created_at is not None]
    is_sorted = len(moments) == len(rows) and all(a >= b for a, b in pairwise(moments))
    return is_sorted and bool(moments) and moments[-1] < since
