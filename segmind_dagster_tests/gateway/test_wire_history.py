"""Reading the history: every envelope and name that occurs, and whether a recorded body is the one that was sent."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from segmind_dagster.gateway import wire

URL = "https://images.segmind.com/generations/a.jpeg"
HISTORY_ROW = {
    "request_id": "r-1",
    "model_name": "fast-flux-schnell",
    "model_status": "COMPLETED",
    "credits_deduction": 0.0055,
    "request_body": {"prompt": "a pear", "seed": 4},
    "generation_url": URL,
    "latency_ms": 2500,
    "model_created": "2026-01-02T03:04:05.678Z",
    "error": None,
}


@pytest.mark.parametrize(
    "envelope",
    [
        [HISTORY_ROW],
        {"data": [HISTORY_ROW]},
        {"data": [HISTORY_ROW], "pagination": {"page": 1, "total_pages": 1}},
        {"generations": [HISTORY_ROW], "page": 1, "per_page": 20, "total": 1},
        {"data": {"rows": [HISTORY_ROW], "total": 1}},
        {"success": True, "results": [HISTORY_ROW]},
        {"status": "success", "error": None, "data": [HISTORY_ROW]},
        {"status": 200, "data": [HISTORY_ROW]},
        {"code": 0, "success": None, "message": "1 found", "data": [HISTORY_ROW]},
    ],
    ids=["a list", "data", "data and pages", "as in the SDK's tests", "nested", "results", "well", "200", "code"],
)
def test_a_row_of_the_history_is_read_from_every_envelope(envelope: Any) -> None:
    page = wire.read_history(envelope)
    assert page is not None
    assert page.rows == (
        wire.HistoryRow(
            request_id="r-1",
            model_slug="fast-flux-schnell",
            body={"prompt": "a pear", "seed": 4},
            created_at=datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC),
            status="COMPLETED",
            cost_usd=Decimal("0.0055"),
            latency_ms=2500,
            output_url=URL,
        ),
    )


@pytest.mark.parametrize(
    "envelope",
    [
        None,
        5,
        "rows",
        {},
        {"data": None},
        {"error": "Unauthorized"},
        {"error": "History is not available now", "data": []},
        {"success": False, "message": "try again", "data": []},
        {"status": "error", "data": []},
        {"status": 503, "data": []},
        {"data": {"error": "no such shard", "rows": []}},
        {"data": [HISTORY_ROW], "errors": []},
        [HISTORY_ROW, None],
        [HISTORY_ROW, {"model_name": "m"}],
        [{**HISTORY_ROW, "request_id": 5}],
    ],
)
def test_a_partly_readable_history_is_unreadable(envelope: Any) -> None:
    assert wire.read_history(envelope) is None


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"prompt": "a"}, {"prompt": "a"}),
        ('{"prompt": "a"}', {"prompt": "a"}),
        ("not json", None),
        ('["a"]', None),
        (None, None),
        (5, None),
    ],
)
def test_a_body_in_the_history_may_be_an_object_or_its_text(body: Any, expected: Any) -> None:
    page = wire.read_history([{**HISTORY_ROW, "request_body": body}])
    assert page is not None
    assert page.rows[0].body == expected


@pytest.mark.parametrize("name", ["model_created", "created_at", "created", "timestamp"])
def test_the_time_of_a_row_may_have_several_names(name: str) -> None:
    row = {key: value for key, value in HISTORY_ROW.items() if key != "model_created"}
    page = wire.read_history([{**row, name: "2026-01-02T03:04:05+01:00"}])
    assert page is not None
    assert page.rows[0].created_at == datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("envelope", "total"),
    [
        ([], None),
        ({"data": [], "pagination": {"page": 1, "total_pages": 9}}, None),
        ({"data": [HISTORY_ROW], "pagination": {"page": 1, "total": 7}}, 7),
        ({"data": [HISTORY_ROW], "pagination": {"total": "7"}}, 7),
        ({"data": [HISTORY_ROW], "total_count": 3}, 3),
        ({"data": [HISTORY_ROW], "pagination": {"total": -1}}, None),
        ({"data": [HISTORY_ROW], "pagination": {"total": "many"}}, None),
        ({"data": [HISTORY_ROW], "pagination": "1 of 1"}, None),
        ([HISTORY_ROW], None),
    ],
)
def test_the_total_row_count_is_read_where_it_is_given(envelope: Any, total: int | None) -> None:
    page = wire.read_history(envelope)
    assert page is not None
    assert page.total == total


def test_row_texts_are_made_storable_in_a_database() -> None:
    odd = "a\0b\ud83d"
    row = wire.read_history_row(
        {**HISTORY_ROW, "request_id": odd, "model_name": odd, "model_status": odd, "error": odd}
    )
    assert row is not None
    assert {row.request_id, row.model_slug, row.status, row.error} == {"a\N{REPLACEMENT CHARACTER}b?"}
