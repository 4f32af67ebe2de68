from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from lab.gateway import answering

from segmind_dagster.errors import OutputError
from segmind_dagster.gateway import wire
from segmind_dagster.gateway.client import Gateway
from segmind_dagster.gateway.errors import GatewayError, kind_of
from segmind_dagster.gateway.redaction import redact
from segmind_dagster.lifecycle.generation import NOT_REPORTED
from segmind_dagster.registry.models import LLAMA_V3P1_8B_INSTRUCT, SDXL_NEWREALITY


@pytest.mark.parametrize("images", [5, True, 1.5])
def test_images_of_another_type_name_no_output(images: Any) -> None:
    answer = wire.read_job({"status": "COMPLETED", "images": images})
    assert answer is not None
    assert answer.output_url is None


def test_a_deeply_nested_body_is_classified_like_any_other() -> None:
    assert kind_of(500, b"[" * 100_000) == "unknown_outcome"
    assert kind_of(400, b"[" * 100_000) == "invalid_request"


@pytest.mark.parametrize("milliseconds", [1780120112359, 1790120112359])
def test_a_unix_time_in_milliseconds_is_never_read_as_a_past_date(milliseconds: int) -> None:
    assert wire.read_instant(str(milliseconds)) == datetime.fromtimestamp(milliseconds / 1000, UTC)


def test_an_absurd_year_is_no_time() -> None:
    assert wire.read_instant("1 Jan 99999999999999999999 00:00:00") is None


@pytest.mark.parametrize("metrics", [{"cost": "1e30"}, {"queue_time": "1e1000000"}, {"inference_time": "1e40"}])
def test_a_number_that_no_database_can_hold_is_not_reported(metrics: Any) -> None:
    answer = wire.read_job({"status": "COMPLETED", "metrics": metrics})
    assert answer is not None
    assert answer.accounting == NOT_REPORTED


@pytest.mark.parametrize("seed", ["18446744073709551615", 2**63, -(2**63) - 1])
def test_a_seed_beyond_the_ledgers_integers_is_not_reported(seed: Any) -> None:
    answer = wire.read_job({"status": "COMPLETED", "seed": seed})
    assert answer is not None
    assert answer.accounting.seed is None


@pytest.mark.parametrize(
    "url",
    ["HTTPS://h/x?sig=SECRET", "Http://h/x#SECRET", "http://u:SECRET@h:999999/x?sig=SECRET", "https://u:SECRET@[h/x"],
)
def test_a_url_of_unusual_spelling_keeps_no_secret_either(url: str) -> None:
    assert "SECRET" not in redact(f"GET {url} failed")


def serving_garbage(bench: Any, answer: bytes, work: Any) -> Any:
    async def main() -> Any:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, Gateway(bench.settings(url)) as gateway:
            return await work(gateway, url)

    return asyncio.run(main())


def test_a_server_that_does_not_speak_http_is_a_gateway_error_without_the_signature(bench: Any) -> None:
    with pytest.raises(GatewayError) as raised:
        serving_garbage(
            bench, b"GARBAGE\r\n\r\n", lambda gateway, url: gateway.fetch(f"{url}/a.png?sig=SECRET", bench.sink)
        )
    assert "SECRET" not in str(raised.value)


@pytest.mark.parametrize("url", ["https://[bad/a.png?sig=SECRET", "https://images.segmind.com:port/a.png"])
def test_an_address_that_is_no_url_is_refused(bench: Any, url: str) -> None:
    with pytest.raises((OutputError, GatewayError)) as raised:
        bench.run("http://127.0.0.1:9", lambda gateway: gateway.fetch(url, bench.sink))
    assert "SECRET" not in str(raised.value)


def test_a_redirect_to_what_is_no_url_is_refused(bench: Any) -> None:
    handler, _ = answering(lambda: web.Response(status=302, headers={"Location": "http://[bad/?sig=SECRET"}))
    with pytest.raises(OutputError) as raised:
        bench.against(handler, lambda gateway, url: gateway.fetch(f"{url}/a.png", bench.sink))
    assert "SECRET" not in str(raised.value)


def test_the_api_host_is_not_fetched_from_unencrypted_when_the_api_is_https(bench: Any) -> None:
    with pytest.raises(OutputError, match="not https"):
        bench.run("https://127.0.0.1:9", lambda gateway: gateway.fetch("http://127.0.0.1:9/a.png", bench.sink))


@pytest.mark.parametrize("model", [SDXL_NEWREALITY, replace(LLAMA_V3P1_8B_INSTRUCT, api_version="v1")])
def test_a_truncated_v1_answer_keeps_its_request_id_for_every_kind_of_output(bench: Any, model: Any) -> None:
    head = b"HTTP/1.1 200 OK\r\nx-request-id: r-1\r\nContent-Length: 100\r\n\r\n{"
    accepted = serving_garbage(bench, head, lambda gateway, _: gateway.submit(model, {}, bench.sink))
    assert (accepted.request_id, accepted.output_text) == ("r-1", None)
    assert (accepted.received.sha256, accepted.received.is_only_copy) == (None, True)
    assert accepted.received.reason


@pytest.mark.parametrize("days", [0, 28, 29, 30, 31, 45, 61, 100])
def test_a_request_of_any_age_is_found_in_the_history(bench: Any, days: int) -> None:
    now = datetime.now(UTC)
    times = [(now - timedelta(days=days)).timestamp()]
    server = bench.sandbox(clock=lambda: times[-1])

    async def buy_and_look_later(gateway: Gateway) -> Any:
        accepted = await gateway.submit(SDXL_NEWREALITY, {"prompt": "a pear"}, bench.sink)
        times.append(now.timestamp())
        rows = await gateway.history(since=now - timedelta(days=days, minutes=2), now=now)
        return accepted.request_id, [row.request_id for row in rows]

    bought, found = bench.run(server.url, buy_and_look_later)
    assert found == [bought]


def test_a_history_row_with_another_request_id_is_rejected(bench: Any) -> None:
    rows = {"data": [{"request_id": "r-2", "generation_url": "https://a/2.png"}]}
    handler, _ = answering(lambda: web.json_response(rows))
    assert bench.against(handler, lambda gateway, _: gateway.history_row("r-1")) is None
