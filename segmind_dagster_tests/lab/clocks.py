"""Clocks for runs, so that no test waits in earnest."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from segmind_dagster.runner.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Mapping


class QuickClock(SystemClock):
    """The real time, possibly some days ahead; waits are a fraction of what was asked for.

    Args:
        ahead: how far this clock is in the future.
        times: how much shorter a wait is.
    """

    def __init__(self, *, ahead: timedelta = timedelta(0), times: float = 40) -> None:
        super().__init__()
        self.times = times
        # days later both clocks say so
        self._ahead_s = ahead.total_seconds()
        self._read_at += ahead
        self._read_s += self._ahead_s

    def monotonic(self) -> float:
        return super().monotonic() + self._ahead_s

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.times)


class JumpingClock(QuickClock):
    """A wall clock that somebody sets while it is being read; what passes is measured as ever.

    Args:
        jumps: by how much it is wrong, from its n-th reading on.
    """

    def __init__(self, jumps: Mapping[int, timedelta], *, times: float = 40) -> None:
        super().__init__(times=times)
        self._jumps = jumps
        self._off = timedelta(0)
        self.readings = 0

    def now(self) -> datetime:
        self._off += self._jumps.get(self.readings, timedelta(0))
        self.readings += 1
        return super().now() + self._off


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
