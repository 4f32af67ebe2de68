"""The wall clock is set while runs go on: nothing is bought twice, nothing hangs, nothing changes."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from lab.clocks import JumpingClock
from lab.project import V2

from segmind_dagster.ledger import leases
from segmind_dagster.runner import clock as clocks
from segmind_dagster.runner.attempts import may_be_running
from segmind_dagster.runner.clock import SystemClock

if TYPE_CHECKING:
    from conftest import OpenLab

HOUR = timedelta(hours=1)
JUMPS = {"back": -HOUR, "forward": HOUR}


def test_a_run_reads_the_wall_clock_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SystemClock()
    before = clock.now()

    class Set(clocks.datetime):
        @classmethod
        def now(cls, tz: object = None) -> clocks.datetime:  # type: ignore[override]
            return super().now(tz) + HOUR  # type: ignore[arg-type]

    monkeypatch.setattr(clocks, "datetime", Set)
    assert timedelta(0) <= clock.now() - before < timedelta(minutes=1)
    assert SystemClock().now() - before > timedelta(minutes=59)


def test_two_clocks_of_one_machine_measure_the_same() -> None:
    assert abs(SystemClock().monotonic() - leases.since_boot_s()) < 5


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize("reading", [1, 5, 12, 25, 40])
def test_a_clock_jump_during_a_run_changes_nothing(open_lab: OpenLab, jump: str, reading: int) -> None:
    lab = open_lab()
    clock = JumpingClock({reading: JUMPS[jump]})
    began = time.monotonic()
    report = lab.generate(lab.write("fruit", 12, models=[V2]), clock=clock)
    assert clock.readings > reading
    assert report.models[0].endings == {"succeeded": 12}
    lab.check_all_bought_once(12)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("jump", JUMPS)
def test_times_written_before_a_clock_jump_do_not_delay_the_next_run(open_lab: OpenLab, jump: str) -> None:
    lab = open_lab(environ={"SEGMIND_REQUESTS_PER_MINUTE": "6000"})
    lab.generate(lab.write("fruit", 6))
    began = time.monotonic()
    clock = JumpingClock({0: JUMPS[jump]})
    assert lab.generate(lab.write("harvest", 6), clock=clock).models[0].endings == {"succeeded": 6}
    # waiting for an hour, even in short sleeps, would take a minute and a half
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(("age", "may_be"), [
    (timedelta(0), True), (HOUR + timedelta(minutes=59), True), (-HOUR, True), (3 * HOUR, False),
])  # fmt: skip
def test_a_clock_jump_of_an_hour_does_not_expire_a_young_request(age: timedelta, *, may_be: bool) -> None:
    now = datetime.now(UTC)
    assert may_be_running(now - age, now) is may_be
