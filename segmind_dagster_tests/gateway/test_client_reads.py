"""Polling, the account and uploads over real HTTP: what is free is repeated, and nothing else is."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from lab.gateway import HTML, KEY, answering, refused_by, since_an_hour

from segmind_dagster.gateway.errors import GatewayError
from segmind_dagster.registry.models import FAST_FLUX_SCHNELL, LLAMA_V3P1_8B_INSTRUCT
from segmind_dagster.sandbox import Faults

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lab.gateway import Bench

    from segmind_dagster.gateway.client import Gateway
    from segmind_dagster.gateway.wire import Answer

BODY = {"prompt": "a pear", "seed": 4}


def status_of(gateway: Gateway) -> Awaitable[Answer]:
    return gateway.status("r-1")


def test_a_job_is_polled_from_acceptance_to_its_output_and_cost(bench: Bench) -> None:
    server = bench.sandbox()

    async def follow(gateway: Gateway) -> tuple[Answer, Answer]:
        accepted = await gateway.submit(FAST_FLUX_SCHNELL, BODY, bench.sink)
        return await gateway.status(accepted.request_id), await gateway.result(accepted.request_id)

    status, result = bench.run(server.url, follow)
    (job,) = server.account()["jobs"]
    assert status.status == result.status == "completed"
    assert result.output_url.startswith(f"{server.url}/outputs/{job['request_id']}")
    assert result.accounting.cost_usd == Decimal(job["cost_usd"])
    assert result.accounting.seed == BODY["seed"]


def test_a_job_that_is_not_done_is_pending_and_has_no_output(bench: Bench) -> None:
    server = bench.sandbox(fixed_latency_s=60.0)

    async def follow(gateway: Gateway) -> tuple[Answer, Answer]:
        accepted = await gateway.submit(FAST_FLUX_SCHNELL, BODY, bench.sink)
        return await gateway.status(accepted.request_id), await gateway.result(accepted.request_id)

    assert [answer.status for answer in bench.run(server.url, follow)] == ["pending", "pending"]


def test_the_result_of_a_text_model_is_its_text(bench: Bench) -> None:
    async def follow(gateway: Gateway) -> Answer:
        body = {"messages": [{"role": "user", "content": "Hi"}]}
        accepted = await gateway.submit(LLAMA_V3P1_8B_INSTRUCT, body, bench.sink)
        return await gateway.result(accepted.request_id)

    answer = bench.run(bench.sandbox().url, follow)
    assert answer.output_url is None
    assert '"choices"' in answer.output_text


@pytest.mark.parametrize("seed", [4, 5], ids=["500 with envelope", "502 page"])
@pytest.mark.parametrize("fault", ["poll_error", "poll_reset"])
def test_a_poll_that_fails_is_repeated_and_is_no_failure_of_the_job(bench: Bench, fault: Any, seed: int) -> None:
    server = bench.sandbox(faults=Faults(script=[fault]))

    async def follow(gateway: Gateway) -> Answer:
        accepted = await gateway.submit(FAST_FLUX_SCHNELL, {**BODY, "seed": seed}, bench.sink)
        return await gateway.status(accepted.request_id)

    assert bench.run(server.url, follow).status == "completed"
    requests = server.account()["requests"]
    assert (requests["status"], requests["submit"]) == (2, 1)


@pytest.mark.parametrize(
    ("fault", "words"), [("failed", "out of memory"), ("failed_validation", "Mandatory")], ids=["broke", "refused"]
)
@pytest.mark.parametrize("question", ["status", "result"])
def test_a_failed_job_is_an_answer_and_not_an_error(bench: Bench, fault: Any, words: str, question: str) -> None:
    server = bench.sandbox(faults=Faults(script=[fault]))

    async def follow(gateway: Gateway) -> Answer:
        accepted = await gateway.submit(FAST_FLUX_SCHNELL, BODY, bench.sink)
        return await getattr(gateway, question)(accepted.request_id)

    answer = bench.run(server.url, follow)
    assert answer.status == "failed"
    assert words in answer.error
    assert answer.accounting.cost_usd is None
    assert server.account()["requests"][question] == 1


def test_a_failed_job_may_be_reported_with_a_200(bench: Bench) -> None:
    handler, _ = answering(lambda: web.json_response({"status": "FAILED", "error": "broke"}))
    assert bench.against(handler, lambda gateway, _: gateway.status("r-1")).error == "broke"


@pytest.mark.parametrize("question", ["status", "result"])
def test_a_deleted_record_is_expired_and_requested_once(bench: Bench, question: str) -> None:
    server = bench.sandbox()

    async def ask(gateway: Gateway) -> Answer:
        return await getattr(gateway, question)("00000000-0000-0000-0000-000000000000")

    with pytest.raises(GatewayError) as raised:
        bench.run(server.url, ask)
    assert (raised.value.kind, raised.value.http_status) == ("expired", 404)
    assert server.account()["requests"][question] == 1


@pytest.mark.parametrize(
    ("answer", "kind", "gets"),
    [
        (lambda: web.json_response({"error": "Internal server error"}, status=500), "server_error", 6),
        (lambda: web.Response(text=HTML, status=502), "server_error", 6),
        (lambda: web.Response(text="{", status=200), "server_error", 6),
        (lambda: web.Response(status=302, headers={"Location": "https://example.com/"}), "server_error", 6),
        (lambda: web.json_response({"error": "Unauthorized"}, status=401), "unauthorized", 1),
        (lambda: web.json_response({"error": "Forbidden"}, status=403), "invalid_request", 1),
    ],
    ids=["500", "502", "no JSON", "redirect", "401", "403"],
)
def test_a_poll_is_repeated_a_bounded_number_of_times_where_that_may_help(
    bench: Bench, answer: Callable[[], web.Response], kind: str, gets: int
) -> None:
    handler, seen = answering(answer)
    assert refused_by(bench, handler, status_of).kind == kind
    assert len(seen) == gets


def test_a_rate_limited_get_waits_for_the_reset(bench: Bench) -> None:
    waits = []

    def limited() -> web.Response:
        headers = {"x-rate-limit-reset-at-utc": "2000-01-01T00:00:00Z"}
        waits.append(1)
        return web.json_response({"error": "Rate limit exceeded"}, status=429, headers=headers)

    handler, seen = answering(limited, lambda: web.json_response({"status": "QUEUED"}))
    assert bench.against(handler, lambda gateway, _: gateway.status("r-1")).status == "pending"
    assert (len(seen), len(waits)) == (2, 1)


def test_the_address_of_a_job_is_built_from_its_id_and_never_taken_from_it(bench: Bench) -> None:
    handler, seen = answering(lambda: web.json_response({"status": "QUEUED"}))
    bench.against(handler, lambda gateway, _: gateway.status("../../v1/get-user-credits?x"))
    assert seen[0].raw_path == "/v2/requests/..%2F..%2Fv1%2Fget-user-credits%3Fx/status"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"credits": 1.5, "free-credits": 0.25}, Decimal("1.75")),
        ({"credits": 0.0, "free-credits": 0.0184921035}, Decimal("0.0184921035")),
        ({"credits": 2}, Decimal(2)),
        ({"credits": "2"}, Decimal(2)),
        ({"credits": "NaN"}, None),
        ({"credits": float("nan")}, None),
        ({"credits": float("inf"), "free-credits": 1}, None),
        ({"credits": 5, "free-credits": float("-inf")}, None),
        ({"credits": -3}, None),
        ({"credits": 1e30}, None),
        ({"credits": [1]}, None),
        ({"credits": "a lot", "free-credits": 2}, None),
        ({"credits": None, "free-credits": 2}, Decimal(2)),
        ({"credits": True}, None),
        ({}, None),
        ([], None),
        ("1.5", None),
    ],
)
def test_the_balance_includes_free_credits_and_is_unknown_when_unreadable(
    bench: Bench, answer: Any, expected: Decimal | None
) -> None:
    handler, _ = answering(lambda: web.json_response(answer))
    assert bench.against(handler, lambda gateway, _: gateway.credits_usd()) == expected


def test_an_account_that_never_had_credits_has_an_unknown_balance(bench: Bench) -> None:
    handler, _ = answering(lambda: web.json_response({"error": "No credits found for the user"}, status=404))
    assert bench.against(handler, lambda gateway, _: gateway.credits_usd()) is None


def test_the_balance_is_that_of_the_sandbox(bench: Bench) -> None:
    server = bench.sandbox(initial_credits=Decimal("3.25"))
    assert bench.run(server.url, lambda gateway: gateway.credits_usd()) == Decimal("3.25")


def test_a_wrong_key_is_found_by_the_first_free_request(bench: Bench) -> None:
    server = bench.sandbox(api_key="SG_ffffffffffffffff")
    with pytest.raises(GatewayError) as raised:
        bench.run(server.url, lambda gateway: gateway.credits_usd())
    assert raised.value.kind == "unauthorized"
    assert server.account()["requests"]["submit"] == 0


DATA_URL = "data:image/png;base64,iVBORw0KGgo="


def upload(gateway: Gateway) -> Awaitable[str]:
    return gateway.upload(DATA_URL)


def test_an_upload_is_kept_by_the_sandbox_under_the_address_it_returns(bench: Bench) -> None:
    server = bench.sandbox()
    address = bench.run(server.url, upload)
    assert address.startswith(f"{server.url}/assets/")
    assert server.account()["requests"]["upload"] == 1


@pytest.mark.parametrize(
    "answer", [{"file_urls": ["https://a/1"], "message": "Files uploaded successfully"}, {"urls": ["https://a/1"]}]
)
def test_an_upload_is_read_in_both_documented_shapes(bench: Bench, answer: Any) -> None:
    handler, seen = answering(lambda: web.json_response(answer))
    allowed = {"SEGMIND_OUTPUT_HOSTS": "a"}
    assert bench.against(handler, lambda gateway, _: upload(gateway), variables=allowed) == "https://a/1"
    assert (seen[0].method, seen[0].path) == ("POST", "/upload-asset")


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example/1.png", "http://images.segmind.com/1.png", "https://me:you@images.segmind.com/1.png",
        "https://images.segmind.com@evil.example/1", "https://images.segmind.com:8443/1", "https://203.0.113.9/1",
        "https://[2001:db8::1]/1", "https://images.segmind.com.evil.example/1", "https://images.segmind.com./1",
        "https://images.segmind.com:0/1", "https://images.segmind.com:x/1", "//images.segmind.com/1", "images/1.png",
        "file:///etc/passwd", "data:image/png;base64,AAAA", "https://images.segmind.com\\@evil.example/1",
        "https://images.segmind.com/a\n1", "https://\uff49mages.segmind.com/1", "https:///1", "https://[::1/1", "", " ",
        "HTTPS://evil.example/1", "https://127.0.0.1/1", "ftp://images.segmind.com/1", "\ud800",
    ],
)  # fmt: skip
def test_an_upload_that_names_another_host_is_refused_at_once(bench: Bench, address: str) -> None:
    handler, seen = answering(lambda: web.json_response({"file_urls": [address]}))
    variables = {"SEGMIND_OUTPUT_HOSTS": "images.segmind.com"}
    with pytest.raises(GatewayError) as raised:
        bench.against(handler, lambda gateway, _: upload(gateway), variables=variables)
    assert raised.value.kind in {"invalid_request", "server_error"}
    assert "you@" not in str(raised.value)
    if raised.value.kind == "invalid_request":
        assert len(seen) == 1


@pytest.mark.parametrize(
    ("address", "listed"),
    [
        ("https://images.segmind.com/1.png?sig=1", "images.segmind.com"),
        ("https://Images.Segmind.com:443/1", "images.segmind.com"),
        ("https://bucket.example:8443/1", "bucket.example:8443"),
    ],
)
def test_an_upload_at_a_listed_host_is_accepted(bench: Bench, address: str, listed: str) -> None:
    handler, _ = answering(lambda: web.json_response({"file_urls": [address]}))
    variables = {"SEGMIND_OUTPUT_HOSTS": listed}
    assert bench.against(handler, lambda gateway, _: upload(gateway), variables=variables) == address


def test_an_upload_costs_nothing_and_is_repeated(bench: Bench) -> None:
    handler, seen = answering(
        lambda: web.Response(text=HTML, status=502), lambda: web.json_response({"file_urls": ["https://a/1"]})
    )
    allowed = {"SEGMIND_OUTPUT_HOSTS": "a"}
    assert bench.against(handler, lambda gateway, _: upload(gateway), variables=allowed) == "https://a/1"
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("answer", "kind", "posts"),
    [
        (lambda: web.json_response({"error": "too large"}, status=413), "invalid_request", 1),
        (lambda: web.json_response({"error": "Unauthorized"}, status=401), "unauthorized", 1),
        (lambda: web.json_response({"file_urls": []}), "server_error", 6),
        (lambda: web.json_response({"file_urls": ["https://a/1"]}, status=500), "server_error", 6),
    ],
    ids=["too large", "wrong key", "no address", "500"],
)
def test_an_upload_that_was_not_kept_is_an_error(
    bench: Bench, answer: Callable[[], web.Response], kind: str, posts: int
) -> None:
    handler, seen = answering(answer)
    assert refused_by(bench, handler, upload).kind == kind
    assert len(seen) == posts


WORKS = {
    "status": status_of,
    "result": lambda gateway: gateway.result("r-1"),
    "credits": lambda gateway: gateway.credits_usd(),
    "history": since_an_hour,
    "history of one": lambda gateway: gateway.history_row("r-1"),
    "upload": upload,
}


@pytest.mark.parametrize("work", WORKS.values(), ids=WORKS)
@pytest.mark.parametrize("status", [400, 401, 500])
def test_neither_the_key_nor_a_signed_url_is_in_any_error(
    bench: Bench, work: Callable[[Gateway], Awaitable[Any]], status: int
) -> None:
    echo = {"error": f"key {KEY} may not read https://images.segmind.com/a.png?sig=SECRET today"}
    handler, _ = answering(lambda: web.json_response(echo, status=status))
    error = refused_by(bench, handler, work)
    assert "[hidden]" in str(error)
    for shown in (str(error), repr(error), str(error.__cause__)):
        assert KEY not in shown
        assert "SECRET" not in shown
