"""The request history: one row per output, failures and jobs in flight included, paged, filtered, sorted."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lab.sandbox import Client, Clock, Start

PATH = "/inference-request/request-history"
FACES = {"prompt": "a man", "face_image": "https://example.com/face.jpg"}


@pytest.fixture
def client(start: Start, clock: Clock) -> Client:
    """Three days of work: a success, a failure, a success of two outputs, and one still running."""
    client = start(price_jitter=False)
    client.submit({"prompt": "first"})
    clock.advance(86400)
    client.submit({})
    clock.advance(86400)
    client.submit({**FACES, "samples": 2}, "instantid")
    clock.advance(60)
    client.submit({"prompt": "last"})
    return client


def test_each_output_is_a_row_with_the_full_cost_of_its_request(client: Client) -> None:
    rows = client.get(PATH, params={"model_name": "instantid"}).json()["data"]
    assert len(rows) == 2
    assert len({row["generation_url"] for row in rows}) == 2
    (job,) = [job for job in client.server.account()["jobs"] if job["slug"] == "instantid"]
    assert {row["request_id"] for row in rows} == {job["request_id"]}
    assert [Decimal(str(row["credits_deduction"])) for row in rows] == [Decimal(job["cost_usd"])] * 2


def test_a_history_row_has_model_status_cost_body_url_latency_time_and_error(client: Client) -> None:
    rows = client.get(PATH, params={"sort_order": "asc"}).json()["data"]
    first, failed, _, _, running = rows
    assert first == {
        "request_id": first["request_id"],
        "model_name": "fast-flux-schnell",
        "model_status": "COMPLETED",
        "credits_deduction": 0.00547,
        "request_body": {"prompt": "first"},
        "generation_url": f"{client.server.url}/outputs/{first['request_id']}.jpeg",
        "latency_ms": 10000,
        "model_created": "2026-01-02T12:04:05.678Z",
        "error": None,
    }
    assert (failed["model_status"], failed["credits_deduction"], failed["generation_url"]) == ("FAILED", 0.0, None)
    assert failed["error"] == "Prompt is Mandatory and must be string"
    assert (running["model_status"], running["latency_ms"], running["generation_url"]) == ("PENDING", None, None)


def test_the_body_can_be_given_as_a_string(start: Start, clock: Clock) -> None:
    client = start(history_body_as_string=True)
    client.submit({"prompt": "a pear", "seed": 2**60})
    (row,) = client.get(PATH).json()["data"]
    assert json.loads(row["request_body"]) == {"prompt": "a pear", "seed": 2**60}


@pytest.mark.parametrize(
    ("query", "statuses"),
    [
        ({}, ["PENDING", "COMPLETED", "COMPLETED", "FAILED", "COMPLETED"]),
        ({"sort_order": "asc"}, ["COMPLETED", "FAILED", "COMPLETED", "COMPLETED", "PENDING"]),
        ({"status": "FAILED"}, ["FAILED"]),
        ({"status": "PENDING"}, ["PENDING"]),
        ({"model_name": "flux"}, ["PENDING", "FAILED", "COMPLETED"]),
        ({"from_date": "2026-01-03", "to_date": "2026-01-03"}, ["FAILED"]),
        ({"to_date": "2026-01-02"}, ["COMPLETED"]),
        ({"from_date": "2026-01-05"}, None),
        ({"sort_by": "credits_deduction"}, ["COMPLETED", "COMPLETED", "COMPLETED", "PENDING", "FAILED"]),
        (
            {"sort_by": "model_name", "sort_order": "asc"},
            ["COMPLETED", "FAILED", "PENDING", "COMPLETED", "COMPLETED"],
        ),
    ],
)
def test_rows_are_filtered_and_sorted_as_asked(
    client: Client, query: dict[str, str], statuses: list[str] | None
) -> None:
    response = client.get(PATH, params=query)
    if statuses is None:
        assert response.status_code == 400
    else:
        assert [row["model_status"] for row in response.json()["data"]] == statuses


def test_pages_cut_the_rows_without_losing_or_repeating_one(client: Client) -> None:
    whole = client.get(PATH).json()
    assert whole["pagination"] == {"page": 1, "per_page": 20, "total": 5, "total_pages": 1}
    for per_page in (1, 2, 3, 5):
        pages = [client.get(PATH, params={"page": page, "per_page": per_page}).json() for page in range(1, 7)]
        assert [row for page in pages for row in page["data"]] == whole["data"]
        assert {page["pagination"]["total_pages"] for page in pages} == {-(-5 // per_page)}


@pytest.mark.parametrize(
    "query",
    [
        {"page": "0"},
        {"per_page": "101"},
        {"per_page": "many"},
        {"from_date": "2026-1-x"},
        {"from_date": "2025-12-01", "to_date": "2026-01-02"},
        {"from_date": "2026-01-02", "to_date": "2026-01-01"},
        {"status": "DONE"},
        {"sort_by": "luck"},
        {"sort_order": "up"},
    ],
)
def test_a_query_out_of_bounds_is_400(client: Client, query: dict[str, str]) -> None:
    response = client.get(PATH, params=query)
    assert response.status_code == 400
    assert response.json()["error"]


def test_a_window_of_31_days_is_allowed(client: Client) -> None:
    assert client.get(PATH, params={"from_date": "2025-12-02", "to_date": "2026-01-02"}).status_code == 200


def test_without_dates_only_the_last_week_is_listed_but_one_request_is_found_at_any_age(
    client: Client, clock: Clock
) -> None:
    request_id = client.server.account()["jobs"][0]["request_id"]
    clock.advance(30 * 86400)
    assert client.get(PATH).json()["data"] == []
    row = client.get(f"{PATH}/{request_id}").json()
    assert (row["request_id"], row["model_status"], row["request_body"]) == (
        request_id,
        "COMPLETED",
        {"prompt": "first"},
    )


def test_an_unknown_request_id_is_not_found(client: Client) -> None:
    assert client.get(f"{PATH}/nobody").status_code == 404
