"""Runs many generations at once, each from its recorded state to an ending.

Ownership is decided here: a free generation is bought, one of another run is waited for, one that a dead run left
behind is taken over. Buying itself is in `buying`, fetching paid work in `delivery`.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from segmind_dagster.errors import LostOwnershipError, SegmindDagsterError
from segmind_dagster.ledger import reads, writes
from segmind_dagster.lifecycle.failures import known_kind
from segmind_dagster.lifecycle.generation import Attempt
from segmind_dagster.runner.attempts import Tries
from segmind_dagster.runner.buying import Buyer
from segmind_dagster.runner.concurrency import ConcurrencyLimit
from segmind_dagster.runner.costs import CostReader
from segmind_dagster.runner.delivery import Delivery
from segmind_dagster.runner.file_budgets import FileBudgets
from segmind_dagster.runner.headroom import Headroom
from segmind_dagster.runner.inputs import InputUploader
from segmind_dagster.runner.lookup import Lookup
from segmind_dagster.runner.odd_prices import OddPrices
from segmind_dagster.runner.poll_schedule import PollSchedule, counted_s
from segmind_dagster.runner.report import Ended, Progress, reused
from segmind_dagster.runner.watching import Watch

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime
    from decimal import Decimal

    from segmind_dagster.gateway.redaction import Redactor
    from segmind_dagster.ledger import Ledger
    from segmind_dagster.lifecycle.generation import Generation
    from segmind_dagster.registry import Model
    from segmind_dagster.runner.admission import Admission
    from segmind_dagster.runner.lease import Lease
    from segmind_dagster.runner.ports import ClockPort, GatewayPort, OutputsPort
    from segmind_dagster.runner.rate_limiter import RateLimiter


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one run.

    Args:
        max_in_flight: generations at the provider at once.
        unknown_settle_seconds: see `lookup`.
        v1_timeout_seconds: how long a v1 call may take.
        stays_open: settling times that a lost submission is waited for.
    """

    max_in_flight: int
    unknown_settle_seconds: float
    v1_timeout_seconds: float
    stays_open: float


class Engine:
    """Processes generations until each has an ending; `warnings` holds what a person should know of the run.

    Args:
        gateway: the provider.
        ledger: where every step is recorded.
        outputs: where bytes are kept.
        clock: the time.
        lease: this run's right to act.
        limits: what it keeps to.
        rate_limiter: its share of the request rate.
        poll_schedules: what is known of how long jobs of each model slug take.
        slugs: models that Segmind sells, as far as we know.
        redactor: takes the key out of what is written.
        api_origin: where the generations come from.
        admission: what stops submitting.
        highest_usd: the most that a generation of each model slug has cost so far.
        run_id: Dagster's id of the run, if there is one.
        budgets: what the prompt files allow by now.
    """

    def __init__(
        self,
        *,
        gateway: GatewayPort,
        ledger: Ledger,
        outputs: OutputsPort,
        clock: ClockPort,
        lease: Lease,
        limits: Limits,
        rate_limiter: RateLimiter,
        poll_schedules: Mapping[str, PollSchedule],
        slugs: Collection[str],
        redactor: Redactor,
        api_origin: str,
        admission: Admission,
        highest_usd: Mapping[str, Decimal],
        run_id: str | None = None,
        budgets: FileBudgets | None = None,
    ) -> None:
        self._ledger = ledger
        self._poll_schedules = dict(poll_schedules)
        self._redactor = redactor
        self._v1_timeout_s = limits.v1_timeout_seconds
        self._clock = clock
        self._lease = lease
        self.progress = Progress()
        self.warnings: list[str] = []
        self.lookup = Lookup(
            gateway,
            ledger,
            clock,
            settling_time_s=limits.unknown_settle_seconds,
            over_s=self._over_s,
            likely_over_s=lambda model: self._schedule(model).likely_over_s(),
            stays_open=limits.stays_open,
            slugs=slugs,
        )
        self._inputs = InputUploader(gateway, ledger, clock)
        chance = random.Random()  # noqa: S311  jitter, not secrets
        self._concurrency = ConcurrencyLimit(limits.max_in_flight, clock)
        self._delivery = Delivery(
            gateway=gateway,
            ledger=ledger,
            outputs=outputs,
            clock=clock,
            schedules=self._poll_schedules,
            chance=chance,
            redactor=redactor,
            api_origin=api_origin,
            progress=self.progress,
            concurrency=self._concurrency,
            odd_prices=(odd_prices := OddPrices(admission, highest_usd)),
        )
        self.admission = admission
        self._headroom = Headroom(clock, may_come=lambda: self._may_free_budget)
        self._costs = CostReader(gateway, ledger, clock, odd_prices=odd_prices, on_reported=self._headroom.changed)
        self._watch = Watch(ledger, clock, owner=lease.owner, may_wait=lambda: not self.admission.is_interrupted)
        self._buyer = Buyer(
            gateway=gateway,
            ledger=ledger,
            outputs=outputs,
            clock=clock,
            lease=lease,
            rate_limiter=rate_limiter,
            inputs=self._inputs,
            lookup=self.lookup,
            delivery=self._delivery,
            concurrency=self._concurrency,
            admission=self.admission,
            headroom=self._headroom,
            costs=self._costs,
            budgets=budgets or FileBudgets(clock),
            progress=self.progress,
            chance=chance,
            run_id=run_id,
        )

    async def run(self, generations: Sequence[Generation]) -> dict[str, Ended]:
        """Bring every generation to an ending; what was submitted earlier comes first."""
        self.progress.total += len(generations)
        self._buyer.unsent.update(
            {generation.generation_id: generation for generation in generations if generation.is_to_buy}
        )
        order = {"collect": 0, "look_up": 1, "wait": 3}
        endings: dict[str, Ended] = {}
        crashes: list[Exception] = []

        async def bring(generation: Generation) -> None:
            try:
                endings[generation.generation_id] = ended = await self._work(generation)
                if ended.ending in {"running", "unknown"}:
                    # two runs that wait for what the other one has given up would deadlock
                    await self._let_go(generation)
                self._count(generation, ended)
            except Exception as error:  # noqa: BLE001  raised below, once what is in flight has landed
                crashes.append(error)
                self.admission.stop(
                    None, f"Submitting stopped after an unexpected error: {self._redactor.text(str(error))}"
                )
                # as above: another run may be waiting for it, and this one for what that one has
                with suppress(SegmindDagsterError):
                    await self._let_go(generation)
            finally:
                self._buyer.unsent.pop(generation.generation_id, None)
                self._concurrency.release(generation.generation_id)

        try:
            async with asyncio.TaskGroup() as group:
                for generation in sorted(generations, key=lambda generation: order.get(generation.step, 2)):
                    await self._concurrency.acquire(generation.generation_id)
                    group.create_task(bring(generation))
        finally:
            await self.lookup.close()
            await self._watch.close()
            await self._headroom.close()
            await self._costs.close(may_read=not (crashes or self.admission.is_interrupted))
        if crashes:
            raise crashes[0]
        return {generation_id: self._as_reported(generation_id, ended) for generation_id, ended in endings.items()}

    @property
    def _may_free_budget(self) -> bool:
        """Whether budget may become free besides what this run has in flight."""
        return bool(self.progress.waiting) or self.lookup.is_busy or self._costs.is_at_work

    def _as_reported(self, generation_id: str, ended: Ended) -> Ended:
        """An ending, corrected with a cost that the history reported later."""
        difference_usd = self._costs.reported_usd.get(generation_id)
        if difference_usd is None or not ended.is_estimated:
            return ended
        self.progress.cost_usd += difference_usd
        return replace(ended, cost_usd=ended.cost_usd + difference_usd, is_estimated=False)

    async def _let_go(self, generation: Generation) -> None:
        await self._ledger.awrite(
            writes.let_go, generation.generation_id, owner=self._lease.owner, now=self._clock.now()
        )

    def _count(self, generation: Generation, ended: Ended) -> None:
        self.progress.steps += 1
        self.progress.endings[ended.ending] += 1
        self.progress.cost_usd += ended.cost_usd
        self.admission.learn(generation, ended)
        if ended.is_estimated:
            self._costs.charged()

    async def _work(self, generation: Generation) -> Ended:
        while True:
            try:
                return await self._act(generation)
            except LostOwnershipError:
                # another run was first, or took over when our lease ended: its outcome counts
                generation = generation._replace(step="wait")

    async def _act(self, generation: Generation) -> Ended:
        match generation.step:
            case "submit":
                return await self._buyer.buy(generation)
            case "reuse":
                return reused(generation)
            case "leave":
                return Ended("left")
            case "wait":
                return await self._wait(generation)
            case "collect" | "look_up":
                return await self._take_over(generation)

    async def _wait(self, generation: Generation) -> Ended:
        """Wait for another run: use its outcome, or continue if it releases the generation."""
        self.progress.waiting += 1
        try:
            record = await self._watch.until_free(generation.generation_id)
        finally:
            self.progress.waiting -= 1
        match record.state:
            case "succeeded":
                return reused(record)
            case "failed":
                return Ended("failed", known_kind(record.failure_kind), record.error, attempts=record.attempts)
            case "planned":
                return await self._buyer.buy(generation)
            case _ if self.admission.is_interrupted:
                return Ended("running", error="Another run has it.")
            case _:
                return await self._take_over(generation)

    async def _take_over(self, generation: Generation) -> Ended:
        """Continue the work of a dead run: fetch what it bought, look up what it lost."""
        now = self._clock.now()
        is_alive = await asyncio.to_thread(self._ledger.liveness, self._clock.monotonic())
        record = await self._reread(generation.generation_id)
        if record.state == "succeeded":
            return reused(record)
        # after the first answer: many do this at once, and none may hold a connection while waiting for another
        if record.owner not in {None, self._lease.owner} and await asyncio.to_thread(is_alive, record.owner or ""):
            return await self._wait(generation)
        if record.state == "failed":
            seen = {generation.generation_id: (record.failure_kind, record.attempts)}
            await self._ledger.awrite(writes.reopen, seen, target="submitted", now=now)
            record = await self._reread(generation.generation_id)
        claim = await self._ledger.awrite(
            writes.take_over,
            generation_id=generation.generation_id,
            old_owner=record.owner,
            owner=self._lease.owner,
            now=now,
        )
        tries = Tries()
        if record.state == "submitted" and record.request_id:
            began = self._began(record.submitted_at)
            attempt = Attempt(
                claim=claim,
                request_id=record.request_id,
                began_s=began,
                accepted_s=began,
                accepted_at=record.submitted_at,
                is_watched=False,
            )
            with self._buyer.in_flight():
                ended = await self._delivery.follow(generation, attempt, tries)
        else:
            body = await self._inputs.recall(generation.body, generation.images)
            kind = known_kind(record.failure_kind) if record.state == "unknown" else None
            ended = await self._buyer.find(generation, claim, body, record.intent_at or now, tries, kind=kind)
        return ended if ended is not None else await self._buyer.buy(generation)

    def _schedule(self, model: Model) -> PollSchedule:
        return self._poll_schedules.setdefault(model.slug, PollSchedule(None))

    def _over_s(self, model: Model) -> float:
        """When a job of a model must be over, in seconds; a v1 call is one for as long as its job takes."""
        return self._v1_timeout_s if model.api_version == "v1" else self._schedule(model).over_s()

    async def _reread(self, generation_id: str) -> Generation:
        records = await asyncio.to_thread(self._ledger.read, reads.snapshot, [generation_id], is_alive=lambda *_: False)
        return records[generation_id]

    def _began(self, submitted_at: datetime | None) -> float:
        """Our monotonic time from which an earlier submission counts as polled."""
        if submitted_at is None:
            return self._clock.monotonic()
        return self._clock.monotonic() - counted_s((self._clock.now() - submitted_at).total_seconds())
