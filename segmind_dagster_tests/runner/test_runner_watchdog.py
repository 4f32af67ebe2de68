"""A run in which nothing moves any more is given up with one clear message; a slow one is not."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import count
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from lab.clocks import HandClock

from segmind_dagster.errors import SegmindDagsterError
from segmind_dagster.runner import interrupts
from segmind_dagster.runner.admission import Admission
from segmind_dagster.runner.interrupts import Watchdog
from segmind_dagster.runner.report import Progress
from segmind_dagster.sandbox import jobs

if TYPE_CHECKING:
    from conftest import OpenLab

HOUR_S = 3600.0


def watched(**progress: int) -> tuple[Progress, HandClock, Watchdog]:
    found, clock = Progress(total=3, **progress), HandClock()
    return found, clock, Watchdog(found, clock, 1800)


def test_half_an_hour_without_progress_ends_the_run() -> None:
    progress, clock, watchdog = watched()
    clock.advance(1799)
    watchdog.look()
    clock.advance(2)
    with pytest.raises(SegmindDagsterError, match=r"Nothing has moved for 1801 s \(0/3 done.*nothing is bought twice"):
        watchdog.look()
    assert progress.is_at_work


def test_every_step_restarts_the_half_hour() -> None:
    progress, clock, watchdog = watched()
    for _ in range(10):
        clock.advance(1700)
        progress.steps += 1
        watchdog.look()


def test_an_announced_wait_is_allowed_until_its_deadline() -> None:
    progress, clock, watchdog = watched()
    progress.expect_by(3 * HOUR_S)
    # one that ends earlier does not shorten the other's time
    progress.expect_by(2 * HOUR_S)
    clock.advance(3 * HOUR_S + 1799)
    watchdog.look()
    clock.advance(2)
    with pytest.raises(SegmindDagsterError, match="Nothing has moved for"):
        watchdog.look()


@pytest.mark.parametrize("waiting", [1, 2])
def test_waiting_for_other_runs_does_not_count_as_a_stall(waiting: int) -> None:
    progress, clock, watchdog = watched(waiting=waiting)
    progress.endings = Counter({"succeeded": 3 - waiting})
    watchdog.look()
    clock.advance(10 * HOUR_S)
    watchdog.look()
    progress.waiting = 0
    watchdog.look()
    clock.advance(HOUR_S)
    with pytest.raises(SegmindDagsterError):
        watchdog.look()


def test_a_run_that_hangs_is_stopped_and_its_tasks_are_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "DRAIN_S", 0.05)
    _, clock, watchdog = watched()
    admission = Admission()
    ended: list[str] = []

    async def hang() -> None:
        clock.advance(HOUR_S)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    with pytest.raises(SegmindDagsterError, match="Nothing has moved"):
        interrupts.run_interruptibly(hang, admission, watchdog)
    assert ended == ["cancelled"]
    assert admission.message is not None


def steps_of_a_run(open_lab: OpenLab, latency_s: float) -> int:
    lab = open_lab(fixed_latency_s=latency_s)
    seen: list[Progress] = []
    lab.generate(lab.write("fruit", 2), on_progress=seen.append)
    lab.check_all_bought_once(2)
    return seen[-1].steps


def test_repeated_polls_do_not_count_as_progress(open_lab: OpenLab) -> None:
    # a job that takes seventy times as long is polled many times more, and changes its state as often
    assert steps_of_a_run(open_lab, 0.02) == steps_of_a_run(open_lab, 1.5)


def test_a_run_ends_when_request_ids_repeat_under_a_cap(open_lab: OpenLab, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = count()
    monkeypatch.setattr(jobs, "uuid4", lambda: UUID(int=next(numbers) // 2))
    lab = open_lab(price_jitter=False)
    key = lab.write("fruit", 80)
    # it waited for money that nothing was to bring back, until the watchdog ended it
    monkeypatch.setattr("segmind_dagster.runner.loop._STALLED_S", 15.0)
    report = lab.generate(key, settings=lab.settings(SEGMIND_DAILY_BUDGET_USD="0.25"))
    assert report.stopped_by == "over_budget"
    assert report.models[0].endings["held_back"]
    assert sum(report.models[0].endings.values()) == 80
