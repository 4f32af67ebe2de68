"""Fetching outputs over real HTTP: from allowed hosts only, whole or not at all."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from lab.gateway import answering, serving

from segmind_dagster.errors import OutputError
from segmind_dagster.gateway.errors import GatewayError
from segmind_dagster.outputs.verify import verify
from segmind_dagster.registry.models import FAST_FLUX_SCHNELL
from segmind_dagster.sandbox import Faults

if TYPE_CHECKING:
    from lab.gateway import Bench

    from segmind_dagster.gateway.client import Gateway

CONTENT = bytes(range(256)) * 1000


def refusal(bench: Bench, url: str, *, api_url: str = "http://127.0.0.1:9") -> OutputError:
    with pytest.raises(OutputError) as raised:
        bench.run(api_url, lambda gateway: gateway.fetch(url, bench.sink))
    assert not bench.sink.exists()
    return raised.value


def bought(bench: Bench, **settings: Any) -> tuple[Any, Any]:
    """An output bought from a sandbox and fetched; and the sandbox's account."""
    server = bench.sandbox(**settings)

    async def buy(gateway: Gateway) -> str:
        accepted = await gateway.submit(FAST_FLUX_SCHNELL, {"prompt": "a pear", "seed": 4}, bench.sink)
        result = await gateway.result(accepted.request_id)
        return await gateway.fetch(result.output_url, bench.sink)

    try:
        return bench.run(server.url, buy), server.account()
    except (GatewayError, OutputError) as error:
        return error, server.account()


def test_an_output_arrives_whole_with_the_digest_of_its_bytes(bench: Bench) -> None:
    sha256, account = bought(bench)
    assert sha256 == hashlib.sha256(bench.sink.read_bytes()).hexdigest()
    assert verify(bench.sink, "image").width == 64
    assert account["requests"]["output"] == 1


def test_a_truncated_output_is_fetched_again_and_nothing_is_bought_again(bench: Bench) -> None:
    _, account = bought(bench, faults=Faults(script=["truncated"]))
    assert verify(bench.sink, "image").format == "jpeg"
    assert (account["requests"]["output"], account["requests"]["submit"], account["charges"]) == (2, 1, 1)


def test_a_slow_output_is_waited_for(bench: Bench) -> None:
    _, account = bought(bench, faults=Faults(script=["slow"], slow_s=0.02))
    assert verify(bench.sink, "image").format == "jpeg"
    assert account["requests"]["output"] == 1


@pytest.mark.parametrize("settings", [{"faults": Faults(script=["output_missing"])}, {"file_ttl_s": 0.0}])
def test_a_deleted_output_is_expired_and_requested_once(bench: Bench, settings: dict[str, Any]) -> None:
    error, account = bought(bench, **settings)
    assert (error.kind, error.http_status) == ("expired", 404)
    assert account["requests"]["output"] == 1


@pytest.mark.parametrize("fault", ["html_as_image", "undecodable"])
def test_bytes_that_are_not_a_picture_are_fetched_and_refused_by_verification(bench: Bench, fault: Any) -> None:
    sha256, _ = bought(bench, faults=Faults(script=[fault]))
    assert sha256 == hashlib.sha256(bench.sink.read_bytes()).hexdigest()
    with pytest.raises(OutputError):
        verify(bench.sink, "image")


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/a.png",
        "https://images.segmind.com.evil.example/a.png",
        "https://images.segmind.com@evil.example/a.png",
        "https://127.0.0.1/a.png",
        "http://127.0.0.1:10/a.png",
        "http://169.254.169.254/latest/meta-data",
        "https://localhost/a.png",
        "https:///a.png",
        "file:///etc/passwd",
        "",
    ],
)
def test_a_host_that_is_not_listed_is_refused_without_a_request(bench: Bench, url: str) -> None:
    error = refusal(bench, url)
    assert error.is_permanent
    assert "SEGMIND_OUTPUT_HOSTS" in str(error)


def test_the_hosts_of_segmind_are_listed_by_default_and_only_over_https(bench: Bench) -> None:
    error = refusal(bench, "http://images.segmind.com/a.png?sig=SECRET", api_url="https://api.segmind.com")
    assert error.is_permanent
    assert str(error) == "its address is not https: http://images.segmind.com/a.png"


def test_a_listed_host_is_fetched_only_over_https(bench: Bench) -> None:
    async def main(gateway: Gateway, _: str) -> None:
        async with serving(handler) as other:
            await gateway.fetch(f"{other}/a.png", bench.sink)

    handler, seen = answering(lambda: web.Response(body=CONTENT))
    with pytest.raises(OutputError, match="not https"):
        bench.against(handler, main, variables={"SEGMIND_OUTPUT_HOSTS": "127.0.0.1"})
    assert seen == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_within_the_listed_hosts_is_followed(bench: Bench, status: int) -> None:
    handler, seen = answering(
        lambda: web.Response(status=status, headers={"Location": "../b.png?sig=1"}), lambda: web.Response(body=CONTENT)
    )
    bench.against(handler, lambda gateway, url: gateway.fetch(f"{url}/outputs/a.png", bench.sink))
    assert bench.sink.read_bytes() == CONTENT
    assert seen[1].path_qs == "/b.png?sig=1"


@pytest.mark.parametrize(
    "location",
    ["https://example.com/a.png", "//example.com/a.png", "http://169.254.169.254/", "http://127.0.0.1:10/x?sig=SECRET"],
)
def test_a_redirect_to_a_host_that_is_not_listed_is_refused(bench: Bench, location: str) -> None:
    handler, seen = answering(lambda: web.Response(status=302, headers={"Location": location}))
    with pytest.raises(OutputError, match="not among the allowed") as raised:
        bench.against(handler, lambda gateway, url: gateway.fetch(f"{url}/a.png", bench.sink))
    assert raised.value.is_permanent
    assert "SECRET" not in str(raised.value)
    assert len(seen) == 1


def test_a_redirect_loop_ends(bench: Bench) -> None:
    handler, seen = answering(lambda: web.Response(status=302, headers={"Location": "/a.png"}))
    with pytest.raises(OutputError, match="redirects") as raised:
        bench.against(handler, lambda gateway, url: gateway.fetch(f"{url}/a.png", bench.sink))
    assert raised.value.is_permanent
    assert len(seen) == 4


@pytest.mark.parametrize("is_chunked", [False, True], ids=["announced", "chunked"])
def test_an_output_larger_than_the_limit_is_refused_and_not_fetched_again(bench: Bench, is_chunked: bool) -> None:
    gets = []

    async def handler(request: web.Request) -> web.StreamResponse:
        gets.append(request)
        response = web.StreamResponse()
        if is_chunked:
            response.enable_chunked_encoding()
        else:
            response.content_length = len(CONTENT)
        await response.prepare(request)
        await response.write(CONTENT)
        return response

    with pytest.raises(OutputError, match="larger than 1000 bytes") as raised:
        bench.against(handler, lambda gateway, url: gateway.fetch(f"{url}/a.png", bench.sink), max_output_bytes=1000)
    assert raised.value.is_permanent
    assert len(gets) == 1


def test_an_output_of_exactly_the_limit_is_accepted(bench: Bench) -> None:
    handler, _ = answering(lambda: web.Response(body=CONTENT))
    sha256 = bench.against(
        handler, lambda gateway, url: gateway.fetch(f"{url}/a", bench.sink), max_output_bytes=len(CONTENT)
    )
    assert sha256 == hashlib.sha256(CONTENT).hexdigest()


def test_an_output_that_stays_truncated_is_refused(bench: Bench) -> None:
    gets = []

    async def handler(request: web.Request) -> web.StreamResponse:
        gets.append(request)
        response = web.StreamResponse()
        response.content_length = len(CONTENT)
        await response.prepare(request)
        await response.write(CONTENT[:5000])
        assert request.transport is not None
        request.transport.close()
        return response

    with pytest.raises(OutputError, match="truncated after 5000 bytes") as raised:
        bench.against(handler, lambda gateway, url: gateway.fetch(f"{url}/a.png", bench.sink))
    assert not raised.value.is_permanent
    assert len(gets) == 6


def test_a_compressed_answer_is_decompressed(bench: Bench) -> None:
    def compressed() -> web.Response:
        response = web.Response(body=CONTENT)
        response.enable_compression(web.ContentCoding.gzip)
        return response

    handler, _ = answering(compressed)
    bench.against(handler, lambda gateway, url: gateway.fetch(f"{url}/a.png", bench.sink))
    assert bench.sink.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_file_that_is_forbidden_now_is_expired(bench: Bench, status: int) -> None:
    handler, seen = answering(lambda: web.Response(status=status))
    with pytest.raises(GatewayError) as raised:
        bench.against(handler, lambda gateway, url: gateway.fetch(f"{url}/a.png?sig=SECRET", bench.sink))
    assert (raised.value.kind, raised.value.http_status, len(seen)) == ("expired", status, 1)
    assert "SECRET" not in str(raised.value)


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_a_fetch_is_retried_after_a_server_error(bench: Bench, status: int) -> None:
    headers = {"x-rate-limit-reset-at-utc": "2000-01-01T00:00:00Z"}
    handler, seen = answering(lambda: web.Response(status=status, headers=headers), lambda: web.Response(body=CONTENT))
    bench.against(handler, lambda gateway, url: gateway.fetch(f"{url}/a.png", bench.sink))
    assert len(seen) == 2


def test_retries_of_server_errors_are_bounded(bench: Bench) -> None:
    handler, seen = answering(lambda: web.Response(status=500))
    with pytest.raises(GatewayError) as raised:
        bench.against(handler, lambda gateway, url: gateway.fetch(f"{url}/a.png?sig=SECRET", bench.sink))
    assert (raised.value.kind, len(seen)) == ("server_error", 6)
    assert "SECRET" not in str(raised.value)


def test_a_fetch_never_carries_the_key(bench: Bench) -> None:
    handler, seen = answering(lambda: web.Response(body=CONTENT))
    bench.against(handler, lambda gateway, url: gateway.fetch(f"{url}/a.png", bench.sink))
    assert "x-api-key" not in seen[0].headers


def test_a_closed_port_is_a_connection_error_without_the_query(bench: Bench) -> None:
    with pytest.raises(GatewayError) as raised:
        bench.run(
            "http://127.0.0.1:9", lambda gateway: gateway.fetch("http://127.0.0.1:9/a.png?sig=SECRET", bench.sink)
        )
    assert raised.value.kind == "connect_error"
    assert "SECRET" not in str(raised.value)
