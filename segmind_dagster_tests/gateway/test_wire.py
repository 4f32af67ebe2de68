"""Reading answers: every documented shape, the variants seen in the wild, and never an exception."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.gateway import wire
from segmind_dagster.lifecycle.generation import NOT_REPORTED, Accounting

URL = "https://images.segmind.com/generations/a.jpeg"
RESULT = {
    "status": "COMPLETED",
    "error": None,
    "output": URL,
    "images": [{"url": URL, "content_type": "image/jpeg", "file_name": "a.jpeg", "file_size": "1234"}],
    "seed": "4898558797",
    "prompt": "a pear",
    "timings": {},
    "metrics": {
        "cost": 0.05,
        "remaining_credits": 1.23,
        "inference_time": 13.96,
        "queue_time": 0.2,
        "total_time": 14.2,
        "retry_count": 1,
    },
}
names = st.sampled_from([
    "status", "error", "message", "output", "video", "image", "audio", "url", "seed", "metrics", "cost", "queue_time",
    "inference_time", "request_id", "request_body", "model_name", "model_status", "model_created", "created_at",
    "latency_ms", "credits_deduction", "data", "rows", "pagination", "page", "total_pages", "file_urls", "urls",
])  # fmt: skip
texts = st.text(max_size=12) | st.sampled_from(
    ["COMPLETED", "FAILED", "QUEUED", "0.05", "-1", "NaN", "Infinity", "1e9", URL, "{}", "[1]", "2026-01-02T03:04:05Z"]
)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names | texts, inner, max_size=6),
    max_leaves=20,
)
objects = st.dictionaries(names | texts, documents, max_size=8)


def read(document: Any) -> wire.Answer:
    answer = wire.read_job(document)
    assert answer is not None
    return answer


def test_the_documented_result_is_read_completely() -> None:
    assert read(RESULT) == wire.Answer(
        status="completed",
        output_url=URL,
        output_text=URL,
        accounting=Accounting(cost_usd=Decimal("0.05"), queue_ms=200, inference_ms=13960, seed=4898558797),
    )


@pytest.mark.parametrize("status", ["QUEUED", "PROCESSING", "PENDING", "IN_PROGRESS", "queued"])
def test_a_job_that_is_not_done_is_pending(status: str) -> None:
    assert read({"status": status, "request_id": "r", "metrics": {}}) == wire.Answer(status="pending")


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ({"status": "FAILED", "error": "Prompt is Mandatory"}, "Prompt is Mandatory"),
        ({"status": "FAILED", "error": None, "message": "broke"}, "broke"),
        ({"status": "FAILED"}, "no reason given"),
        ({"status": "FAILED", "error": {"code": 7}}, "{'code': 7}"),
    ],
)
def test_a_failed_job_has_an_error_and_no_cost(document: dict[str, Any], error: str) -> None:
    answer = read({**document, "metrics": {"inference_time": 0.007, "queue_time": 0.23}})
    assert (answer.status, answer.error) == ("failed", error)
    assert (answer.accounting.cost_usd, answer.accounting.inference_ms) == (None, 7)


def test_further_outputs_of_one_answer_are_counted_and_a_preview_is_none() -> None:
    assert read({"status": "COMPLETED", "output": [URL, f"{URL}?b", URL]}).further_outputs == 1
    assert read({"status": "COMPLETED", "video": URL, "image": f"{URL}?still"}).further_outputs == 0
    assert read({"status": "COMPLETED"}).further_outputs == 0


@pytest.mark.parametrize(
    "output",
    [
        {"output": URL},
        {"output": [URL]},
        {"output": [URL, "https://images.segmind.com/second.jpeg"]},
        {"output": {"url": URL}},
        {"output": [{"url": URL}]},
        {"output": None, "images": [{"url": URL}]},
        {"output": "", "images": [{"url": URL}]},
        {"output": [], "images": [{"url": URL}]},
        {"images": [URL]},
        {"images": [{}, {"url": None}, {"url": URL}]},
        {"images": None, "video": {"url": URL, "content_type": "video/mp4"}},
        {"video": URL},
        {"image": URL},
        {"audio": {"url": URL}},
        {"output": json.dumps([URL])},
        {"output": json.dumps({"url": URL})},
        {"output": f" {URL}\n"},
        {"output": "data:image/jpeg;base64,AAAA", "images": [{"url": URL}]},
        {"output": "[not JSON", "images": [{"url": URL}]},
    ],
    ids=lambda output: json.dumps(output)[:60],
)
def test_the_address_of_an_output_is_found_in_every_shape(output: dict[str, Any]) -> None:
    answer = read({"status": "COMPLETED", **output})
    assert answer.output_url == URL


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ('{"choices":[{"message":{"content":"Hi"}}]}', '{"choices":[{"message":{"content":"Hi"}}]}'),
        ("A haiku\nof three lines", "A haiku\nof three lines"),
        ("https://example.com is a site", "https://example.com is a site"),
        ({"choices": ["Ä"]}, '{"choices": ["Ä"]}'),
        ('[{"keyname":"a","value":1}]', '[{"keyname":"a","value":1}]'),
        (URL, URL),
        (5, "5"),
    ],
)
def test_the_answer_of_a_text_model_is_the_output_as_it_stands(output: Any, text: str) -> None:
    assert read({"status": "COMPLETED", "output": output}).output_text == text


@pytest.mark.parametrize(
    "output", [{}, {"output": None}, {"output": ""}, {"images": []}, {"images": [{"url": "file:///etc/passwd"}]}]
)
def test_a_completed_job_may_name_no_output(output: dict[str, Any]) -> None:
    answer = read({"status": "COMPLETED", **output})
    assert (answer.output_url, answer.output_text) == (None, None)


@pytest.mark.parametrize(
    "document", [None, [], "COMPLETED", 5, {}, {"status": None}, {"status": "DONE"}, {"state": "COMPLETED"}]
)
def test_an_answer_that_is_not_a_job_is_unreadable(document: Any) -> None:
    assert wire.read_job(document) is None


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        (0.05, Decimal("0.05")),
        (0, Decimal(0)),
        ("0.0055", Decimal("0.0055")),
        ("$0.05", Decimal("0.05")),
        (" 1e-3 ", Decimal("0.001")),
        (None, None),
        ("", None),
        ("free", None),
        (True, None),
        (-0.05, None),
        (float("nan"), None),
        (float("inf"), None),
        (100_000, None),
        ([0.05], None),
        ({"usd": 0.05}, None),
    ],
)
def test_an_unreadable_cost_is_unknown_and_never_zero(cost: Any, expected: Decimal | None) -> None:
    assert read({"status": "COMPLETED", "metrics": {"cost": cost}}).accounting.cost_usd == expected


@given(nano=st.integers(0, 10**14 - 1))
def test_a_cost_keeps_every_digit_it_came_with(nano: int) -> None:
    cost = Decimal(nano) / 10**9
    read_back = read(json.loads(json.dumps({"status": "COMPLETED", "metrics": {"cost": str(cost)}})))
    assert read_back.accounting.cost_usd == cost


@pytest.mark.parametrize(
    ("seed", "expected"), [("-1", -1), (7, 7), ("12", 12), (None, None), ("x", None), (True, None), (1.5, None)]
)
def test_a_seed_may_be_text(seed: Any, expected: int | None) -> None:
    assert read({"status": "COMPLETED", "seed": seed}).accounting.seed == expected


@pytest.mark.parametrize("metrics", [None, [], "none", 4])
def test_metrics_of_another_shape_report_nothing(metrics: Any) -> None:
    assert read({"status": "COMPLETED", "metrics": metrics}).accounting == NOT_REPORTED


def test_the_headers_of_a_v1_answer_carry_its_accounting() -> None:
    headers = {"x-cost": "0.0063", "x-generation-time": "2.5", "x-seed-value": "77", "x-remaining-credits": "1"}
    assert wire.read_headers(headers) == Accounting(cost_usd=Decimal("0.0063"), inference_ms=2500, seed=77)
    assert wire.read_headers({}) == NOT_REPORTED
    assert wire.read_headers({"x-cost": "n/a", "x-seed-value": ""}) == NOT_REPORTED


@pytest.mark.parametrize(
    ("document", "urls"),
    [
        ({"file_urls": ["https://a/1"], "message": "Files uploaded successfully"}, ["https://a/1"]),
        ({"urls": ["https://b/1", "https://b/2"]}, ["https://b/1", "https://b/2"]),
        ({"file_urls": ["https://a/1"], "urls": ["https://b/1"]}, ["https://a/1"]),
        ({"file_urls": [], "urls": ["https://b/1"]}, ["https://b/1"]),
        ({"file_urls": [None, 5, "https://a/1"]}, ["https://a/1"]),
        ({"file_urls": "https://a/1"}, []),
        ({"error": "too large"}, []),
        ([], []),
        (None, []),
    ],
)
def test_uploaded_addresses_are_read_in_both_documented_shapes(document: Any, urls: list[str]) -> None:
    assert wire.read_file_urls(document) == urls


MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-02T03:04:05Z",
        "2026-01-02T03:04:05+00:00",
        "2026-01-02T04:04:05+01:00",
        "2026-01-02 03:04:05",
        " 2026-01-02T03:04:05.000000Z ",
        "Fri, 02 Jan 2026 03:04:05 GMT",
        str(int(MOMENT.timestamp())),
        f"{MOMENT.timestamp():.3f}",
        str(int(MOMENT.timestamp() * 1000)),
    ],
)
def test_a_time_is_read_in_every_usual_format(text: str) -> None:
    assert wire.read_instant(text) == MOMENT


@pytest.mark.parametrize("text", [None, "", "soon", "nan", "inf", "-inf", "1e400", "{}", "Mon, 99 Zzz"])
def test_a_value_that_is_no_time_is_none(text: str | None) -> None:
    assert wire.read_instant(text) is None


@given(st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1)))  # noqa: DTZ001  made aware below
def test_a_time_survives_iso_and_http_format(moment: datetime) -> None:
    aware = moment.replace(tzinfo=UTC)
    assert wire.read_instant(aware.isoformat()) == aware
    assert wire.read_instant(format_datetime(aware, usegmt=True)) == aware.replace(microsecond=0)


@given(st.text(max_size=30))
def test_any_text_reads_as_an_aware_time_or_none(text: str) -> None:
    moment = wire.read_instant(text)
    assert moment is None or moment.utcoffset() is not None
