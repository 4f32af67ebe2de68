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
def test_a_history_that_is_only_half_understood_is_not_understood(envelope: Any) -> None:
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
def test_the_time_of_a_row_goes_by_several_names(name: str) -> None:
    row = {key: value for key, value in HISTORY_ROW.items() if key != "model_created"}
    page = wire.read_history([{**row, name: "2026-01-02T03:04:05+01:00"}])
    assert page is not None
    assert page.rows[0].created_at == datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("envelope", "is_last"),
    [
        ([], True),
        ({"data": [], "pagination": {"page": 1, "total_pages": 9}}, True),
        ({"data": [HISTORY_ROW], "pagination": {"page": 1, "total_pages": 2}}, False),
        ({"data": [HISTORY_ROW], "pagination": {"page": "2", "total_pages": "2"}}, True),
        ({"data": [HISTORY_ROW], "page": 3, "total_pages": 3}, True),
        ({"data": [HISTORY_ROW], "pagination": {"page": 1}}, False),
        ({"data": [HISTORY_ROW], "pagination": "1 of 1"}, False),
        ([HISTORY_ROW], False),
    ],
)
def test_a_page_is_the_last_one_when_it_says_so_or_is_empty(envelope: Any, is_last: bool) -> None:
    page = wire.read_history(envelope)
    assert page is not None
    assert page.is_last is is_last


SENT = {"prompt": "a pear", "seed": 4, "guidance": 1.5, "upscale": True, "nested": {"a": [1, 2]}}


@pytest.mark.parametrize(
    "recorded",
    [
        SENT,
        {**SENT, "base64": False, "steps": 4},
        {**SENT, "seed": "4"},
        {**SENT, "guidance": "1.5"},
        {**SENT, "nested": {"a": [1, 2], "b": 3}},
        {key: SENT[key] for key in reversed(SENT)},
    ],
    ids=["the same", "defaults added", "text for an integer", "text for a number", "nested more", "another order"],
)
def test_a_recorded_body_covers_what_was_sent(recorded: dict[str, Any]) -> None:
    assert wire.covers(recorded, SENT)


@pytest.mark.parametrize(
    "recorded",
    [
        {},
        {key: value for key, value in SENT.items() if key != "seed"},
        {**SENT, "prompt": "a peach"},
        {**SENT, "seed": 5},
        {**SENT, "upscale": False},
        {**SENT, "upscale": 1},
        {**SENT, "nested": {"a": [2, 1]}},
        {**SENT, "nested": None},
    ],
    ids=["nothing", "one missing", "other text", "other seed", "other flag", "1 for true", "other list", "no object"],
)
def test_a_recorded_body_that_differs_does_not_cover_what_was_sent(recorded: dict[str, Any]) -> None:
    assert not wire.covers(recorded, SENT)


def test_texts_of_a_row_that_no_database_can_hold_are_made_ones_that_it_can() -> None:
    odd = "a\0b\ud83d"
    row = wire.read_history_row(
        {**HISTORY_ROW, "request_id": odd, "model_name": odd, "model_status": odd, "error": odd}
    )
    assert row is not None
    assert {row.request_id, row.model_slug, row.status, row.error} == {"a\N{REPLACEMENT CHARACTER}b?"}
