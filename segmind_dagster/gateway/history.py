"""Reads the account's request history whole: windows, pages, and when a page is the last one.

What a row means is in `wire`; whatever leaves doubt whether everything was read is an error, because a submission
that is absent from the history may be bought again.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

from segmind_dagster.gateway import wire
from segmind_dagster.gateway.failures import GatewayError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, datetime

_PAGE_ROWS = 100
_MOST_PAGES = 500
# one question may span 31 days (SDK 1.3.0, generations.py)
_SPAN = timedelta(days=30)


class Get(Protocol):
    """A GET that is repeated where that can help: status and parsed answer."""

    async def __call__(self, url: str, query: Mapping[str, str], /) -> tuple[int, Any]:
        """Ask."""


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
        begin = max(first, last - _SPAN)
        await _read_window(get, platform_url, found, since=since, from_date=begin.date(), to_date=last.date())
        last = begin - timedelta(days=1)
    return list(found.values())


async def _read_window(
    get: Get, platform_url: str, found: dict[str, wire.HistoryRow], *, since: datetime, from_date: date, to_date: date
) -> None:
    url = f"{platform_url}/inference-request/request-history"
    previous: list[str] = []
    for page in range(1, _MOST_PAGES + 1):
        query = {
            "page": str(page),
            "per_page": str(_PAGE_ROWS),
            "from_date": from_date.isoformat(),
            "to_date": to_date.isoformat(),
            "sort_by": "model_created",
            "sort_order": "desc",
        }
        status, document = await get(url, query)
        # an empty list that comes with an error proves nothing
        answer = wire.read_history(document) if status == 200 else None  # noqa: PLR2004  HTTP
        if answer is None:
            raise GatewayError("unknown_outcome", f"GET {url}: the history's answer was not understood.")
        ids = [row.request_id for row in answer.rows]
        if ids and ids == previous and not answer.is_last:
            raise GatewayError("unknown_outcome", f"GET {url}: page {page} is page {page - 1} again.")
        previous = ids
        for row in answer.rows:
            found.setdefault(row.request_id, row)
        # a page may hold only what was seen already: one row an output, and rows move while pages are read
        if answer.is_last or _reaches_back(answer.rows, since):
            return
    raise GatewayError("unknown_outcome", f"GET {url}: the history is longer than {_MOST_PAGES} pages.")


def _reaches_back(rows: Sequence[wire.HistoryRow], since: datetime) -> bool:
    """Whether a page is sorted as it was asked for, newest first, and ends before the moment."""
    moments = [row.created_at for row in rows if row.created_at is not None]
    is_sorted = len(moments) == len(rows) and all(a >= b for a, b in pairwise(moments))
    return is_sorted and bool(moments) and moments[-1] < since
