"""A host that is not there is said within seconds when a run begins; one that answers badly is asked again as ever."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientTimeout, web
from lab.gateway import answering

from segmind_dagster.gateway import client, repeating
from segmind_dagster.gateway.errors import GatewayError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from lab.gateway import Bench
    from tenacity import RetryCallState

    from segmind_dagster.gateway.client import Gateway


CLIENT_KNOCK, KNOCK_S = client._KNOCK, repeating._KNOCK_S


def the_balance(gateway: Gateway) -> Awaitable[Any]:
    return gateway.credits_usd()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the attempts that did not succeed."""
    made: list[int] = []

    def pause(state: RetryCallState) -> float:
        made.append(state.attempt_number)
        return 0.0

    monkeypatch.setattr(repeating, "_BACK_OFF", pause)
    return made


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def test_a_refused_connection_fails_after_a_few_attempts(bench: Bench, pauses: list[int], closed_port: int) -> None:
    with pytest.raises(UnreachableError) as raised:
        bench.run(f"http://127.0.0.1:{closed_port}", the_balance)
    assert raised.value.kind == "connect_error"
    assert f"127.0.0.1:{closed_port}" in str(raised.value)
    assert pauses == [1, 2, 3, 4]


def test_a_host_that_does_not_speak_tls_is_unreachable(bench: Bench, pauses: list[int]) -> None:
    url = bench.sandbox().url.replace("http://", "https://")
    with pytest.raises(UnreachableError, match="SSL"):
        bench.run(url, the_balance)
    assert pauses == [1, 2, 3, 4]


def test_a_name_that_has_no_address_is_unreachable(
    bench: Bench, pauses: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_question: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(UnreachableError, match=r"segmind\.invalid"):
        bench.run("https://segmind.invalid", the_balance)
    assert pauses == [1, 2, 3, 4]


def test_connection_attempts_end_after_their_time_limit(
    bench: Bench, pauses: list[int], closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeating, "_KNOCK_S", 0.0)
    with pytest.raises(UnreachableError):
        bench.run(f"http://127.0.0.1:{closed_port}", the_balance)
    assert pauses == [1]


def test_a_balance_request_without_an_answer_ends_within_seconds(
    bench: Bench, pauses: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_KNOCK", ClientTimeout(total=0.2))
    monkeypatch.setattr(repeating, "_KNOCK_S", 0.1)

    async def silent(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    with pytest.raises(GatewayError, match="no answer") as raised:
        bench.against(silent, lambda gateway, _: gateway.credits_usd())
    assert not isinstance(raised.value, UnreachableError)
    assert pauses == [1]
    assert (CLIENT_KNOCK.total or 99) + KNOCK_S < 10


def test_a_rate_limited_balance_request_does_not_wait(bench: Bench, pauses: list[int]) -> None:
    handler, seen = answering(lambda: web.Response(status=429))
    with pytest.raises(GatewayError) as raised:
        bench.against(handler, lambda gateway, _: gateway.credits_usd())
    assert (raised.value.kind, len(seen)) == ("rate_limited", 1)


def test_a_host_with_bad_answers_keeps_its_usual_retries(bench: Bench, pauses: list[int]) -> None:
    handler, seen = answering(lambda: web.Response(status=503, text="busy"))
    with pytest.raises(GatewayError) as raised:
        bench.against(handler, lambda gateway, _: gateway.credits_usd())
    assert not isinstance(raised.value, UnreachableError)
    assert (len(seen), pauses) == (6, [1, 2, 3, 4, 5, 6])


def test_a_connection_lost_during_a_run_keeps_its_usual_retries(
    bench: Bench, pauses: list[int], closed_port: int
) -> None:
    with pytest.raises(UnreachableError):
        bench.run(f"http://127.0.0.1:{closed_port}", lambda gateway: gateway.status("r-1"))
    assert pauses == [1, 2, 3, 4, 5, 6]
