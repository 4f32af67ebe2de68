"""The real time; tests pass their own."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from segmind_dagster.ledger.leases import since_boot_s


class SystemClock:
    """The machine's clocks: the wall clock is read once, and time from then on is measured by the monotonic one.

    So setting the wall clock during a run changes nothing for that run.
    """

    def __init__(self) -> None:
        self._read_at = datetime.now(UTC)
        self._read_s = since_boot_s()

    def now(self) -> datetime:
        """The time, aware."""
        return self._read_at + timedelta(seconds=self.monotonic() - self._read_s)

    def monotonic(self) -> float:
        """Seconds that never go backwards, the same for all processes of this machine."""
        return since_boot_s()

    async def sleep(self, seconds: float) -> None:
        """Sleep; other tasks run meanwhile."""
        await asyncio.sleep(seconds)
