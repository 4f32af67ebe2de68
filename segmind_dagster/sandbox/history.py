"""The request history: which rows a query selects, and what a row says. One row per output, as documented.

Reading jobs only; nothing here charges or speaks HTTP. How the history differs from the books is in `lying_history`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from segmind_dagster.sandbox.lies import NO_LIES
from segmind_dagster.sandbox.media import prompt_of
from segmind_dagster.sandbox.times import day_start, iso_utc, utc_day

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from segmind_dagster.sandbox.jobs import Job
    from segmind_dagster.sandbox.state import SandboxState

MAX_PER_PAGE = 100
MAX_SPAN_DAYS = 31
_DAY_S = 86400.0
_DEFAULT_SPAN_DAYS = 7
_DEFAULT_PER_PAGE = 20
_STATUSES = ("COMPLETED", "FAILED", "PENDING")

HistoryStatus = Literal["COMPLETED", "FAILED", "PENDING"]
SortBy = Literal["model_created", "model_name", "credits_deduction"]

_SORT_KEYS: Mapping[SortBy, Callable[[Job], Any]] = {
    "model_created": lambda job: job.created_at,
    "model_name": lambda job: job.slug,
    "credits_deduction": lambda job: job.cost_usd if job.is_charged else 0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryQuery:
    """What of the history is asked for.

    Args:
        page: from 1.
        per_page: rows a page, 1 to 100.
        since: first moment, UTC epoch seconds.
        until: moment after the last.
        model_name: part of the slug.
        status: only requests that stand like this.
        sort_by: what rows are ordered by.
        is_descending: largest or latest first.
    """

    page: int
    per_page: int
    since: float
    until: float
    model_name: str
    status: HistoryStatus | None
    sort_by: SortBy
    is_descending: bool

    @classmethod
    def from_query(cls, query: Mapping[str, str], *, now: float) -> HistoryQuery:
        """Read a query string.

        Args:
            query: names and values.
            now: UTC epoch seconds; the default window ends here.

        Raises:
            ValueError: a value is malformed or out of range; the message says which.
        """
        to_date = query.get("to_date") or utc_day(now)
        try:
            until = day_start(to_date) + _DAY_S
            since = day_start(query.get("from_date") or utc_day(until - _DAY_S, days_back=_DEFAULT_SPAN_DAYS))
        except ValueError as error:
            raise ValueError("from_date and to_date must be given as YYYY-MM-DD") from error
        if not since < until or until - since > (MAX_SPAN_DAYS + 1) * _DAY_S:
            raise ValueError(f"the window from from_date to to_date must span 0 to {MAX_SPAN_DAYS} days")
        status = query.get("status") or None
        sort_by = query.get("sort_by") or "model_created"
        sort_order = query.get("sort_order") or "desc"
        if status not in {None, *_STATUSES}:
            raise ValueError(f"status must be one of {', '.join(_STATUSES)}")
        if sort_by not in _SORT_KEYS or sort_order not in {"asc", "desc"}:
            raise ValueError(f"sort_by must be one of {', '.join(_SORT_KEYS)}, sort_order one of asc, desc")
        return cls(
            page=page_number(query),
            per_page=_number(query, "per_page", default=_DEFAULT_PER_PAGE, maximum=MAX_PER_PAGE),
            since=since,
            until=until,
            model_name=query.get("model_name", ""),
            status=cast("HistoryStatus | None", status),
            sort_by=cast("SortBy", sort_by),
            is_descending=sort_order == "desc",
        )


def history_page(state: SandboxState, query: HistoryQuery, *, base: str, as_text: bool) -> dict[str, Any] | None:
    """One page of rows with its place among all pages; None for a page that nobody can read.

    Args:
        state: the sandbox; everything that has completed is settled.
        query: which rows.
        base: URL of the sandbox, for links to outputs.
        as_text: whether request bodies are JSON strings instead of objects.

    Raises:
        NoSuchPageError: an error is the answer for this page.
    """
    now = state.now()
    chosen = [
        job
        for job in state.book.jobs.values()
        if query.since <= job.created_at < query.until
        and state.lying.shows(job, now)
        and query.model_name in job.slug
        and query.status in {None, _status(job, now)}
    ]
    if query.sort_by != "model_created":
        chosen.sort(key=_SORT_KEYS["model_created"], reverse=query.is_descending)
    chosen.sort(key=_SORT_KEYS[query.sort_by], reverse=query.is_descending)
    outputs = [(job, index) for job in chosen for index in range(job.samples)]
    match state.lying.turn(query.page, has_rows=bool(outputs)):
        case "unreadable":
            return None
        case "empty":
            outputs = []
    if state.lies == NO_LIES:
        # an honest history of a million rows makes only those that it shows
        start = (query.page - 1) * query.per_page
        shown = [_row(job, index, now, base, as_text=as_text) for job, index in outputs[start : start + query.per_page]]
        return {"data": shown, "pagination": _pagination(query.page, query.per_page, len(outputs))}
    rows = [state.lying.reported(_row(job, index, now, base, as_text=as_text), job) for job, index in outputs]
    return state.lying.page(rows, page=query.page, per_page=query.per_page, now=now)


def generations_page(state: SandboxState, *, page: int, model_name: str, base: str) -> dict[str, Any]:
    """The older relative of the history: outputs only, latest first, 20 a page."""
    now = state.now()
    outputs = [
        (job, name)
        for job in reversed(state.book.jobs.values())
        if model_name in job.slug and _status(job, now) == "COMPLETED"
        for name in job.output_names()
    ]
    rows = [
        {
            "generation_url": f"{base}/outputs/{name}",
            "status": "COMPLETED",
            "credits_deduction": float(job.cost_usd),
            "latency_ms": round(job.latency_s * 1000),
            "prompt": prompt_of(job.body),
            "parameters": job.body,
            "user_id": None,
            "user_email": None,
        }
        for job, name in outputs[(page - 1) * _DEFAULT_PER_PAGE : page * _DEFAULT_PER_PAGE]
    ]
    return {"data": rows, "pagination": _pagination(page, _DEFAULT_PER_PAGE, len(outputs))}


def job_rows(state: SandboxState, job: Job, *, base: str, as_text: bool) -> list[dict[str, Any]]:
    """The rows of one job, none where the history does not show it."""
    now = state.now()
    if not state.lying.shows(job, now):
        return []
    return [state.lying.reported(_row(job, index, now, base, as_text=as_text), job) for index in range(job.samples)]


def _row(job: Job, index: int, now: float, base: str, *, as_text: bool) -> dict[str, Any]:
    status = _status(job, now)
    names = job.output_names() if status == "COMPLETED" else []
    is_over = status != "PENDING"
    return {
        "request_id": job.stated_id,
        "model_name": job.slug,
        "model_status": status,
        "credits_deduction": float(job.cost_usd) if job.is_charged else 0.0,
        "request_body": json.dumps(job.body) if as_text else job.body,
        "generation_url": f"{base}/outputs/{names[index]}" if names else None,
        "latency_ms": round(job.latency_s * 1000) if is_over else None,
        "model_created": iso_utc(job.created_at),
        "error": job.error if status == "FAILED" else None,
    }


def _pagination(page: int, per_page: int, total: int) -> dict[str, int]:
    return {"page": page, "per_page": per_page, "total": total, "total_pages": -(-total // per_page)}


def _status(job: Job, now: float) -> HistoryStatus:
    status = job.status(now)
    return status if status in {"COMPLETED", "FAILED"} else "PENDING"


def page_number(query: Mapping[str, str]) -> int:
    """The page asked for, the first by default.

    Raises:
        ValueError: not a whole number from 1.
    """
    return _number(query, "page", default=1, maximum=None)


def _number(query: Mapping[str, str], name: str, *, default: int, maximum: int | None) -> int:
    text = query.get(name) or str(default)
    if not text.isdecimal() or int(text) < 1 or (maximum is not None and int(text) > maximum):
        raise ValueError(f"{name} must be a whole number from 1" + (f" to {maximum}" if maximum else ""))
    return int(text)
