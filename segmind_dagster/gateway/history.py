"""Reads the account's request history whole: windows, pages, and when a page is the last one.

What a row means is in `wire`; whatever leaves doubt whether everything was read is an error, because a submission
that is absent from the history may be bought again.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Protocol

from segmind_dagster.gateway import wire
from segmind_dagster.gateway.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, datetime

_PAGE_ROWS = 100
# half a million requests: more than any plan allows in a day
_MOST_PAGES = 5000
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
    """

    def __init__(self, from_date: date, to_date: date) -> None:
        self.is_done = False
        self._window = {"from_date": from_date.isoformat(), "to_date": to_date.isoformat()}
        self._page = 1
        self._previous: list[str] = []

    @property
    def query(self) -> dict[str, str]:
        """The next page's query."""
        order = {"sort_by": "model_created", "sort_order": "desc"}
        return {"page": str(self._page), "per_page": str(_PAGE_ROWS), **self._window, **order}

    def read(self, status: int, document: Any) -> tuple[wire.HistoryRow, ...]:
        """The rows of the page that was asked for; a request has a row for each output.

        Args:
            status: HTTP status of the answer.
            document: the parsed answer.

        Raises:
            GatewayError: it is not understood, is the page before again, or there is no end to them.
        """
        # an empty list that comes with an error proves nothing
        answer = wire.read_history(document) if status == 200 else None  # noqa: PLR2004  HTTP
        if answer is None:
            raise GatewayError("unknown_outcome", f"GET {PATH}: page {self._page} of the history is not understood.")
        ids = [row.request_id for row in answer.rows]
        if ids and ids == self._previous and not answer.is_last:
            raise GatewayError("unknown_outcome", f"GET {PATH}: page {self._page} is page {self._page - 1} again.")
        # a page may hold only what was seen already: one row an output, and rows move while pages are read
        self.is_done = answer.is_last
        if not self.is_done and self._page == _MOST_PAGES:
            days = " to ".join(self._window.values())
            raise TooLongError(
                "unknown_outcome", f"GET {PATH}: the history of {days} is longer than {_MOST_PAGES} pages."
            )
        self._previous = ids
        self._page += 1
        return answer.rows


async def read_history(get: Get, platform_url: str, *, since: datetime, now: datetime) -> list[wire.HistoryRow]:
    """The account's requests since a moment, newest first, each once.

    Args:
        get: how to ask.
        platform_url: serves the history.
        since: the moment.
        now: the time.

    Raises:
        GatewayError: the history could not be read whole, or was not understood.
    """
    found: dict[str, wire.HistoryRow] = {}
    first, last = since - timedelta(days=1), now + timedelta(days=1)
    while last >= first:
        begin = max(first, last - SPAN)
        pages = Pages(begin.date(), last.date())
        while not pages.is_done:
            rows = pages.read(*await get(f"{platform_url}{PATH}", pages.query))
            for row in rows:
                found.setdefault(row.request_id, row)
            if _reaches_back(rows, since):
                break
        last = begin - timedelta(days=1)
    return list(found.values())


def _reaches_back(rows: Sequence[wire.HistoryRow], since: datetime) -> bool:
    """Whether a page is sorted as it was asked for, newest first, and ends before the moment."""
    moments = [row.created_at for row in rows if row.created_at is not None]
    is_sorted = len(moments) == len(rows) and all(a >= b for a, b in pairwise(moments))
    return is_sorted and bool(moments) and moments[-1] < since
