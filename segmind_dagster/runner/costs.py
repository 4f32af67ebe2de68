"""Reads costs that no answer reported from the provider's history: at most once a minute, and once at the end.

Costs found there go into the ledger at once, and so into spending, caps and later estimates. The others stay
estimates, with the caution of `lifecycle.budget`; what an absence means is not decided here.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

from segmind_dagster.gateway.errors import GatewayError
from segmind_dagster.ledger import reads
from segmind_dagster.ledger.costs import report_costs
from segmind_dagster.lifecycle.budget import REPORTABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from decimal import Decimal

    from segmind_dagster.ledger import Ledger
    from segmind_dagster.runner.odd_prices import OddPrices
    from segmind_dagster.runner.ports import ClockPort, GatewayPort

_PAUSE_S = 60.0
# a request missing in this many readings is left to later runs
_LOOKS = 3
# after this many readings with finished requests and no costs, this history has none
_SILENT = 2
# up to this many are requested one by one: a reading has pages of a hundred, over whole days
_FEW = 10
_MOST = 1000
_CLOCKS_DIFFER = timedelta(minutes=10)


class CostReader:
    """Reads the costs that answers left out.

    `reported_usd` holds the corrections of earlier charges, by generation id.

    Args:
        gateway: where the history is.
        ledger: what was charged at an estimate, by any run.
        clock: the time.
        odd_prices: stops the run when one cost implausibly much.
        on_reported: called when a cost was corrected.
    """

    def __init__(
        self,
        gateway: GatewayPort,
        ledger: Ledger,
        clock: ClockPort,
        *,
        odd_prices: OddPrices,
        on_reported: Callable[[], None],
    ) -> None:
        self._odd_prices = odd_prices
        self._gateway = gateway
        self._ledger = ledger
        self._clock = clock
        self._on_reported = on_reported
        self._looks: Counter[str] = Counter()
        self._task: asyncio.Task[None] | None = None
        self._read_at: float | None = None
        self._silences = 0
        self.reported_usd: dict[str, Decimal] = {}

    @property
    def is_at_work(self) -> bool:
        """Whether another reading may still find a cost."""
        return self._task is not None and not self._task.done()

    def charged(self) -> None:
        """A charge of this run has no reported cost."""
        if not self.is_at_work and self._silences < _SILENT:
            self._task = asyncio.create_task(self._read_until_reported())

    def wanted(self) -> None:
        """A cap refuses because of unreported charges: read the history, unless that has begun before."""
        if self._task is None:
            self.charged()

    async def close(self, *, may_read: bool) -> None:
        """Read the history once more, if any cost was ever missing.

        Args:
            may_read: whether there is time for that.
        """
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if may_read:
            await self._read(await self._missing())

    async def _read_until_reported(self) -> None:
        while self._silences < _SILENT and (missing := await self._missing()):
            if self._read_at is not None:
                await self._clock.sleep(max(self._read_at + _PAUSE_S - self._clock.monotonic(), 0.0))
                missing = await self._missing() or missing
            await self._read(missing)
            # do not wait for a reading that cannot add anything
        self._on_reported()

    async def _missing(self) -> Mapping[str, datetime]:
        """Unreported charges worth looking up: time of the intent by request id."""
        found = await asyncio.to_thread(
            self._ledger.read, reads.unreported, since=self._clock.now() - REPORTABLE, most=_MOST
        )
        return {request_id: intent_at for request_id, intent_at in found.items() if self._looks[request_id] < _LOOKS}

    async def _read(self, missing: Mapping[str, datetime]) -> None:
        if not missing:
            return
        self._read_at = self._clock.monotonic()
        self._looks.update(missing.keys())
        try:
            if len(missing) <= _FEW:
                rows = [await self._gateway.history_row(request_id) for request_id in missing]
            else:
                since = min(missing.values()) - _CLOCKS_DIFFER
                rows = [*await self._gateway.history(since=since, now=self._clock.now(), is_whole=False)]
        except GatewayError:
            return
        reported = [row for row in rows if row is not None and row.request_id in missing]
        costs = {row.request_id: row.cost_usd for row in reported if row.cost_usd is not None}
        # a finished request without a cost will not get one by another look
        unreported = [row.request_id for row in reported if row.cost_usd is None and row.is_finished]
        self._looks.update(dict.fromkeys(unreported, _LOOKS))
        self._silences = self._silences + bool(unreported) if not costs else 0
        if not costs:
            return
        changes = await self._ledger.awrite(report_costs, costs, now=self._clock.now())
        for each in changes:
            self.reported_usd[each.generation_id] = self.reported_usd.get(each.generation_id, 0) + each.difference_usd
        self._odd_prices.look_at_reported(changes)
        self._on_reported()
