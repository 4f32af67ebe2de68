"""Clocks for runs, so that no test waits in earnest."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from segmind_dagster.runner.clock import SystemClock


class QuickClock(SystemClock):
    """The real time, possibly some days ahead; waits are a fraction of what was asked for.

    Args:
        ahead: how far this clock is in the future.
        times: how much shorter a wait is.
    """

    def __init__(self, *, ahead: timedelta = timedelta(0), times: float = 40) -> None:
        self.ahead = ahead
        self.times = times

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.times)


class HandClock:
    """A clock that moves only while somebody sleeps on it, or when it is told to."""

    def __init__(self, start: datetime = datetime(2026, 3, 1, 12, tzinfo=UTC)) -> None:
        self._start = start
        self._passed_s = 0.0
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._passed_s)

    def monotonic(self) -> float:
        return self._passed_s

    def advance(self, seconds: float) -> None:
        self._passed_s += seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._passed_s += seconds
        await asyncio.sleep(0)
