"""Submitting over real HTTP: each POST goes out once, and every answer leaves as the kind it is."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from lab.gateway import KEY, answering

from segmind_dagster.errors import SettingsError
from segmind_dagster.gateway.client import Gateway
from segmind_dagster.gateway.errors import GatewayError
from segmind_dagster.registry.models import FAST_FLUX_SCHNELL, LLAMA_V3P1_8B_INSTRUCT, SDXL_NEWREALITY
from segmind_dagster.sandbox import Faults
from segmind_dagster.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lab.gateway import Bench

    from segmind_dagster.gateway.wire import Answer
    from segmind_dagster.registry import Model

BODY = {"prompt": "a pear", "seed": 4}
MODELS = {"v1": SDXL_NEWREALITY, "v2": FAST_FLUX_SCHNELL}
KINDS = {
    "rate_limited": "rate_limited",
    "server_error": "server_error",
    "unavailable": "server_error",
    "bad_gateway": "unknown_outcome",
    "gateway_timeout": "unknown_outcome",
    "reset_before_accept": "unknown_outcome",
    "accepted_then_reset": "unknown_outcome",
    "accepted_then_hang": "unknown_outcome",
    "accepted_unreadable": "unknown_outcome",
    "accepted_202": "unknown_outcome",
    "teapot": "unknown_outcome",
    "unauthorized": "unauthorized",
    "no_credits": "no_credits",
    "team_limit": "team_limit",
    "invalid": "invalid_request",
}
STATUS = {
    "rate_limited": 429,
    "server_error": 500,
    "unavailable": 503,
    "bad_gateway": 502,
    "gateway_timeout": 504,
    "accepted_unreadable": 200,
    "accepted_202": 202,
    "teapot": 418,
    "unauthorized": 401,
    "no_credits": 406,
    "team_limit": 406,
    "invalid": 406,
}


def submitting(sink: Path, model: Model = FAST_FLUX_SCHNELL, body: Any = None) -> Callable[[Gateway], Any]:
    async def work(gateway: Gateway) -> Answer:
        return await gateway.submit(model, BODY if body is None else body, sink)

    return work


def refused(bench: Bench, url: str, model: Model = FAST_FLUX_SCHNELL, **options: Any) -> GatewayError:
    with pytest.raises(GatewayError) as raised:
        bench.run(url, submitting(bench.sink, model), **options)
    return raised.value


def refused_by(bench: Bench, answer: Callable[[], web.Response]) -> GatewayError:
    handler, seen = answering(answer)
    with pytest.raises(GatewayError) as raised:
        bench.against(handler, lambda gateway, _: gateway.submit(FAST_FLUX_SCHNELL, BODY, bench.sink))
    assert len(seen) == 1
    return raised.value


@pytest.mark.parametrize("version", MODELS)
@pytest.mark.parametrize("fault", KINDS)
def test_a_refused_or_lost_submission_has_its_kind_and_was_sent_once(bench: Bench, fault: Any, version: str) -> None:
    server = bench.sandbox(faults=Faults(script=[fault]))
    error = refused(
        bench, server.url, MODELS[version], submit_timeout_s=0.3, variables={"SEGMIND_V1_TIMEOUT_SECONDS": "0.3"}
    )
    assert error.kind == KINDS[fault]
    assert error.http_status == STATUS.get(fault)
    assert server.account()["requests"]["submit"] == 1


def test_an_error_message_says_what_was_attempted_and_seen(bench: Bench) -> None:
    server = bench.sandbox(faults=Faults(script=["team_limit"]))
    assert str(refused(bench, server.url)) == (
        f"POST {server.url}/v2/fast-flux-schnell: answered 406: "
        "Team spending limit reached. Please contact your team administrator."
    )


def test_an_accepted_submission_returns_the_id_of_the_sandbox_job(bench: Bench) -> None:
    server = bench.sandbox()
    body = {"prompt": "Ein Bär 🐻 an der Spree", "seed": 2**53 + 1}
    accepted = bench.run(server.url, submitting(bench.sink, body=body))
    (job,) = server.account()["jobs"]
    assert (job["request_id"], job["body"], job["slug"]) == (accepted.request_id, body, "fast-flux-schnell")
    assert (accepted.http_status, accepted.received, accepted.output_text) == (200, None, None)
    assert not bench.sink.exists()


def test_a_v1_answer_contains_the_output_and_its_accounting(bench: Bench) -> None:
    server = bench.sandbox()
    accepted = bench.run(server.url, submitting(bench.sink, SDXL_NEWREALITY))
    (job,) = server.account()["jobs"]
    assert accepted.request_id == job["request_id"]
    assert accepted.accounting.cost_usd == Decimal(job["cost_usd"])
    assert accepted.accounting.seed == BODY["seed"]
    content = bench.sink.read_bytes()
    assert content
    assert (accepted.received.path, accepted.received.reason) == (bench.sink, None)
    assert accepted.received.sha256 == hashlib.sha256(content).hexdigest()


def test_a_v1_answer_of_a_text_model_is_its_text(bench: Bench) -> None:
    server = bench.sandbox()
    body = {"messages": [{"role": "user", "content": "Hi"}]}
    accepted = bench.run(server.url, submitting(bench.sink, replace(LLAMA_V3P1_8B_INSTRUCT, api_version="v1"), body))
    assert json.loads(accepted.output_text)["choices"]
    assert accepted.received is None


def test_a_truncated_v1_output_keeps_its_request_id_and_cost(bench: Bench) -> None:
    server = bench.sandbox(faults=Faults(script=["truncated"]))
    accepted = bench.run(server.url, submitting(bench.sink, SDXL_NEWREALITY))
    (job,) = server.account()["jobs"]
    assert accepted.request_id == job["request_id"]
    assert (accepted.received.path, accepted.received.sha256) == (bench.sink, None)
    assert accepted.received.reason
    assert accepted.accounting.cost_usd == Decimal(job["cost_usd"])


@pytest.mark.parametrize(
    ("settings", "kind", "status"),
    [
        ({"api_key": "SG_ffffffffffffffff"}, "unauthorized", 401),
        ({"forbidden_slugs": frozenset({"fast-flux-schnell"})}, "forbidden_model", 403),
        ({"retired_slugs": frozenset({"fast-flux-schnell"})}, "retired_model", 410),
        ({"initial_credits": Decimal(0)}, "no_credits", 406),
    ],
)
def test_account_errors_have_their_kinds(bench: Bench, settings: dict[str, Any], kind: str, status: int) -> None:
    error = refused(bench, bench.sandbox(**settings).url)
    assert (error.kind, error.http_status) == (kind, status)


def test_a_model_that_does_not_exist_is_an_invalid_request(bench: Bench) -> None:
    assert refused(bench, bench.sandbox().url, replace(FAST_FLUX_SCHNELL, slug="no/such model")).http_status == 404


def test_a_failed_connection_has_sent_nothing(bench: Bench) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        error = refused(bench, f"http://127.0.0.1:{closed.getsockname()[1]}")
    assert (error.kind, error.http_status) == ("connect_error", None)


def test_a_kept_alive_connection_that_breaks_does_not_repeat_the_post(bench: Bench) -> None:
    server = bench.sandbox(faults=Faults(script=["ok", "reset_before_accept"]))

    async def twice(gateway: Gateway) -> str:
        await gateway.submit(FAST_FLUX_SCHNELL, BODY, bench.sink)
        with pytest.raises(GatewayError) as raised:
            await gateway.submit(FAST_FLUX_SCHNELL, {**BODY, "seed": 5}, bench.sink)
        return raised.value.kind

    assert bench.run(server.url, twice) == "unknown_outcome"
    account = server.account()
    assert (account["requests"]["submit"], account["charges"]) == (2, 1)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirected_post_is_not_followed(bench: Bench, status: int) -> None:
    error = refused_by(bench, lambda: web.Response(status=status, headers={"Location": "/v2/elsewhere"}))
    assert (error.kind, error.http_status) == ("unknown_outcome", status)


@pytest.mark.parametrize("status", [200, 201, 202])
def test_an_answer_with_a_readable_request_id_is_an_acceptance(bench: Bench, status: int) -> None:
    handler, seen = answering(lambda: web.json_response({"request_id": "r-1", "extra": [1]}, status=status))
    accepted = bench.against(handler, lambda gateway, _: gateway.submit(FAST_FLUX_SCHNELL, BODY, bench.sink))
    assert (accepted.request_id, accepted.http_status, len(seen)) == ("r-1", status, 1)


@pytest.mark.parametrize("request_id", [None, "", 5, ["r-1"], {"id": "r-1"}])
def test_a_2xx_without_a_readable_request_id_has_an_unknown_outcome(bench: Bench, request_id: Any) -> None:
    assert refused_by(bench, lambda: web.json_response({"request_id": request_id})).kind == "unknown_outcome"


def test_a_submission_carries_the_key_in_its_own_header_and_a_json_body(bench: Bench) -> None:
    handler, seen = answering(lambda: web.json_response({"request_id": "r-1"}))
    bench.against(handler, lambda gateway, _: gateway.submit(FAST_FLUX_SCHNELL, BODY, bench.sink))
    (request,) = seen
    assert (request.method, request.path) == ("POST", "/v2/fast-flux-schnell")
    assert request.headers["x-api-key"] == KEY
    assert request.headers["Content-Type"] == "application/json"
    assert "Authorization" not in request.headers


@pytest.mark.parametrize("clock_skew_s", [0, -3600, 3600])
@pytest.mark.parametrize("notation", ["iso", "http", "unix"])
def test_the_rate_limit_reset_is_converted_to_our_clock(bench: Bench, clock_skew_s: int, notation: str) -> None:
    theirs = datetime.now(UTC) + timedelta(seconds=clock_skew_s)
    reset = theirs + timedelta(seconds=30)
    text = {"iso": reset.isoformat(), "http": format_datetime(reset, usegmt=True), "unix": str(reset.timestamp())}
    headers = {"x-rate-limit-reset-at-utc": text[notation], "Date": format_datetime(theirs, usegmt=True)}
    error = refused_by(bench, lambda: web.json_response({"error": "Rate limit"}, status=429, headers=headers))
    assert error.kind == "rate_limited"
    assert error.reset_s is not None
    assert abs(error.reset_s - 30) < 3


@pytest.mark.parametrize(("header", "at_most_s"), [(None, 60), ("soon", 60), ("2999-01-01T00:00:00Z", 300)])
def test_a_missing_or_absurd_reset_waits_a_bounded_time(bench: Bench, header: str | None, at_most_s: int) -> None:
    headers = {"x-rate-limit-reset-at-utc": header} if header else {}
    error = refused_by(bench, lambda: web.json_response({}, status=429, headers=headers))
    assert error.reset_s is not None
    assert 0 < error.reset_s <= at_most_s


@pytest.mark.parametrize("status", [200, 400, 401, 406, 418, 500, 502])
def test_neither_the_key_nor_a_signed_url_is_in_a_refusal(bench: Bench, status: int) -> None:
    echo = {"error": f"key {KEY} may not read https://images.segmind.com/a.png?sig=SECRET&x=1 today"}
    error = refused_by(bench, lambda: web.json_response(echo, status=status))
    assert "https://images.segmind.com/a.png today" in str(error)
    for shown in (str(error), repr(error), str(error.__cause__)):
        assert KEY not in shown
        assert "SECRET" not in shown


def test_without_a_key_there_is_no_gateway(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="SEGMIND_API_KEY"):
        Gateway(load_settings(environ={}, project_dir=tmp_path))


def test_using_a_gateway_outside_its_context_is_an_error(bench: Bench) -> None:
    gateway = Gateway(bench.settings("http://127.0.0.1:9"))
    with pytest.raises(RuntimeError, match="async with"):
        asyncio.run(gateway.submit(FAST_FLUX_SCHNELL, BODY, bench.sink))
