"""A run's right to act: an entry in the ledger that it renews while it lives.

A run that stops renewing (killed, frozen, cut off) loses its right after `LEASE_S`, and others take over what
it left. It asks `holds` right before every POST, so that a run woken after its lease sends nothing.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING

from segmind_dagster.errors import LedgerError
from segmind_dagster.ledger import entries
from segmind_dagster.ledger.store import place

if TYPE_CHECKING:
    from datetime import datetime

    from segmind_dagster.ledger import Ledger
    from segmind_dagster.runner.work import ClockPort

LEASE_S = 60.0


class Lease:
    """One run's lease.

    Args:
        ledger: where it is recorded.
        clock: the time.
        run_id: Dagster's id of the run, if there is one.
    """

    def __init__(self, ledger: Ledger, clock: ClockPort, run_id: str | None) -> None:
        self._ledger = ledger
        self._clock = clock
        self._run_id = run_id
        self.owner = secrets.token_hex(8)
        self._until = clock.now()
        self.term = 0

    def holds(self, term: int | None = None) -> bool:
        """Whether the lease is good for the moment of sending.

        Args:
            term: `term` as it was at the claim: what was claimed before the lease ran out may be another run's by
                now, even though the lease was renewed since.
        """
        is_same = term is None or term == self.term
        return is_same and self._clock.now() < self._until - timedelta(seconds=LEASE_S / 6)

    async def renew(self) -> None:
        """Extend the lease; valid only once that is durable."""
        await self._record(self._clock.now() + timedelta(seconds=LEASE_S))

    async def give_up(self) -> None:
        """End the lease, so that others need not wait for it to run out; should that fail, it runs out."""
        with contextlib.suppress(LedgerError):
            await self._record(self._clock.now())

    async def keep_alive(self) -> None:
        """Renew for as long as the run lives; cancel it to stop."""
        while True:
            await self._clock.sleep(LEASE_S / 4)
            # a failed renewal is tried again; until one succeeds `holds` says no and nothing is sent
            with contextlib.suppress(LedgerError):
                await self.renew()

    async def _record(self, until: datetime) -> None:
        await self._ledger.awrite(
            entries.record_run,
            owner=self.owner,
            run_id=self._run_id,
            place=place(),
            pid=os.getpid(),
            now=self._clock.now(),
            lease_until=until,
        )
        if self._clock.now() >= self._until:
            self.term += 1
        self._until = until
