"""A run's lease: an entry in the ledger that it renews while it runs.

A run that stops renewing (killed, frozen, disconnected) loses its lease after `LEASE_S`, and others take over its
work. It checks `holds` right before every POST, so that a run resumed after its lease sends nothing. The clock by
which others judge a lease is in `ledger.leases`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from typing import TYPE_CHECKING

from segmind_dagster.errors import LedgerError
from segmind_dagster.ledger import leases, reads
from segmind_dagster.ledger.leases import Process

if TYPE_CHECKING:
    from segmind_dagster.ledger import Ledger
    from segmind_dagster.runner.ports import ClockPort

LOGGER = logging.getLogger(__name__)
LEASE_S = leases.LEASE_S


class Lease:
    """One run's lease."""

    def __init__(self, ledger: Ledger, clock: ClockPort, run_id: str | None) -> None:
        self._ledger = ledger
        self._clock = clock
        self._run_id = run_id
        self.owner = secrets.token_hex(8)
        self._until_s = clock.monotonic()
        self.term = 0

    def holds(self, term: int | None = None) -> bool:
        """Whether the lease is good for the moment of sending.

        Args:
            term: `term` as it was at the claim: what was claimed before the lease ran out may be another run's by
                now, even though the lease was renewed since.
        """
        is_same = term is None or term == self.term
        return is_same and self._clock.monotonic() < self._until_s - LEASE_S / 6

    async def renew(self) -> None:
        """Extend the lease; valid only once that is durable."""
        # counted from before the write: others must not see it end earlier than we do
        at_s = self._clock.monotonic()
        await self._ledger.awrite(
            leases.record_lease,
            owner=self.owner,
            run_id=self._run_id,
            process=Process.this(),
            at_s=at_s,
            now=self._clock.now(),
            lease_s=LEASE_S,
        )
        if self._clock.monotonic() >= self._until_s:
            self.term += 1
        self._until_s = at_s + LEASE_S

    async def give_up(self) -> None:
        """End the lease, so that others need not wait for it to expire; if that fails, it expires."""
        self._until_s = self._clock.monotonic()
        with contextlib.suppress(LedgerError):
            await self._ledger.awrite(leases.end_lease, owner=self.owner, now=self._clock.now())

    async def keep_alive(self) -> None:
        """Renew until this task is cancelled."""
        while True:
            await self._clock.sleep(LEASE_S / 4)
            # a failed renewal is tried again; until one succeeds `holds` says no and nothing is sent
            with contextlib.suppress(LedgerError):
                await self.renew()


def watch_leases(ledger: Ledger, clock: ClockPort) -> None:
    """Watch leases that no shared clock can judge for as long as a lease lasts; then it is known which runs are gone.

    For commands that look once and end: a run watches anyway.
    """
    if any(ledger.standing(owner, clock.monotonic()) == "not known" for owner in ledger.read(reads.owners)):
        LOGGER.warning("Waiting for %.0f s: a run on another machine may still own generations.", leases.LEASE_S)
        asyncio.run(clock.sleep(leases.LEASE_S + 1))
