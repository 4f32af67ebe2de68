"""The account's own endpoints, through dlt's REST client: balance, models, models page, request history.

How far the history is read is in `history`, what changed in the catalogue in `catalogue`, what the page says in `page`.

All are free GETs. Shapes that Segmind does not document are read by `gateway.wire`, tolerantly; an answer that
is not understood raises, so that a wrong number is never loaded.
"""

from __future__ import annotations

import hashlib
import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dlt
from requests.exceptions import RequestException

from segmind_dagster.errors import SegmindDagsterError
from segmind_dagster.gateway import wire
from segmind_dagster.gateway.errors import error_text
from segmind_dagster.gateway.history import PATH
from segmind_dagster.gateway.redaction import Redactor, redactor_of
from segmind_dagster.lifecycle.parsing import read_ms, read_usd
from segmind_dagster.source import history, tables
from segmind_dagster.source.catalogue import catalogue_changes
from segmind_dagster.source.long_texts import whole_text
from segmind_dagster.source.page import models_on_page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dlt.extract.resource import DltResource
    from dlt.sources.helpers.rest_client.client import RESTClient
    from requests import Response

    from segmind_dagster.settings import Settings

LOGGER = logging.getLogger(__name__)


def account_resources(settings: Callable[[], Settings]) -> list[DltResource]:
    """The account's resources; settings are read when one is extracted, not when it is built."""
    return [_credits_resource(settings), *_catalogue(settings), *_page(settings), _history_resource(settings)]


def _credits_resource(settings: Callable[[], Settings]) -> DltResource:
    @dlt.resource(name="credits", write_disposition="append", columns=tables.CREDITS_COLUMNS)
    def credits_() -> Iterator[Any]:
        """Balance of the account, one row each time it is read."""
        from segmind_dagster.data_folder import opened
        from segmind_dagster.ledger import entries

        yield dlt.mark.materialize_table_schema()
        row = _credits(current := settings())
        with opened(current) as (ledger, _):
            ledger.write(entries.record_balance, balance_usd=row["balance_usd"], now=row["observed_at"])
        yield [row]

    return credits_


def _catalogue(settings: Callable[[], Settings]) -> list[DltResource]:
    @dlt.resource(name="models", write_disposition="replace", primary_key="slug", columns=tables.MODELS_COLUMNS)
    def models() -> Iterator[Any]:
        """Segmind's catalogue: every model with its published parameters."""
        yield dlt.mark.materialize_table_schema()
        rows = _models(current := settings())
        _remember_prices(current, rows)
        yield rows

    @dlt.transformer(
        data_from=models, name="model_changes", write_disposition="append", columns=tables.MODEL_CHANGES_COLUMNS
    )
    def model_changes(rows: list[dict[str, Any]]) -> Iterator[Any]:
        """What changed in Segmind's catalogue, and when that was seen: prices, mean times, models come and gone."""
        yield dlt.mark.materialize_table_schema()
        if rows:
            state, origin = dlt.current.resource_state(), rows[0]["api_origin"]
            yield list(catalogue_changes(rows, state, api_origin=origin, now=datetime.now(UTC)))

    return [models, model_changes]


def _page(settings: Callable[[], Settings]) -> list[DltResource]:
    @dlt.resource(
        name="models_page", write_disposition="merge", primary_key="html_sha256", columns=tables.MODELS_PAGE_COLUMNS
    )
    def models_page() -> Iterator[Any]:
        """The human-readable models page, kept as it came; one row for each version of it."""
        yield dlt.mark.materialize_table_schema()
        yield [_models_page(settings())]

    @dlt.transformer(
        data_from=models_page,
        name="models_page_rows",
        write_disposition="merge",
        primary_key=("html_sha256", "slug"),
        columns=tables.MODELS_PAGE_ROWS_COLUMNS,
    )
    def models_page_rows(pages: list[dict[str, Any]]) -> Iterator[Any]:
        """The models that the models page lists, as far as its HTML can be understood; rows for each version of it."""
        yield dlt.mark.materialize_table_schema()
        for page in pages:
            of_page = {name: page[name] for name in ("html_sha256", "fetched_at", "api_origin")}
            if found := models_on_page(whole_text(page["html"])):
                yield [{**model, **of_page} for model in found]
            else:
                LOGGER.warning("GET /v1/models/: no table of models on the page; `models_page` keeps it as it came.")

    return [models_page, models_page_rows]


def _history_resource(settings: Callable[[], Settings]) -> DltResource:
    @dlt.resource(
        name=history.RESOURCE,
        write_disposition="merge",
        # two projects may read one account under two labels
        primary_key=("api_origin", "request_id"),
        columns=tables.HISTORY_COLUMNS,
    )
    def request_history() -> Iterator[Any]:
        """What Segmind says was requested and charged, one row a request."""
        yield dlt.mark.materialize_table_schema()
        current = settings()
        client = _client(current.platform_url, current)

        def ask(query: dict[str, str]) -> tuple[int, Any]:
            response = _get(client, PATH, query, redactor=redactor_of(current))
            return response.status_code, _parsed(PATH, response)

        state = dlt.current.resource_state()
        yield from history.history_rows(
            ask, state, api_origin=current.api_origin, redactor=redactor_of(current), now=datetime.now(UTC)
        )

    return request_history


def _client(base_url: str, settings: Settings) -> RESTClient:
    # brings requests along, which nothing else here needs
    from dlt.sources.helpers.rest_client.auth import APIKeyAuth
    from dlt.sources.helpers.rest_client.client import RESTClient

    auth = APIKeyAuth(name="x-api-key", api_key=settings.require_api_key(), location="header")
    return RESTClient(base_url=base_url, auth=auth)


def _get(client: RESTClient, path: str, params: dict[str, Any] | None = None, *, redactor: Redactor) -> Response:
    try:
        # requests would carry the key along to wherever a redirect points
        response = client.get(path, params=params, allow_redirects=False)
    # its own words may quote the header with the key
    except RequestException as error:
        raise SegmindDagsterError(
            f"GET {path} brought no answer ({type(error).__name__}). Nothing of it was loaded; check the network and "
            "SEGMIND_API_URL, then materialize again."
        ) from None
    if response.status_code != 200:  # noqa: PLR2004  HTTP
        raise SegmindDagsterError(
            f"GET {path}: answered {response.status_code}: "
            f"{redactor.short(error_text(response.content)) or 'nothing'}. Nothing of it was loaded."
        )
    return response


def _parsed(path: str, response: Response) -> Any:
    """The JSON of an answer; half an answer, or a page for people, is none."""
    try:
        # not `response.json()`: its error is requests' own
        return json.loads(response.content)
    except (ValueError, RecursionError) as error:
        raise SegmindDagsterError(
            f"GET {path} answered {len(response.content)} bytes that are not JSON, or only a part of it: the answer is "
            "not understood. Nothing of it was loaded; materialize again."
        ) from error


def _credits(settings: Settings) -> dict[str, Any]:
    path = "/v1/get-user-credits"
    document = _parsed(path, _get(_client(settings.api_url, settings), path, redactor=redactor_of(settings)))
    found = wire.read_credits(document)
    if found is None:
        raise SegmindDagsterError(
            f"GET {path} answered without a balance, but with "
            + (f"the keys {sorted(document)}." if isinstance(document, dict) else "something that is no object.")
        )
    return {
        "observed_at": datetime.now(UTC),
        "credits_usd": found.paid_usd,
        "free_credits_usd": found.free_usd,
        "balance_usd": found.balance_usd,
        "api_origin": settings.api_origin,
    }


def _models(settings: Settings) -> list[dict[str, Any]]:
    client = _client(settings.platform_url, settings)
    path = "/inference-model-information/list"
    document = _parsed(path, _get(client, path, {"segmind_model": "True"}, redactor=redactor_of(settings)))
    lists = [value for value in document.values() if isinstance(value, list)] if isinstance(document, dict) else []
    rows = document if isinstance(document, list) else next(iter(lists), None)
    if rows is None:
        raise SegmindDagsterError(f"GET {path} answered without a list of models.")
    return [
        # a published mean of nothing costs nothing and takes no time: that is read as not known
        {
            "slug": row["slug"],
            "title": row.get("title"),
            "type": row.get("type"),
            "description": row.get("description"),
            "parameters": row.get("parameters"),
            "mean_cost_usd": read_usd(row.get("avg_cost_usd")) or None,
            "mean_latency_ms": read_ms(row.get("avg_latency_s")) or None,
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
    known = {slug: price for slug, price in prices.items() if any(price)}
    if known:
        from segmind_dagster.data_folder import opened
        from segmind_dagster.ledger import entries

        with opened(settings) as (ledger, _):
            ledger.write(entries.record_model_prices, known, now=datetime.now(UTC))


def _models_page(settings: Settings) -> dict[str, Any]:
    response = _get(_client(settings.api_url, settings), "/v1/models/", redactor=redactor_of(settings))
    return {
        "html_sha256": hashlib.sha256(response.content).hexdigest(),
        "fetched_at": datetime.now(UTC),
        "html": response.content.decode("utf-8", errors="replace"),
        "api_origin": settings.api_origin,
    }
