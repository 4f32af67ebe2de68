"""Every documented refusal: its status, its body, and that it costs nothing."""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from lab.sandbox import Clock, Start

GOOD = {"prompt": "a pear"}


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"x-api-key": None}, "Missing Authorization or x-api-key in header"),
        ({"x-api-key": "SG_0000000000000000"}, "Unauthorized. API key is invalid or may have expired"),
        ({"x-api-key": None, "Authorization": "Bearer SG_5a4db0c0ffee0000"}, "Unauthorized. API key is invalid"),
    ],
    ids=["missing", "wrong", "bearer"],
)
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_every_request_without_the_right_key_is_401(
    start: Start, version: str, headers: dict[str, str | None], message: str
) -> None:
    client = start()
    response = client.post(f"/{version}/fast-flux-schnell", json=GOOD, headers=headers)
    assert response.status_code == 401
    assert response.json()["error"].startswith(message)
    assert client.server.account()["submissions"] == 0


@pytest.mark.parametrize(
    "path", ["/v1/get-user-credits", "/inference-request/request-history", "/v2/requests/x/status", "/v1/models/"]
)
def test_account_and_status_need_the_key_too(start: Start, path: str) -> None:
    assert start().get(path, headers={"x-api-key": "SG_0000000000000000"}).status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/fast-flux-schnell"),
        ("GET", "/v2/fast-flux-schnell"),
        ("POST", "/v1/get-user-credits"),
        ("DELETE", "/v2/requests/x"),
        ("GET", "/upload-asset"),
    ],
)
def test_a_wrong_http_method_is_answered_with_a_page(start: Start, method: str, path: str) -> None:
    client = start()
    response = client.session.request(method, client.server.url + path, json=GOOD, timeout=10)
    assert (response.status_code, response.headers["Content-Type"]) == (405, "text/html; charset=utf-8")
    assert "Method Not Allowed" in response.text


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/octet-stream"]
)
def test_an_unsupported_content_type_is_406_as_plain_text(start: Start, content_type: str) -> None:
    response = start().post("/v2/fast-flux-schnell", data=b"{}", headers={"Content-Type": content_type})
    assert (response.status_code, response.text) == (406, "Invalid content type")


@pytest.mark.parametrize("body", [b"{", b"", b"\xff", b"[]", b'"text"'])
def test_a_body_that_is_not_a_json_object_is_400(start: Start, body: Any) -> None:
    response = start().post("/v2/fast-flux-schnell", data=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert "JSON" in response.json()["error"]


def test_models_that_are_unknown_forbidden_or_retired_have_their_own_status(start: Start) -> None:
    client = start(forbidden_slugs=frozenset({"gpt-5"}), retired_slugs=frozenset({"instantid"}))
    answers = {slug: client.post(f"/v2/{slug}", json=GOOD) for slug in ("no-such-model", "gpt-5", "instantid")}
    assert {slug: answer.status_code for slug, answer in answers.items()} == {
        "no-such-model": 404,
        "gpt-5": 403,
        "instantid": 410,
    }
    assert answers["no-such-model"].json() == {"error": "model not found"}


def test_a_balance_below_the_price_is_406_and_names_both_numbers(start: Start) -> None:
    client = start(initial_credits=Decimal("0.005"))
    for version in ("v1", "v2"):
        response = client.post(f"/{version}/fast-flux-schnell", json=GOOD)
        assert response.status_code == 406
        assert re.search(r"Insufficient credits.*0\.00547.*0\.005 ", response.json()["error"])


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_value_outside_a_declared_set_is_refused_before_the_run(start: Start, version: str) -> None:
    client = start()
    response = client.post(f"/{version}/fast-flux-schnell", json={**GOOD, "aspect_ratio": "4:3"})
    assert response.status_code == 406
    assert "aspect_ratio" in response.json()["error"]
    assert client.server.account()["submissions"] == 0


def test_a_value_out_of_range_is_refused_by_v1_and_fails_as_a_job_in_v2(start: Start, clock: Clock) -> None:
    client = start()
    body = {**GOOD, "steps": 99}
    assert client.post("/v1/fast-flux-schnell", json=body).status_code == 406
    submitted = client.submit(body)
    clock.advance(10)
    status = client.get(submitted["status_url"])
    assert (status.status_code, status.json()["status"]) == (422, "FAILED")
    assert "steps" in status.json()["error"]


@pytest.mark.parametrize(
    ("slug", "body", "error"),
    [
        ("fast-flux-schnell", {}, "Prompt is Mandatory and must be string"),
        ("fast-flux-schnell", {"prompt": 5}, "Prompt is Mandatory and must be string"),
        ("flux-dev", {"prompt": ["a"]}, "Prompt is Mandatory and must be string"),
        ("instantid", {"prompt": "a man"}, "Face image is Mandatory and must be string"),
        ("instantid", {"prompt": "a man", "face_image": "me.jpg"}, "face_image must be a valid URL"),
        ("gpt-4o", {}, "Messages is Mandatory and must be list"),
    ],
)
def test_a_missing_or_mistyped_parameter_fails_the_v2_job_and_is_400_in_v1(
    start: Start, clock: Clock, slug: str, body: Any, error: str
) -> None:
    client = start()
    assert client.post(f"/v1/{slug}", json=body).status_code == 400
    submitted = client.submit(body, slug)
    clock.advance(10)
    result = client.get(submitted["response_url"])
    assert (result.status_code, result.json()["status"]) == (422, "FAILED")
    assert result.json()["error"].startswith(error)


def test_a_failed_job_is_422_on_status_and_result_and_is_not_charged(start: Start, clock: Clock) -> None:
    client = start()
    submitted = client.submit({})
    clock.advance(10)
    status, result = client.get(submitted["status_url"]), client.get(submitted["response_url"])
    metrics = {"inference_time": 8.0, "queue_time": 2.0, "total_time": 10.0}
    body = {"status": "FAILED", "error": "Prompt is Mandatory and must be string", "metrics": metrics}
    assert (status.status_code, status.json()) == (422, {"request_id": submitted["request_id"], **body})
    assert (result.status_code, result.json()) == (422, body)
    assert client.server.account()["charged_usd"] == "0"


def test_an_upload_that_is_gone_fails_the_job(start: Start, clock: Clock) -> None:
    client = start()
    gone = f"{client.server.url}/assets/{'0' * 32}.png"
    submitted = client.submit({"image": gone}, "face-to-sticker")
    clock.advance(10)
    assert "Unable to download" in client.get(submitted["status_url"]).json()["error"]


def test_segmind_needs_no_picture_for_a_sticker_so_the_sandbox_does_not_either(start: Start, clock: Clock) -> None:
    client = start()
    submitted = client.submit({"prompt": "a person"}, "face-to-sticker")
    clock.advance(10)
    assert client.get(submitted["status_url"]).json()["status"] == "COMPLETED"


def test_one_request_too_many_is_429_until_the_window_named_in_its_header_ends(start: Start, clock: Clock) -> None:
    client = start(requests_per_minute=2)
    codes = [client.post("/v2/fast-flux-schnell", json=GOOD).status_code for _ in range(2)]
    refused = client.post("/v2/fast-flux-schnell", json=GOOD)
    reset = refused.headers["x-rate-limit-reset-at-utc"]
    assert (codes, refused.status_code) == ([200, 200], 429)
    assert reset == "2026-01-02T12:05:00.000Z"
    assert "error" in refused.json()
    assert "Retry-After" not in refused.headers
    wait_s = (datetime.fromisoformat(reset) - parsedate_to_datetime(refused.headers["Date"])).total_seconds()
    assert wait_s == 55
    clock.advance(wait_s)
    assert client.post("/v2/fast-flux-schnell", json=GOOD).status_code == 200
    account = client.server.account()
    assert (account["rate_limited"], account["submissions"], account["peak_requests_per_window"]) == (1, 3, 3)


def test_gets_count_against_the_limit_only_when_asked_to(start: Start) -> None:
    for counts, codes in ((False, [200, 200, 200]), (True, [200, 200, 429])):
        client = start(requests_per_minute=2, rate_counts_gets=counts)
        assert [client.get("/v1/get-user-credits").status_code for _ in range(3)] == codes


def test_outputs_health_and_request_counts_are_never_rate_limited(start: Start) -> None:
    client = start(requests_per_minute=0, rate_counts_gets=True)
    assert client.get("/v1/get-user-credits").status_code == 429
    assert client.get("/health", headers={"x-api-key": None}).json() == {"status": "ok", "sandbox": True}
    assert client.get("/sandbox/account", headers={"x-api-key": None}).status_code == 200
    assert client.get("/outputs/none.jpeg", headers={"x-api-key": None}).status_code == 404
