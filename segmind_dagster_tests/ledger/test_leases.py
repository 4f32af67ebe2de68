"""Whether a run is still there, whatever the wall clocks say: on this machine, on another, in a database."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segmind_dagster.ledger import leases, rate
from segmind_dagster.ledger.leases import LEASE_S, Process

if TYPE_CHECKING:
    from segmind_dagster.ledger import Ledger

HOUR = timedelta(hours=1)
JUMPS = [timedelta(0), HOUR, -HOUR, 400 * HOUR, -400 * HOUR]
START_S = 5000.0
per_test = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


def renew(
    ledger: Ledger, at_s: float, *, off: timedelta = timedelta(0), process: Process | None = None, owner: str = "run"
) -> None:
    now = datetime.now(UTC) + off
    fields = {"owner": owner, "run_id": None, "process": process or Process.this()}
    ledger.write(leases.record_lease, at_s=at_s, now=now, **fields)


def elsewhere() -> Process:
    return Process("otherhost/other-boot/pid:[1]", os.getpid(), None)


@pytest.mark.parametrize("off", JUMPS)
def test_the_wall_clock_of_the_holder_is_ignored(ledger: Ledger, off: timedelta) -> None:
    renew(ledger, START_S, off=off)
    assert ledger.standing("run", START_S + LEASE_S - 1) == "held"
    assert ledger.standing("run", START_S + LEASE_S) == "over"


def test_a_reused_process_id_is_not_taken_for_the_old_process(ledger: Ledger) -> None:
    started = Process.this().started
    if started is None:
        return  # this system does not tell when processes were started
    renew(ledger, START_S, process=replace(Process.this(), started=started - 1))
    assert ledger.standing("run", START_S) == "over"


def test_another_container_of_this_machine_is_judged_by_the_clock_they_share(ledger: Ledger) -> None:
    here = Process.this()
    other = Process(f"container/{here.boot}/pid:[7]", 99_999_999, 1)
    renew(ledger, START_S, off=-HOUR, process=other)
    assert ledger.standing("run", START_S + LEASE_S - 1) == "held"
    assert ledger.standing("run", START_S + LEASE_S) == "over"


def test_leases_from_before_a_reboot_are_over(ledger: Ledger) -> None:
    renew(ledger, START_S, process=Process(f"{Process.this().host}/the boot before/pid:[1]", os.getpid(), None))
    assert ledger.standing("run", 1) == "over"


@pytest.mark.parametrize("off", [timedelta(0), HOUR, -HOUR])
def test_a_foreign_lease_is_over_after_one_unchanged_lease_time(ledger: Ledger, off: timedelta) -> None:
    renew(ledger, 10, off=off, process=elsewhere())
    assert ledger.standing("run", START_S) == "not known"
    assert ledger.standing("run", START_S + LEASE_S - 1) == "not known"
    renew(ledger, 25, off=off, process=elsewhere())
    assert ledger.standing("run", START_S + LEASE_S + 5) == "not known"
    assert ledger.standing("run", START_S + 2 * LEASE_S + 5) == "over"


def test_a_lease_not_renewed_for_days_is_over_without_watching(ledger: Ledger) -> None:
    renew(ledger, 10, off=-48 * HOUR, process=elsewhere())
    assert ledger.standing("run", START_S) == "over"


def test_an_ended_lease_is_over_at_once_and_can_be_renewed(ledger: Ledger) -> None:
    renew(ledger, START_S)
    ledger.write(leases.end_lease, owner="run", now=datetime.now(UTC))
    assert ledger.standing("run", START_S) == "over"
    renew(ledger, START_S)
    assert ledger.standing("run", START_S) == "held"


@given(jumps=st.lists(st.sampled_from(JUMPS), min_size=2, max_size=8), pauses=st.lists(st.floats(0, 40), min_size=8))
@per_test
def test_a_run_that_renews_is_held_however_the_wall_clock_jumps(
    ledger: Ledger, jumps: list[timedelta], pauses: list[float]
) -> None:
    at_s = START_S
    for off, pause_s in zip(jumps, pauses, strict=False):
        renew(ledger, at_s, off=off)
        at_s += pause_s
        assert ledger.standing("run", at_s) == "held"
    assert ledger.standing("run", at_s + LEASE_S) == "over"


@given(jumps=st.lists(st.sampled_from([timedelta(0), HOUR, -HOUR]), min_size=2, max_size=10))
@per_test
def test_a_wall_clock_jump_does_not_change_the_send_interval(ledger: Ledger, jumps: list[timedelta]) -> None:
    now, at_s, sent_s = datetime(2026, 3, 1, 12, tzinfo=UTC), START_S, []
    ledger.write(lambda connection: connection.exec_driver_sql("DELETE FROM rate_limit") and None)
    for jump in jumps:
        now += jump
        (send_time,) = ledger.write(rate.reserve_requests, count=1, per_minute=60, now=now, at_s=at_s)
        sent_s.append(at_s + (send_time - now).total_seconds())
        at_s += 0.1
        now += timedelta(seconds=0.1)
    gaps = [second - first for first, second in pairwise(sent_s)]
    assert all(1.0 <= gap <= 1.02 for gap in gaps), gaps


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_wall_clock_jump_does_not_change_how_long_a_rate_cut_lasts(ledger: Ledger, jump: timedelta) -> None:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    reset_at = now + timedelta(seconds=30)
    ledger.write(rate.cut_rate, reset_at=reset_at, per_minute=60, now=now, at_s=START_S)
    before = ledger.read(rate.current_rate, per_minute=60, now=now, at_s=START_S)
    later = now + jump
    assert ledger.read(rate.current_rate, per_minute=60, now=later, at_s=START_S) == before < 60
    (send_time,) = ledger.write(rate.reserve_requests, count=1, per_minute=60, now=later, at_s=START_S)
    assert 29 <= (send_time - later).total_seconds() <= 31
