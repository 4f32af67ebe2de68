"""What answers mean: the one table from status and body to a kind, and what may follow each kind."""

from __future__ import annotations

import json
import random
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.gateway.errors import error_text, has_envelope, kind_of
from segmind_dagster.lifecycle.failures import POLICIES, FailureKind, classify_job, retry_delay_s

HTML = b"<!DOCTYPE html><html><head><title>405 Not Allowed</title></head><body></body></html>"
PROXY = b"<html><body><h1>502 Bad Gateway</h1></body></html>"


def said(text: str) -> bytes:
    return json.dumps({"error": text}).encode()


# segmind_api.md, section 0.3, and what other clients report
DOCUMENTED = [
    (400, said("Malformed JSON in request body"), "invalid_request"),
    (400, said("Missing required field: prompt"), "invalid_request"),
    (401, said("Missing Authorization or x-api-key in header"), "unauthorized"),
    (401, said("Unauthorized. API key is invalid or may have expired."), "unauthorized"),
    (401, b'{"error":"invalid_token","error_description":"expired","status_code":401}', "unauthorized"),
    (401, b"", "unauthorized"),
    (403, said("Access to model x is restricted for this account"), "forbidden_model"),
    (404, said("model not found"), "invalid_request"),
    (404, HTML, "invalid_request"),
    (405, HTML, "invalid_request"),
    (406, b"Invalid content type", "invalid_request"),
    (406, said("Invalid content type"), "invalid_request"),
    (406, said("Invalid value for parameter steps: 0 is below the minimum of 1"), "invalid_request"),
    (406, said("Insufficient credits. This model needs 0.05 credits and 0.01 are left"), "no_credits"),
    (406, said("INSUFFICIENT CREDITS"), "no_credits"),
    (406, said("Your balance is below the model's cost"), "no_credits"),
    (406, said("Invalid value for parameter white_balance: 'warm' is not one of auto"), "invalid_request"),
    (406, said("Invalid value for prompt: 'a credit card on a desk'"), "invalid_request"),
    (406, said("Prompt 'a credit card' was refused"), "invalid_request"),
    (406, said("Insufficient balance: the model needs 0.05 credits"), "no_credits"),
    (406, said("limit of the steam engine's size"), "invalid_request"),
    (406, said("Team spending limit reached. Please contact your team administrator."), "team_limit"),
    (406, said("Team credit limit reached"), "team_limit"),
    (410, said("Model x has been deprecated and is no longer available"), "retired_model"),
    (422, said("Validation Error"), "invalid_request"),
    (429, said("Rate limit exceeded. Please try again later."), "rate_limited"),
    (429, b"", "rate_limited"),
    (500, said("Internal server error"), "server_error"),
    (500, b'{"status":"error"}', "server_error"),
    (503, said("Service temporarily unavailable"), "server_error"),
]
# without our envelope, or without any documentation, a job may run behind the answer
UNKNOWN = [
    (403, HTML),
    (403, b""),
    (200, b""),
    (200, b'{"request_id": "'),
    (200, b'{"status": "QUEUED"}'),
    (200, HTML),
    (201, b"{}"),
    (202, b"{}"),
    (204, b""),
    (302, b""),
    (307, HTML),
    (408, said("Request timeout")),
    (409, said("Conflict")),
    (418, said("I'm a teapot")),
    (499, b""),
    (500, PROXY),
    (500, b""),
    (500, b'"error"'),
    (500, b"[]"),
    (502, PROXY),
    (502, said("Bad gateway")),
    (503, PROXY),
    (503, b""),
    (504, PROXY),
    (504, said("Gateway time-out")),
    (520, PROXY),
    (522, PROXY),
    (524, PROXY),
    (529, said("Overloaded")),
]
# an unknown outcome only once it is certain that there was none
FREE_TO_REPEAT = {"rate_limited", "server_error", "connect_error", "job_failed", "unknown_outcome"}
STOP_THE_RUN = {"unauthorized", "no_credits", "team_limit", "over_budget"}
PAID = {"bad_output", "expired"}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
bodies = st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode())


@pytest.mark.parametrize(("status", "body", "kind"), DOCUMENTED)
def test_a_documented_answer_has_its_kind(status: int, body: bytes, kind: str) -> None:
    assert kind_of(status, body) == kind


@pytest.mark.parametrize(("status", "body"), UNKNOWN)
def test_an_undocumented_answer_has_an_unknown_outcome(status: int, body: bytes) -> None:
    assert kind_of(status, body) == "unknown_outcome"


@given(status=st.integers(100, 599), body=bodies)
def test_any_answer_has_a_kind_with_a_policy(status: int, body: bytes) -> None:
    kind = kind_of(status, body)
    assert kind in POLICIES
    if status < 400 or status not in {400, 401, 403, 404, 405, 406, 410, 422, 429, 500, 503}:
        assert kind == "unknown_outcome"


@given(body=bodies)
def test_an_answer_of_success_or_of_a_broken_proxy_never_counts_as_free(body: bytes) -> None:
    for status in (200, 202, 408, 499, 502, 504, 520, 524):
        assert kind_of(status, body) == "unknown_outcome"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("Prompt is Mandatory and must be string", "invalid_job"),
        ("steps must be less than or equal to 8", "invalid_job"),
        ("Invalid image URL", "invalid_job"),
        ("image is required", "invalid_job"),
        ("aspect_ratio 4:3 is not allowed", "invalid_job"),
        ("Unsupported scheduler", "invalid_job"),
        ("CUDA out of memory", "job_failed"),
        ("CUDA error: invalid device ordinal", "job_failed"),
        ("Upstream timeout: required worker not available", "job_failed"),
        ("Internal error", "job_failed"),
        ("Worker timed out", "job_failed"),
        ("", "job_failed"),
    ],
)
def test_a_job_with_invalid_inputs_is_distinguished_from_a_broken_job(error: str, kind: str) -> None:
    assert classify_job(error) == kind


def test_every_failure_kind_has_a_policy_with_advice() -> None:
    assert set(POLICIES) == set(get_args(FailureKind))
    assert all(policy.advice.strip().endswith(".") for policy in POLICIES.values())


@pytest.mark.parametrize("kind", get_args(FailureKind))
def test_only_free_failures_are_retried_within_a_run(kind: FailureKind) -> None:
    policy = POLICIES[kind]
    assert (policy.attempts > 1) == (kind in FREE_TO_REPEAT)
    assert policy.stops_run == (kind in STOP_THE_RUN)
    assert policy.is_paid == (kind in PAID)
    assert not (policy.is_permanent and (policy.attempts > 1 or policy.is_paid or policy.stops_run))


@given(kind=st.sampled_from(sorted(get_args(FailureKind))), attempt=st.integers(1, 10**6), seed=st.integers(0, 2**32))
def test_a_delay_is_never_negative_and_never_more_than_a_minute(kind: Any, attempt: int, seed: int) -> None:
    assert 0 <= retry_delay_s(kind, attempt, random.Random(seed)) <= 60


@given(attempt=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_a_delay_doubles_up_to_its_limit_with_at_most_half_as_jitter(attempt: int, seed: int) -> None:
    longest = min(60.0, 0.5 * 2**attempt)
    assert longest / 2 <= retry_delay_s("server_error", attempt, random.Random(seed)) <= longest


def test_after_a_429_only_the_rate_limiter_waits() -> None:
    assert retry_delay_s("rate_limited", 5, random.Random(1)) == 0


def test_two_generations_do_not_retry_at_the_same_time() -> None:
    chance = random.Random(1)
    assert len({retry_delay_s("server_error", 3, chance) for _ in range(20)}) == 20


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (said("Insufficient credits"), "Insufficient credits"),
        (b'{"error":"","message":"look here"}', "look here"),
        (b'{"error_description":"expired"}', "expired"),
        (b'{"detail":[{"msg":"field required"}]}', "[{'msg': 'field required'}]"),
        (b"Invalid\n  content\ttype", "Invalid content type"),
        (b"", ""),
        (b"\xff\xfe", "\ufffd\ufffd"),
    ],
)
def test_the_readable_part_of_an_answer_is_found(body: bytes, text: str) -> None:
    assert error_text(body) == text


@given(body=bodies, limit=st.integers(1, 50))
def test_the_readable_part_of_any_answer_is_short(body: bytes, limit: int) -> None:
    assert len(error_text(body, limit=limit)) <= limit


@given(body=bodies)
def test_an_envelope_is_an_object_with_error_or_status(body: bytes) -> None:
    if has_envelope(body):
        assert {"error", "status"} & set(json.loads(body))
