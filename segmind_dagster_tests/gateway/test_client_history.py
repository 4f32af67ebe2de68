"""The history over real HTTP: read whole or not at all, because what is absent from it may be bought again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from lab.gateway import HTML, answering, refused_by, since_an_hour

from segmind_dagster.gateway import history
from segmind_dagster.gateway.errors import GatewayError
from segmind_dagster.registry.models import FAST_FLUX_SCHNELL, SDXL_NEWREALITY

if TYPE_CHECKING:
    from lab.gateway import Bench

    from segmind_dagster.gateway.client import Gateway
    from segmind_dagster.gateway.wire import HistoryRow

BODY = {"prompt": "a pear", "seed": 4}
NOW = datetime.now(UTC)


@pytest.mark.parametrize("as_text", [False, True], ids=["object", "text"])
def test_the_history_of_several_pages_is_read_whole(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, as_text: bool
) -> None:
    monkeypatch.setattr(history, "_PAGE_ROWS", 3)
    server = bench.sandbox(history_body_as_string=as_text)

    async def submit_and_read(gateway: Gateway) -> list[HistoryRow]:
        for seed in range(8):
            await gateway.submit(FAST_FLUX_SCHNELL, {**BODY, "seed": seed}, bench.sink)
        return await since_an_hour(gateway)

    rows = bench.run(server.url, submit_and_read)
    account = server.account()
    assert {row.request_id for row in rows} == {job["request_id"] for job in account["jobs"]}
    assert [row.body["seed"] for row in rows] == list(reversed(range(8)))
    assert sum(row.cost_usd for row in rows) == Decimal(account["charged_usd"])
    # three pages, and the empty one that ends them
    assert account["requests"]["history"] == 4


def test_a_request_with_several_outputs_is_one_row(bench: Bench) -> None:
    server = bench.sandbox()

    async def submit_and_read(gateway: Gateway) -> list[HistoryRow]:
        await gateway.submit(SDXL_NEWREALITY, {**BODY, "samples": 3}, bench.sink)
        return await since_an_hour(gateway)

    (row,) = bench.run(server.url, submit_and_read)
    assert row.cost_usd == Decimal(server.account()["charged_usd"])


def history_of(*moments: datetime) -> list[dict[str, Any]]:
    return [
        {"request_id": f"r-{number}", "model_name": "m", "request_body": {}, "model_created": moment.isoformat()}
        for number, moment in enumerate(moments)
    ]


def test_reading_stops_once_rows_are_older_than_asked_for(bench: Bench) -> None:
    page = history_of(NOW, NOW - timedelta(hours=2))
    handler, seen = answering(lambda: web.json_response({"data": page}))
    rows = bench.against(
        handler, lambda gateway, _: gateway.history(since=NOW - timedelta(hours=1), now=NOW, is_whole=False)
    )
    assert [row.request_id for row in rows] == ["r-0", "r-1"]
    assert len(seen) == 1


def test_a_repeated_page_makes_the_history_incomplete(bench: Bench) -> None:
    handler, seen = answering(lambda: web.json_response({"data": history_of(NOW, NOW)}))
    error = refused_by(bench, handler, since_an_hour)
    assert error.kind == "unknown_outcome"
    assert "page 2 is page 1 again" in str(error)
    assert len(seen) == 2


def test_a_page_with_known_rows_does_not_end_the_reading(bench: Bench) -> None:
    """A request with many outputs fills more than a page with rows of its own."""
    row, last = history_of(NOW, NOW)
    pages = iter([[row, row], [row, last]])
    handler, _ = answering(lambda: web.json_response({"data": next(pages, [])}))
    rows = bench.against(handler, lambda gateway, _: since_an_hour(gateway))
    assert [found.request_id for found in rows] == ["r-0", "r-1"]


def test_an_unsorted_page_does_not_end_the_reading(bench: Bench) -> None:
    page = history_of(NOW - timedelta(hours=2), NOW)
    later = [{**history_of(NOW)[0], "request_id": "r-2"}]
    pages = iter([page, later])
    handler, _ = answering(lambda: web.json_response({"data": next(pages, [])}))
    rows = bench.against(handler, lambda gateway, _: since_an_hour(gateway))
    assert [found.request_id for found in rows] == ["r-0", "r-1", "r-2"]


def test_an_endless_history_is_an_error(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_MOST_PAGES", 4)
    pages = iter(range(100))
    handler, seen = answering(
        lambda: web.json_response({"data": [{**history_of(NOW)[0], "request_id": f"r-{next(pages)}"}]})
    )
    assert refused_by(bench, handler, since_an_hour).kind == "unknown_outcome"
    assert len(seen) == 4


@pytest.mark.parametrize("document", [{"data": None}, {"rows": "none"}, [{"model_name": "m"}], {"error": "x"}, 5])
def test_an_unreadable_history_is_an_error_and_not_empty(bench: Bench, document: Any) -> None:
    handler, _ = answering(lambda: web.json_response(document))
    error = refused_by(bench, handler, since_an_hour)
    assert error.kind == "unknown_outcome"
    assert "not understood" in str(error)


def test_a_history_that_fails_on_a_later_page_is_an_error(bench: Bench) -> None:
    first = {"data": history_of(NOW), "pagination": {"page": 1, "total_pages": 2}}
    handler, _ = answering(lambda: web.json_response(first), lambda: web.Response(text=HTML, status=502))
    assert refused_by(bench, handler, since_an_hour).kind == "server_error"


def test_the_window_of_the_history_leaves_a_day_on_either_side(bench: Bench) -> None:
    handler, seen = answering(lambda: web.json_response([]))
    since, now = datetime(2026, 1, 2, 0, 30, tzinfo=UTC), datetime(2026, 1, 2, 23, 30, tzinfo=UTC)
    bench.against(handler, lambda gateway, _: gateway.history(since=since, now=now))
    query = seen[0].query
    assert (query["from_date"], query["to_date"]) == ("2026-01-01", "2026-01-03")
    assert (query["sort_by"], query["sort_order"]) == ("model_created", "desc")


def test_the_history_finds_a_request_whose_record_is_gone(bench: Bench) -> None:
    server = bench.sandbox(record_ttl_s=0.0)

    async def submit_and_ask(gateway: Gateway) -> tuple[HistoryRow | None, HistoryRow | None]:
        accepted = await gateway.submit(FAST_FLUX_SCHNELL, BODY, bench.sink)
        with pytest.raises(GatewayError, match="gone"):
            await gateway.status(accepted.request_id)
        return await gateway.history_row(accepted.request_id), await gateway.history_row("another")

    remembered, nothing = bench.run(server.url, submit_and_ask)
    (job,) = server.account()["jobs"]
    assert remembered.request_id == job["request_id"]
    assert remembered.output_url.startswith(f"{server.url}/outputs/{job['request_id']}")
    assert (remembered.cost_usd, remembered.status) == (Decimal(job["cost_usd"]), "COMPLETED")
    assert nothing is None


REMEMBERED = {"request_id": "r-1", "generation_url": "https://a/1.png"}


@pytest.mark.parametrize("document", [REMEMBERED, {"data": REMEMBERED}, {"data": [REMEMBERED], "message": "found"}])
def test_a_history_row_is_found_in_any_envelope(bench: Bench, document: Any) -> None:
    handler, _ = answering(lambda: web.json_response(document))
    row = bench.against(handler, lambda gateway, _: gateway.history_row("r-1"))
    assert (row.request_id, row.output_url) == ("r-1", "https://a/1.png")


@pytest.mark.parametrize("url", [None, "", 5, "file:///etc/passwd", ["https://a/1.png"]])
def test_a_history_row_may_have_no_output(bench: Bench, url: Any) -> None:
    handler, _ = answering(lambda: web.json_response({**REMEMBERED, "generation_url": url}))
    assert bench.against(handler, lambda gateway, _: gateway.history_row("r-1")).output_url is None


@pytest.mark.parametrize("document", [5, None, "r-1", {}, {"data": [None, 5]}, {"data": {"request_id": 5}}])
def test_a_history_row_of_unknown_shape_reads_as_none(bench: Bench, document: Any) -> None:
    handler, _ = answering(lambda: web.json_response(document))
    assert bench.against(handler, lambda gateway, _: gateway.history_row("r-1")) is None
