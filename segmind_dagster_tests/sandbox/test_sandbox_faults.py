"""What goes wrong on purpose: how each fault looks, whether it was accepted and charged, and which one comes when."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, UnidentifiedImageError

from segmind_dagster.errors import SettingsError
from segmind_dagster.sandbox import FAULT_KINDS, Faults, ScriptedFault
from segmind_dagster.sandbox.fault_answers import ROUTES
from segmind_dagster.sandbox.faults import LATE_ERRORS, SUBMIT_FAULTS, FaultDraw

if TYPE_CHECKING:
    from lab.sandbox import Client, Clock, Start

Faulty = Callable[..., "Client"]
BODY = {"prompt": "a pear", "seed": 4}
ANSWERED = {
    "rate_limited": (429, "application/json"),
    "server_error": (500, "application/json"),
    "unavailable": (503, "application/json"),
    "bad_gateway": (502, "text/html"),
    "gateway_timeout": (504, "text/html"),
    "accepted_unreadable": (200, "application/json"),
    "accepted_202": (202, "application/json"),
    "teapot": (418, "application/json"),
    "unauthorized": (401, "application/json"),
    "no_credits": (406, "application/json"),
    "team_limit": (406, "application/json"),
    "invalid": (406, "application/json"),
    "accepted_then_500": (500, "application/json"),
    "accepted_then_503": (503, "application/json"),
    "accepted_then_429": (429, "application/json"),
    "accepted_then_400": (400, "application/json"),
    "accepted_then_406": (406, "application/json"),
    "accepted_then_422": (422, "application/json"),
}
ACCEPTED = {
    "gateway_timeout",
    "accepted_then_reset",
    "accepted_then_hang",
    "accepted_unreadable",
    "accepted_202",
    *LATE_ERRORS,
}


@pytest.fixture
def faulty(start: Start) -> Faulty:
    """Starts a sandbox that goes through a script of faults, with jobs that take no time."""

    def started(*script: Any, **settings: Any) -> Client:
        return start(**{"faults": Faults(script=script), "fixed_latency_s": 0.0, **settings})

    return started


def test_every_submit_fault_is_either_answered_or_breaks_the_connection() -> None:
    assert set(SUBMIT_FAULTS) - set(ANSWERED) == {"reset_before_accept", "accepted_then_reset", "accepted_then_hang"}


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("kind", ANSWERED)
def test_an_answered_fault_has_its_status_and_is_accepted_or_not(faulty: Faulty, kind: Any, version: str) -> None:
    client = faulty(kind)
    response = client.post(f"/{version}/fast-flux-schnell", json=BODY)
    assert (response.status_code, response.headers["Content-Type"].split(";")[0]) == ANSWERED[kind]
    account = client.server.account()
    assert (account["submissions"], account["charges"]) == ((1, 1) if kind in ACCEPTED else (0, 0))
    assert client.post(f"/{version}/fast-flux-schnell", json=BODY).status_code == 200


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize(("kind", "accepted"), [("reset_before_accept", 0), ("accepted_then_reset", 1)])
def test_a_reset_closes_the_connection_without_an_answer(
    faulty: Faulty, kind: Any, accepted: int, version: str
) -> None:
    client = faulty(kind)
    with pytest.raises(requests.ConnectionError):
        client.post(f"/{version}/fast-flux-schnell", json=BODY)
    account = client.server.account()
    assert (account["submissions"], account["charges"]) == (accepted, accepted)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_hanging_answer_never_arrives_although_the_job_is_charged(faulty: Faulty, version: str) -> None:
    client = faulty("accepted_then_hang")
    with pytest.raises(requests.ReadTimeout):
        client.session.post(f"{client.server.url}/{version}/fast-flux-schnell", json=BODY, timeout=0.2)
    assert client.server.account()["charges"] == 1


def test_an_unreadable_answer_is_not_json_and_the_202_is_empty(faulty: Faulty) -> None:
    client = faulty("accepted_unreadable", "accepted_202")
    with pytest.raises(requests.JSONDecodeError):
        client.post("/v2/fast-flux-schnell", json=BODY).json()
    assert client.post("/v2/fast-flux-schnell", json=BODY).json() == {}


def test_the_406_faults_have_distinct_messages(faulty: Faulty) -> None:
    client = faulty("no_credits", "team_limit", "invalid")
    words = [client.post("/v2/fast-flux-schnell", json=BODY).json()["error"].split()[0] for _ in range(3)]
    assert words == ["Insufficient", "Team", "Invalid"]


def test_a_made_up_rate_limit_names_a_reset_soon(faulty: Faulty) -> None:
    response = faulty("rate_limited").post("/v2/fast-flux-schnell", json=BODY)
    assert response.headers["x-rate-limit-reset-at-utc"] == "2026-01-02T12:04:06.678Z"


@pytest.mark.parametrize(("seed", "code"), [(4, 500), (5, 502)])
def test_a_poll_error_happens_once(faulty: Faulty, seed: Any, code: int) -> None:
    client = faulty("poll_error")
    submitted = client.submit({**BODY, "seed": seed})
    assert [client.get(submitted["status_url"]).status_code for _ in range(2)] == [code, 200]


def test_a_poll_reset_happens_once(faulty: Faulty) -> None:
    client = faulty("poll_reset")
    submitted = client.submit(BODY)
    with pytest.raises(requests.ConnectionError):
        client.get(submitted["status_url"])
    assert client.get(submitted["status_url"]).json()["status"] == "COMPLETED"


def test_a_stuck_job_is_processed_until_its_record_is_gone_and_never_charged(faulty: Faulty, clock: Clock) -> None:
    client = faulty("stuck")
    submitted = client.submit(BODY)
    clock.advance(3599)
    assert client.get(submitted["status_url"]).json()["status"] == "PROCESSING"
    clock.advance(1)
    assert client.get(submitted["status_url"]).status_code == 404
    (row,) = client.get("/inference-request/request-history").json()["data"]
    assert (row["model_status"], row["credits_deduction"]) == ("FAILED", 0.0)
    assert client.server.account()["charges"] == 0


@pytest.mark.parametrize(
    ("kind", "words", "v1_code"),
    [("failed", "CUDA out of memory", 500), ("failed_validation", "Prompt is Mandatory and must be string", 422)],
)
def test_a_failed_job_has_a_reason_and_is_not_charged(faulty: Faulty, kind: Any, words: str, v1_code: int) -> None:
    client = faulty(kind, kind)
    status = client.get(client.submit(BODY)["status_url"])
    at_once = client.post("/v1/fast-flux-schnell", json=BODY)
    assert (status.status_code, at_once.status_code) == (422, v1_code)
    assert words in status.json()["error"]
    assert words in at_once.json()["error"]
    assert client.server.account()["charged_usd"] == "0"


def test_a_truncated_output_promises_more_than_it_sends_the_first_time(faulty: Faulty) -> None:
    client = faulty("truncated")
    submitted = client.submit(BODY)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        client.output(submitted)
    assert Image.open(io.BytesIO(client.output(submitted))).size == (64, 64)


def test_an_undecodable_output_has_the_right_length_and_never_decodes(faulty: Faulty) -> None:
    client = faulty("undecodable")
    submitted = client.submit(BODY)
    size = int(client.get(submitted["response_url"]).json()["images"][0]["file_size"])
    for _ in range(2):
        content = client.output(submitted)
        assert len(content) == size
        with pytest.raises(UnidentifiedImageError):
            Image.open(io.BytesIO(content))


@pytest.mark.parametrize(("kind", "code"), [("html_as_image", 200), ("output_missing", 404)])
def test_an_error_page_in_place_of_the_picture_is_gone_the_second_time(faulty: Faulty, kind: Any, code: int) -> None:
    client = faulty(kind)
    url = client.get(client.submit(BODY)["response_url"]).json()["output"]
    first, second = client.get(url), client.get(url)
    assert (first.status_code, first.headers["Content-Type"].split(";")[0]) == (code, "text/html")
    assert (second.status_code, second.headers["Content-Type"]) == (200, "image/jpeg")


def test_a_slow_output_is_complete_when_it_ends(faulty: Faulty) -> None:
    client = faulty(faults=Faults(script=["slow"], slow_s=0.05))
    assert Image.open(io.BytesIO(client.output(client.submit(BODY)))).size == (64, 64)


def test_a_paid_v1_answer_can_be_truncated_and_its_file_fetched_by_its_history(faulty: Faulty) -> None:
    client = faulty("truncated")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        client.post("/v1/fast-flux-schnell", json=BODY)
    (row,) = client.get("/inference-request/request-history").json()["data"]
    assert Image.open(io.BytesIO(client.get(row["generation_url"]).content)).size == (64, 64)


def test_a_script_is_consumed_in_order_one_entry_a_submission(faulty: Faulty) -> None:
    client = faulty("server_error", None, "ok", "teapot")
    codes = [client.post("/v2/fast-flux-schnell", json=BODY).status_code for _ in range(6)]
    assert codes == [500, 200, 200, 418, 200, 200]


def test_a_scripted_fault_can_wait_for_one_model(faulty: Faulty) -> None:
    client = faulty(ScriptedFault(kind="teapot", slug="flux-dev"), "server_error")
    slugs = ("fast-flux-schnell", "fast-flux-schnell", "flux-dev", "flux-dev")
    assert [client.post(f"/v2/{slug}", json=BODY).status_code for slug in slugs] == [500, 200, 418, 200]


def test_faults_can_be_switched_off_and_on_from_code(faulty: Faulty) -> None:
    client = faulty("teapot")
    client.server.set_faults(Faults())
    assert client.post("/v2/fast-flux-schnell", json=BODY).status_code == 200
    client.server.set_faults(Faults(rates={"unavailable": 1.0}))
    assert client.post("/v2/fast-flux-schnell", json=BODY).status_code == 503


def test_the_same_seed_draws_the_same_faults_and_a_retry_draws_again(start: Start) -> None:
    rates = {"server_error": 0.3, "accepted_202": 0.2, "teapot": 0.1}

    def codes(seed: int, order: list[int]) -> dict[tuple[int, int], int]:
        client = start(faults=Faults(rates=rates, seed=seed))
        return {
            (number, attempt): client.post("/v2/fast-flux-schnell", json={"prompt": str(number)}).status_code
            for attempt in range(3)
            for number in order
        }

    once = codes(1, list(range(30)))
    assert codes(1, list(reversed(range(30)))) == once
    assert codes(2, list(range(30))) != once
    assert {once[number, 1] for number in range(30) if once[number, 0] == 500} > {500}


@given(seed=st.integers(), rate=st.floats(0.2, 0.8))
def test_the_share_of_faulty_submissions_is_about_the_rate(seed: Any, rate: float) -> None:
    draw = FaultDraw(Faults(rates={"truncated": rate}, seed=seed))
    met = sum(draw.draw("flux-dev", str(number), 0).output == "truncated" for number in range(800))
    assert abs(met / 800 - rate) < 0.12


@given(kind=st.sampled_from(FAULT_KINDS))
def test_a_rate_of_one_always_hits_and_faults_survive_json(kind: Any) -> None:
    faults = Faults.from_json({"rates": {kind: 1}, "script": [{"kind": kind, "slug": "x"}]})
    assert faults == Faults(rates={kind: 1}, script=[ScriptedFault(kind=kind, slug="x")])
    drawn = FaultDraw(faults).draw("other", "{}", 0)
    assert kind in {drawn.submit, drawn.poll, drawn.output}


@pytest.mark.parametrize("wrong", [{"rates": {"flood": 0.1}}, {"rates": {"stuck": 1.1}}, {"script": ["flood"]}])
def test_an_unknown_fault_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="faults"):
        Faults(**wrong)


SPOILT = {
    "get_rate_limited": {429},
    "get_error": {500, 503},
    "get_bad_gateway": {502},
    "get_unreadable": {200},
}
UPLOAD = {"data_urls": ["data:image/png;base64,iVBORw0KGgo="]}


PATHS = {
    "status": "/v2/requests/{}/status",
    "result": "/v2/requests/{}",
    "output": "/outputs/{}.jpeg",
    "history": "/inference-request/request-history",
    "credits": "/v1/get-user-credits",
    "models": "/inference-model-information/list",
}


def ask(client: Client, route: str, request_id: str) -> requests.Response:
    """One request that submits nothing."""
    if route == "upload":
        return client.post("/upload-asset", json=UPLOAD)
    return client.get(PATHS[route].format(request_id))


@pytest.mark.parametrize("route", sorted(set(ROUTES.values())))
@pytest.mark.parametrize("kind", SPOILT)
def test_any_request_can_fail_and_succeeds_when_repeated(start: Start, kind: Any, route: str) -> None:
    client = start(fixed_latency_s=0.0)
    request_id = client.submit(BODY)["request_id"]
    client.server.set_faults(Faults(request_rates={kind: 1.0}))
    spoilt = ask(client, route, request_id)
    assert spoilt.status_code in SPOILT[kind]
    if kind == "get_unreadable" and route != "output":
        with pytest.raises(requests.JSONDecodeError):
            spoilt.json()
    client.server.set_faults(Faults())
    assert ask(client, route, request_id).status_code == 200
    account = client.server.account()
    assert account["spoilt"] == {route: {kind: 1}}
    assert account["requests"][route] == 2


def test_a_request_can_be_cut_off_and_a_cut_off_upload_is_not_stored(start: Start) -> None:
    client = start(faults=Faults(request_rates={"get_reset": 1.0}))
    for route in ("credits", "upload"):
        with pytest.raises(requests.ConnectionError):
            ask(client, route, "")
    assert client.post("/v2/fast-flux-schnell", json=BODY).status_code == 200


def test_the_history_can_give_its_bodies_as_strings_and_nothing_else_can(start: Start) -> None:
    client = start(fixed_latency_s=0.0, faults=Faults(request_rates={"body_as_string": 1.0}))
    request_id = client.submit(BODY)["request_id"]
    (row,) = ask(client, "history", request_id).json()["data"]
    one = client.get(f"/inference-request/request-history/{request_id}").json()
    assert json.loads(row["request_body"]) == json.loads(one["request_body"]) == BODY
    for route in sorted(set(ROUTES.values()) - {"history"}):
        assert ask(client, route, request_id).status_code == 200
    assert client.server.account()["spoilt"] == {"history": {"body_as_string": 2}}


def test_about_the_configured_share_of_requests_fails(start: Start) -> None:
    client = start(faults=Faults(request_rates={"get_error": 0.2}, seed=3))
    answers = [ask(client, "credits", "").status_code for _ in range(100)]
    assert 10 <= sum(code != 200 for code in answers) <= 30


def test_noise_can_be_replaced_by_the_output(start: Start) -> None:
    client = start(fixed_latency_s=0.0, faults=Faults(script=["undecodable"], noisy_fetches=2))
    request_id = client.submit(BODY)["request_id"]
    came = [ask(client, "output", request_id).content for _ in range(4)]
    for noise in came[:2]:
        with pytest.raises(UnidentifiedImageError):
            Image.open(io.BytesIO(noise))
    assert came[2] == came[3]
    Image.open(io.BytesIO(came[2])).verify()


def test_the_rates_of_requests_are_checked_too() -> None:
    with pytest.raises(SettingsError, match="teapot"):
        Faults(request_rates={"teapot": 0.1})  # type: ignore[dict-item]
    with pytest.raises(SettingsError, match="between 0 and 1"):
        Faults(request_rates={"get_error": 2})
