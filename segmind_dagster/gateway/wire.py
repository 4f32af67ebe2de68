"""Reads Segmind's answers into frozen values, tolerantly; dicts stop here.

Where the documentation is silent or disagrees with itself, every plausible shape is accepted and anything
else reads as "not understood", never as an error or a zero.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from segmind_dagster.lifecycle.generation import NOT_REPORTED, Accounting
from segmind_dagster.lifecycle.matching import HistoryRow
from segmind_dagster.lifecycle.parsing import (
    FREE,
    read_balance_usd,
    read_instant,
    read_integer,
    read_ms,
    read_usd,
)

if TYPE_CHECKING:
    from decimal import Decimal

    from segmind_dagster.gateway.fetching import Received

# how an envelope may say that it went wrong
_ILL = ("error", "fail", "unauthorized", "forbidden", "denied", "unavailable", "timeout", "timed out")
_NO = (False, "false", "False")
_NOT_OK = 400
JobStatus = Literal["pending", "completed", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What Segmind says of a job: on its acceptance, its status or its result.

    Args:
        status: pending, completed or failed.
        request_id: Segmind's id, in the answer to a POST; empty in the others.
        http_status: of the answer to a POST; None in the others.
        error: why it failed.
        output_url: where the file is, for media.
        further_outputs: how many more files the answer names; one is asked for.
        output_text: the answer itself, for text models; for others, what stands in place of an address.
        accounting: cost and times.
        received: the file itself, when it came in the same exchange (v1).
    """

    status: JobStatus
    request_id: str = ""
    http_status: int | None = None
    error: str | None = None
    output_url: str | None = None
    further_outputs: int = 0
    output_text: str | None = None
    accounting: Accounting = NOT_REPORTED
    received: Received | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Credits:
    """What the account holds; None for a part that is missing."""

    paid_usd: Decimal | None
    free_usd: Decimal | None

    @property
    def balance_usd(self) -> Decimal:
        """Both together."""
        return sum((part for part in (self.paid_usd, self.free_usd) if part is not None), FREE)


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPage:
    """One page of the request history.

    Args:
        rows: one an output, as they came.
        total: how many the answer says there are in all; None when it does not say.
    """

    rows: tuple[HistoryRow, ...]
    total: int | None = None


def read_job(document: Any) -> Answer | None:
    """A status or result answer; None when it is not understood."""
    if not isinstance(document, Mapping):
        return None
    match str(document.get("status", "")).upper():
        case "QUEUED" | "PROCESSING" | "PENDING" | "IN_PROGRESS":
            return Answer(status="pending")
        case "FAILED":
            error = document.get("error") or document.get("message") or "no reason given"
            return Answer(status="failed", error=storable(str(error)), accounting=_accounting(document))
        case "COMPLETED":
            urls = _output_urls(document)
            return Answer(
                status="completed",
                output_url=urls[0] if urls else None,
                further_outputs=max(len(urls) - 1, 0),
                output_text=_output_text(document.get("output")),
                accounting=_accounting(document),
            )
        case _:
            return None


def read_headers(headers: Mapping[str, str]) -> Accounting:
    """The accounting that v1 answers carry in their headers."""
    return Accounting(
        cost_usd=read_usd(headers.get("x-cost")),
        inference_ms=read_ms(headers.get("x-generation-time")),
        seed=read_integer(headers.get("x-seed-value")),
    )


def read_history(document: Any) -> HistoryPage | None:
    """A page of the request history, whose envelope is not documented; None when it is not understood."""
    rows = document if isinstance(document, list) else None
    if isinstance(document, Mapping):
        if _reports_an_error(document):
            # an empty list that comes with it proves nothing
            return None
        lists = [value for value in document.values() if isinstance(value, list)]
        rows = lists[0] if len(lists) == 1 else None
        if rows is None and isinstance(document.get("data"), Mapping):
            return read_history(document["data"])
    if rows is None:
        return None
    read = [_history_row(row) for row in rows]
    if any(row is None for row in read):
        return None
    return HistoryPage(rows=tuple(row for row in read if row), total=_total(document))


def read_history_row(document: Any) -> HistoryRow | None:
    """One request of the history, bare or in some envelope; None when it is not understood."""
    if not isinstance(document, Mapping):
        return None
    rows = [row for value in (document, *document.values()) for row in (value if isinstance(value, list) else [value])]
    return next((read for row in rows if (read := _history_row(row))), None)


def read_file_urls(document: Any) -> list[str]:
    """The addresses of uploaded files, in either of the two documented shapes."""
    if not isinstance(document, Mapping):
        return []
    urls = document.get("file_urls") or document.get("urls") or []
    return [storable(url) for url in urls if isinstance(url, str)] if isinstance(urls, list) else []


def read_credits(document: Any) -> Credits | None:
    """The account's balance; None when it is not understood: a part that is nonsense makes the whole unknown."""
    if not isinstance(document, Mapping):
        return None
    given = [document.get(name) for name in ("credits", "free-credits")]
    paid, free = map(read_balance_usd, given)
    is_nonsense = any(value is not None and read_balance_usd(value) is None for value in given)
    return None if is_nonsense or paid is free is None else Credits(paid_usd=paid, free_usd=free)


def _history_row(row: Any) -> HistoryRow | None:
    if not isinstance(row, Mapping) or not isinstance(row.get("request_id"), str):
        return None
    body, url = row.get("request_body"), row.get("generation_url")
    if isinstance(body, str):
        try:
            body = json.loads(body)
        except (ValueError, RecursionError):
            body = None
    created = next((row[key] for key in ("model_created", "created_at", "created", "timestamp") if row.get(key)), None)
    return HistoryRow(
        request_id=storable(row["request_id"]),
        model_slug=storable(str(row.get("model_name") or "")),
        body=body if isinstance(body, Mapping) else None,
        created_at=read_instant(created),
        status=storable(str(row.get("model_status") or row.get("status") or "")) or None,
        cost_usd=read_usd(row.get("credits_deduction")),
        latency_ms=read_integer(row.get("latency_ms")),
        error=storable(str(row["error"])) if row.get("error") else None,
        output_url=storable(url) if isinstance(url, str) and url.startswith("http") else None,
    )


def _reports_an_error(envelope: Mapping[str, Any]) -> bool:
    """Whether an answer says itself that it failed, whatever its HTTP status."""
    if any(envelope.get(name) for name in ("error", "errors", "error_code", "error_description")):
        return True
    if any(envelope.get(name, True) in _NO for name in ("success", "ok", "succeeded")):
        return True
    status = envelope.get("status", envelope.get("code"))
    number = read_integer(status)
    if number is not None:
        return number < 0 or number >= _NOT_OK
    return any(word in str(status).lower() for word in _ILL)


def storable(text: str) -> str:
    """Text without what JSON can hold and a database cannot: NUL, and halves of surrogate pairs."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def _total(document: Any) -> int | None:
    """How many there are in all, as the answer says it; page numbers and page counts are not asked for."""
    if not isinstance(document, Mapping):
        return None
    for place in (document.get("pagination"), document.get("meta"), document):
        if isinstance(place, Mapping):
            for name in ("total", "total_count", "total_items", "total_records", "total_results"):
                if (total := read_integer(place.get(name))) is not None and total >= 0:
                    return total
    return None


def _output_text(output: Any) -> str | None:
    """A text model's answer: the output as it stands."""
    if output is None or output == "" or isinstance(output, str):
        return output or None
    return json.dumps(output, ensure_ascii=False)


def _output_urls(document: Mapping[str, Any]) -> list[str]:
    """Where pictures, video or sound are: addresses, lists or objects with one, also as text that holds JSON."""
    # the first place that names any: what stands in another one is the same again, or a preview of it
    places = (_addresses_in(document.get(name)) for name in ("output", "images", "video", "image", "audio"))
    return next((list(dict.fromkeys(place)) for place in places if place), [])


def _addresses_in(value: Any) -> list[str]:
    if isinstance(value, str):
        text = value.strip()
        if text.startswith(("http://", "https://")) and text.split() == [text]:
            return [text]
        try:
            value = json.loads(text) if text.startswith(("[", "{")) else None
        except (ValueError, RecursionError):
            value = None
    found = []
    for each in value if isinstance(value, list) else [value]:
        address = each.get("url") if isinstance(each, Mapping) else each
        if isinstance(address, str) and address.strip().startswith("http"):
            found += _addresses_in(address)
    return found


def _accounting(document: Mapping[str, Any]) -> Accounting:
    metrics = document.get("metrics")
    metrics = metrics if isinstance(metrics, Mapping) else {}
    return Accounting(
        cost_usd=read_usd(metrics.get("cost")),
        queue_ms=read_ms(metrics.get("queue_time")),
        inference_ms=read_ms(metrics.get("inference_time")),
        seed=read_integer(document.get("seed")),
    )
