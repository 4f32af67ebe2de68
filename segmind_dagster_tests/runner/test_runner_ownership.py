"""A run's lease, and how runs wait for what another one owns, on a clock that only moves while somebody waits."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from lab.clocks import HandClock

from segmind_dagster.ledger import Caps, entries, moves, open_ledger, reads, writes
from segmind_dagster.ledger.leases import Process, place, record_lease
from segmind_dagster.runner.lease import LEASE_S, Lease, watch_leases
from segmind_dagster.runner.watching import Watch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from segmind_dagster.ledger import Claim, Ledger


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite", api_origin="http://here", holds_outputs=lambda: None)
    yield opened
    opened.close()


def claimed(ledger: Ledger, clock: HandClock, owner: str, generation_id: str = "g") -> Claim:
    """A generation that a run has claimed."""
    row = {
        "generation_id": generation_id, "model_slug": "fast-flux-schnell", "prompt": "a pear", "negative_prompt": None,
        "body": {}, "images": {}, "variables": {}, "seed": 7, "sample": 0,
    }  # fmt: skip
    now = clock.now()
    ledger.write(entries.register_set, prompt_set=generation_id, resource="m", generations=[row], now=now)
    return ledger.write(
        moves.claim, generation_id=generation_id, owner=owner, run_id=None, prompt_set="s",
        reserved_usd=Decimal("0.01"), caps=Caps(day_usd=Decimal(10)), rate_wait_ms=0, now=now,
    )  # fmt: skip


def record(
    ledger: Ledger, clock: HandClock, owner: str, *, pid: int | None = None, where: str | None = None,
    lease_s: float = LEASE_S,
) -> None:  # fmt: skip
    """A run that has just renewed its lease."""
    process = Process(where or place(), pid or os.getpid(), None)
    ledger.write(
        record_lease, owner=owner, run_id=None, process=process, at_s=clock.monotonic(), now=datetime.now(UTC),
        lease_s=lease_s,
    )  # fmt: skip


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_lease_holds_only_after_it_was_recorded_and_not_up_to_its_last_moment(
    ledger: Ledger, clock: HandClock
) -> None:
    lease = Lease(ledger, clock, None)
    assert not lease.holds()
    asyncio.run(lease.renew())
    assert lease.holds()
    clock.advance(LEASE_S * 0.8)
    assert lease.holds()
    # the POST itself takes a moment: nothing is sent when the lease is about to end
    clock.advance(LEASE_S * 0.1)
    assert not lease.holds()


def test_others_see_a_run_as_alive_exactly_while_its_lease_lasts(ledger: Ledger, clock: HandClock) -> None:
    lease = Lease(ledger, clock, "monday")
    asyncio.run(lease.renew())
    claimed(ledger, clock, lease.owner)
    assert ledger.liveness(clock.monotonic())(lease.owner)
    clock.advance(LEASE_S)
    assert not ledger.liveness(clock.monotonic())(lease.owner)


def test_ending_a_lease_frees_its_generations_at_once(ledger: Ledger, clock: HandClock) -> None:
    lease = Lease(ledger, clock, None)
    asyncio.run(lease.renew())
    claimed(ledger, clock, lease.owner)
    asyncio.run(lease.give_up())
    assert not lease.holds()
    assert not ledger.liveness(clock.monotonic())(lease.owner)


def test_a_live_run_renews_long_before_its_lease_ends(ledger: Ledger, clock: HandClock) -> None:
    lease = Lease(ledger, clock, None)

    async def live(seconds: float) -> list[bool]:
        await lease.renew()
        task = asyncio.create_task(lease.keep_alive())
        held = []
        while clock.monotonic() < seconds:
            await asyncio.sleep(0.001)
            held.append(lease.holds())
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return held

    assert all(asyncio.run(live(600)))
    assert set(clock.slept) == {LEASE_S / 4}


def test_every_run_has_a_unique_owner(ledger: Ledger, clock: HandClock) -> None:
    assert len({Lease(ledger, clock, "the same Dagster run").owner for _ in range(50)}) == 50


def test_waiting_ends_when_the_owners_lease_ends(ledger: Ledger, clock: HandClock) -> None:
    record(ledger, clock, "other")
    claimed(ledger, clock, "other")
    found = asyncio.run(Watch(ledger, clock).until_free("g"))
    assert (found.state, found.is_owner_alive) == ("submitting", False)
    assert LEASE_S <= clock.monotonic() <= LEASE_S + 2


def test_waiting_ends_at_once_when_the_owner_process_is_dead(ledger: Ledger, clock: HandClock) -> None:
    record(ledger, clock, "other", pid=dead_pid())
    claimed(ledger, clock, "other")
    asyncio.run(Watch(ledger, clock).until_free("g"))
    assert clock.monotonic() < 1


def test_a_process_id_of_another_machine_is_ignored(ledger: Ledger, clock: HandClock) -> None:
    record(ledger, clock, "other", pid=dead_pid(), where="elsewhere")
    claimed(ledger, clock, "other")
    asyncio.run(Watch(ledger, clock).until_free("g"))
    assert clock.monotonic() >= LEASE_S


def test_all_waiting_tasks_get_the_outcome_of_a_generation_at_once(ledger: Ledger, clock: HandClock) -> None:
    record(ledger, clock, "other", lease_s=10**9)
    claim = claimed(ledger, clock, "other")

    async def scene() -> list[str]:
        watch = Watch(ledger, clock)
        waiting = [asyncio.create_task(watch.until_free("g")) for _ in range(3)]
        await asyncio.sleep(0.02)
        await ledger.awrite(
            writes.mark_failed, claim, target="failed", failure_kind="job_failed", error="out of memory",
            http_status=None, cost_usd=Decimal(0), now=clock.now(),
        )  # fmt: skip
        return [(await task).state for task in waiting]

    assert asyncio.run(scene()) == ["failed"] * 3


def test_many_generations_are_watched_with_one_query_a_second(ledger: Ledger, clock: HandClock) -> None:
    record(ledger, clock, "other")
    names = [f"g{number}" for number in range(20)]
    for name in names:
        claimed(ledger, clock, "other", name)

    async def scene() -> int:
        watch = Watch(ledger, clock)
        return len(await asyncio.gather(*(watch.until_free(name) for name in names)))

    assert asyncio.run(scene()) == 20
    assert len(clock.slept) <= LEASE_S + 2


def test_closing_a_watch_stops_its_queries(ledger: Ledger, clock: HandClock) -> None:
    record(ledger, clock, "other")
    claimed(ledger, clock, "other")

    async def scene() -> int:
        watch = Watch(ledger, clock)
        waiting = asyncio.create_task(watch.until_free("g"))
        await asyncio.sleep(0.01)
        await watch.close()
        looks = len(clock.slept)
        await asyncio.sleep(0.02)
        waiting.cancel()
        return len(clock.slept) - looks

    assert asyncio.run(scene()) == 0


def test_a_run_that_owns_nothing_is_not_looked_up(ledger: Ledger, clock: HandClock) -> None:
    record(ledger, clock, "idle")
    assert ledger.read(reads.owners) == []


def test_a_single_look_watches_foreign_leases_for_one_lease_time(ledger: Ledger, clock: HandClock) -> None:
    record(ledger, clock, "other", where="elsewhere")
    claimed(ledger, clock, "other")
    assert ledger.liveness(clock.monotonic())("other")
    watch_leases(ledger, clock)
    assert LEASE_S <= clock.monotonic() <= LEASE_S + 2
    assert not ledger.liveness(clock.monotonic())("other")
    # what is known needs no watching
    watch_leases(ledger, clock)
    assert len(clock.slept) == 1
