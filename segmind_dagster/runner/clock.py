"""The real time; tests pass their own."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from segmind_dagster.ledger.leases import since_boot_s


class SystemClock:
    """The machine's clocks: its wall clock is read once, and what passes from then on is measured.

    A wall clock that is set while a run goes on changes nothing for that run.
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
        """Let others work for a while."""
        await asyncio.sleep(seconds)
