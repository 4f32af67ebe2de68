"""A run in which nothing moves any more is given up with one clear message; a slow one is not."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from lab.clocks import HandClock

from segmind_dagster.errors import SegmindDagsterError
from segmind_dagster.runner import interrupts
from segmind_dagster.runner.brake import Brake
from segmind_dagster.runner.interrupts import Watchdog
from segmind_dagster.runner.work import Progress

HOUR_S = 3600.0


def watched(**progress: int) -> tuple[Progress, HandClock, Watchdog]:
    found, clock = Progress(total=3, **progress), HandClock()
    return found, clock, Watchdog(found, clock, 1800)


def test_half_an_hour_without_any_step_ends_the_run() -> None:
    progress, clock, watchdog = watched()
    clock.advance(1799)
    watchdog.look()
    clock.advance(2)
    with pytest.raises(SegmindDagsterError, match=r"Nothing has moved for 1801 s \(0/3 done.*nothing is bought twice"):
        watchdog.look()
    assert progress.is_at_work


def test_every_step_begins_the_half_hour_again() -> None:
    progress, clock, watchdog = watched()
    for _ in range(10):
        clock.advance(1700)
        progress.steps += 1
        watchdog.look()


@pytest.mark.parametrize("waiting", [1, 2])
def test_waiting_for_other_runs_is_no_stall(waiting: int) -> None:
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
    brake = Brake()
    ended: list[str] = []

    async def hang() -> None:
        clock.advance(HOUR_S)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    with pytest.raises(SegmindDagsterError, match="Nothing has moved"):
        interrupts.run_interruptibly(hang, brake, watchdog)
    assert ended == ["cancelled"]
    assert brake.message is not None
