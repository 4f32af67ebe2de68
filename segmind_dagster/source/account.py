"""The account's own endpoints, through dlt's REST client: balance, models, models page, request history.

All are free GETs. Shapes that Segmind does not document are read by `gateway.wire`, tolerantly; an answer that
is not understood raises, so that a wrong number is never loaded.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import isfinite
from typing import TYPE_CHECKING, Any

import dlt

from segmind_dagster.errors import SegmindDagsterError
from segmind_dagster.gateway.failures import error_text
from segmind_dagster.gateway.history import PATH, SPAN, Pages
from segmind_dagster.gateway.redaction import redact, redact_values
from segmind_dagster.source import tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dlt.extract.resource import DltResource
    from dlt.sources.helpers.rest_client.client import RESTClient
    from requests import Response

    from segmind_dagster.gateway import wire
    from segmind_dagster.settings import Settings

_FIRST_HISTORY = timedelta(days=90)
# rows may arrive late, and those in flight change: the last days are always read again
_HISTORY_OVERLAP_S = 2 * 86400.0


def account_resources(settings: Callable[[], Settings]) -> list[DltResource]:
    """The four account resources.

    Args:
        settings: read when a resource is extracted, not when it is built.
    """

    @dlt.resource(name="credits", write_disposition="append", columns=tables.CREDITS_COLUMNS)
    def credits_() -> Iterator[Any]:
        """Balance of the account, one row each time it is read."""
        from segmind_dagster.ledger import entries
        from segmind_dagster.runner.generate import opened

        yield dlt.mark.materialize_table_schema()
        row = _credits(current := settings())
        with opened(current) as (ledger, _):
            ledger.write(entries.record_balance, balance_usd=row["balance_usd"], now=row["observed_at"])
        yield [row]

    @dlt.resource(name="models", write_disposition="replace", primary_key="slug", columns=tables.MODELS_COLUMNS)
    def models() -> Iterator[Any]:
        """Segmind's catalogue: every model with its published parameters."""
        yield dlt.mark.materialize_table_schema()
        rows = _models(current := settings())
        _remember_prices(current, rows)
        yield rows

    @dlt.resource(
        name="models_page", write_disposition="merge", primary_key="html_sha256", columns=tables.MODELS_PAGE_COLUMNS
    )
    def models_page() -> Iterator[Any]:
        """The human-readable models page, kept as it came; one row for each version of it."""
        yield dlt.mark.materialize_table_schema()
        yield [_models_page(settings())]

    @dlt.resource(
        name="request_history", write_disposition="merge", primary_key="request_id", columns=tables.HISTORY_COLUMNS
    )
    def request_history(
        created_at: dlt.sources.incremental[datetime] = dlt.sources.incremental(  # noqa: B008  dlt's way to declare it
            "created_at", lag=_HISTORY_OVERLAP_S, range_start="open", on_cursor_value_missing="include"
        ),
    ) -> Iterator[Any]:
        """What Segmind says was requested and charged, one row a request."""
        yield dlt.mark.materialize_table_schema()
        yield from _history(settings(), since=created_at.start_value)

    return [credits_, models, models_page, request_history]


def _client(base_url: str, settings: Settings) -> RESTClient:
    # brings requests along, which nothing else here needs
    from dlt.sources.helpers.rest_client.auth import APIKeyAuth
    from dlt.sources.helpers.rest_client.client import RESTClient

    auth = APIKeyAuth(name="x-api-key", api_key=settings.require_api_key(), location="header")
    return RESTClient(base_url=base_url, auth=auth)


def _get(client: RESTClient, path: str, params: dict[str, Any] | None = None) -> Response:
    # requests would carry the key along to wherever a redirect points
    response = client.get(path, params=params, allow_redirects=False)
    if response.status_code != 200:  # noqa: PLR2004  HTTP
        raise SegmindDagsterError(
            f"GET {path}: answered {response.status_code}: {error_text(response.content) or 'nothing'}. "
            "Nothing of it was loaded."
        )
    return response


def _credits(settings: Settings) -> dict[str, Any]:
    document = _get(_client(settings.api_url, settings), "/v1/get-user-credits").json()
    paid, free = (_amount(document, name) for name in ("credits", "free-credits"))
    if paid is None and free is None:
        raise SegmindDagsterError(
            f"GET /v1/get-user-credits answered without a balance, but with the keys {sorted(document)}."
        )
    return {
        "observed_at": datetime.now(UTC),
        "credits_usd": paid,
        "free_credits_usd": free,
        "balance_usd": (paid or Decimal(0)) + (free or Decimal(0)),
        "api_origin": settings.api_origin,
    }


def _models(settings: Settings) -> list[dict[str, Any]]:
    client = _client(settings.platform_url, settings)
    document = _get(client, "/inference-model-information/list", {"segmind_model": "True"}).json()
    lists = [value for value in document.values() if isinstance(value, list)] if isinstance(document, dict) else []
    rows = document if isinstance(document, list) else next(iter(lists), None)
    if rows is None:
        raise SegmindDagsterError("GET /inference-model-information/list answered without a list of models.")
    return [
        {
            "slug": row["slug"],
            "title": row.get("title"),
            "type": row.get("type"),
            "description": row.get("description"),
            "parameters": row.get("parameters"),
            "mean_cost_usd": _mean(row, "avg_cost_usd"),
            "mean_latency_ms": _whole_ms(_mean(row, "avg_latency_s")),
            "is_visible": row.get("is_visible"),
            # spelt so by Segmind
            "is_deprecated": row.get("is_depreciated"),
            "is_new": row.get("is_new"),
            "api_origin": settings.api_origin,
        }
        for row in rows
        if isinstance(row, dict) and isinstance(row.get("slug"), str)
    ]


def _remember_prices(settings: Settings, rows: list[dict[str, Any]]) -> None:
    """Let estimates use what the list says; see `runner.prices`."""
    prices = {row["slug"]: (row["mean_cost_usd"], row["mean_latency_ms"]) for row in rows}
    told = {slug: price for slug, price in prices.items() if any(price)}
    if told:
        from segmind_dagster.ledger import entries
        from segmind_dagster.runner.generate import opened

        with opened(settings) as (ledger, _):
            ledger.write(entries.record_model_prices, told, now=datetime.now(UTC))


def _models_page(settings: Settings) -> dict[str, Any]:
    response = _get(_client(settings.api_url, settings), "/v1/models/")
    return {
        "html_sha256": hashlib.sha256(response.content).hexdigest(),
        "fetched_at": datetime.now(UTC),
        "html": response.content.decode("utf-8", errors="replace"),
        "api_origin": settings.api_origin,
    }


def _history(settings: Settings, *, since: datetime | None) -> Iterator[list[dict[str, Any]]]:
    client = _client(settings.platform_url, settings)
    end = datetime.now(UTC) + timedelta(days=1)
    start = since or end - _FIRST_HISTORY
    while start < end:
        stop = min(start + SPAN, end)
        yield from _history_window(client, settings, start, stop)
        start = stop


def _history_window(
    client: RESTClient, settings: Settings, start: datetime, stop: datetime
) -> Iterator[list[dict[str, Any]]]:
    seen: set[str] = set()
    pages = Pages(start.date(), stop.date())
    while not pages.is_done:
        response = _get(client, PATH, pages.query)
        # one row an output, each with the request's whole cost: once a request
        fresh = {row.request_id: row for row in pages.read(response.status_code, response.json())}
        yield [_history_row(row, settings) for request_id, row in fresh.items() if request_id not in seen]
        seen.update(fresh)


def _history_row(row: wire.HistoryRow, settings: Settings) -> dict[str, Any]:
    return {
        "request_id": row.request_id,
        "model": row.model_slug,
        "status": row.status,
        "cost_usd": row.cost_usd,
        "latency_ms": row.latency_ms,
        "request_body": redact_values(row.body),
        "error": redact(row.error) if row.error else None,
        "created_at": row.created_at,
        "api_origin": settings.api_origin,
    }


def _amount(document: Any, name: str) -> Decimal | None:
    value = document.get(name) if isinstance(document, dict) else None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not isfinite(value):
        return None
    return Decimal(str(value))


def _mean(row: Any, name: str) -> Decimal | None:
    """A published mean; nothing costs nothing and takes no time, so that is read as not known."""
    value = _amount(row, name)
    return value if value is not None and value > 0 else None


def _whole_ms(seconds: Decimal | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)
