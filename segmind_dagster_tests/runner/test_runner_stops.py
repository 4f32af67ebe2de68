"""A stop, a refusal of the rate and a failed upload reach everything that waits, and say so."""

from __future__ import annotations

import asyncio
import socket
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from lab.clocks import HandClock
from lab.project import V1, png

from segmind_dagster.ledger import Caps, Spent, open_ledger
from segmind_dagster.planning import apply_caps
from segmind_dagster.planning.estimate import Estimate
from segmind_dagster.planning.plan import Plan
from segmind_dagster.runner.rate_limiter import RateLimiter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.runner_project import Lab

    from segmind_dagster.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = open_ledger(
        f"sqlite:///{tmp_path / 'ledger.sqlite'}", api_origin="http://127.0.0.1:1", holds_outputs=lambda: None
    )
    yield opened
    opened.close()


def test_a_stop_releases_forty_waiting_tasks_within_one_interval(ledger: Ledger) -> None:
    clock = HandClock()
    rate_limiter = RateLimiter(ledger, clock, 60)
    is_stopped = False

    async def wait_for_turn() -> None:
        nonlocal is_stopped
        await rate_limiter.wait(may_go=lambda: not is_stopped)
        is_stopped = True

    async def all_of_them() -> None:
        await asyncio.gather(*(wait_for_turn() for _ in range(40)))

    asyncio.run(all_of_them())
    assert clock.monotonic() <= 1.1


def test_after_a_429_no_waiting_request_is_sent_before_the_reset(ledger: Ledger) -> None:
    clock = HandClock()
    rate_limiter = RateLimiter(ledger, clock, 600)
    sent: list[float] = []

    async def send() -> None:
        await rate_limiter.wait(may_go=lambda: True)
        sent.append(clock.monotonic())
        if len(sent) == 1:
            await rate_limiter.cut(30)

    async def all_of_them() -> None:
        await asyncio.gather(*(send() for _ in range(40)))

    asyncio.run(all_of_them())
    # at most one reservation, about a second's worth of requests, is already in progress
    assert len([moment for moment in sent if moment < 30]) <= 11


def test_an_unreachable_storage_host_is_one_clear_message_and_no_post(lab: Lab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    (lab.folder / "prompts" / "face.png").write_bytes(png())
    key = lab.write("heroes", 2, models=["face_to_sticker"], image="face.png")
    report = lab.generate(key, settings=lab.settings(SEGMIND_STORAGE_URL=f"http://127.0.0.1:{port}"))
    assert report.stopped_by == "connect_error"
    assert f"http://127.0.0.1:{port}" in (report.stop_message or "")
    assert dict(report.models[0].endings) == {"held_back": 2}
    assert not report.models[0].is_complete
    assert (lab.posts, lab.states()) == (0, ["planned", "planned"])


def test_a_signed_input_url_is_neither_in_the_picture_nor_in_its_sidecar(lab: Lab) -> None:
    url = "https://bucket.example/face.png?X-Amz-Signature=SECRETSIG"
    lab.generate(lab.write("heroes", 1, models=["face_to_sticker"], image=url))
    files = [path for path in (lab.folder / "data" / "outputs").rglob("*") if path.is_file()]
    assert len(files) == 2
    assert not [path for path in files if b"SECRETSIG" in path.read_bytes()]


def plan(prompt_set: str, refusal: str | None = None) -> Plan:
    return Plan(
        prompt_set=prompt_set,
        resource=V1,
        generations=(),
        estimate=Estimate(high_usd=Decimal(1)),
        refusal=refusal,
    )


def test_plans_that_buy_nothing_are_not_refused_with_the_others() -> None:
    nothing = Spent(run_usd=Decimal(0), day_usd=Decimal(0), set_usd=Decimal(0))
    plans = [plan("a", "too dear"), plan("a"), plan("b")]
    held = apply_caps(plans, caps={"a": Caps(), "b": Caps()}, spent={"a": nothing, "b": nothing})
    assert [found.refusal for found in held] == ["too dear", None, None]
