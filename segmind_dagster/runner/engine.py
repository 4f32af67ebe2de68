"""The life of one generation, from decision to an ending, and many of them at once.

Each step is durable before the next begins: the intent before the POST, the request id before the first poll,
the bytes before success. Whatever interrupts a step leaves a state that the next run understands.
What follows an accepted submission is in `delivery`.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy.exc import IntegrityError

from segmind_dagster.errors import BudgetError, LostOwnershipError
from segmind_dagster.gateway.failures import POLICIES, GatewayError, retry_delay_s
from segmind_dagster.ledger import Claim, reads, writes
from segmind_dagster.runner.delivery import Delivery, Job, Tries, fail
from segmind_dagster.runner.inputs import Inputs
from segmind_dagster.runner.pacing import Slots
from segmind_dagster.runner.settling import Found, Settler
from segmind_dagster.runner.watching import Watch
from segmind_dagster.runner.work import Ended, Progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime
    from decimal import Decimal
    from typing import Any

    from segmind_dagster.gateway.failures import FailureKind
    from segmind_dagster.ledger import GenerationRecord, Ledger
    from segmind_dagster.runner.lease import Lease
    from segmind_dagster.runner.pacing import Patience
    from segmind_dagster.runner.work import ClockPort, GatewayPort, Limits, OutputsPort, Work


class Engine:
    """Works through generations until each has an ending.

    Args:
        gateway: the provider.
        ledger: where every step is recorded.
        outputs: where bytes are kept.
        clock: the time.
        lease: this run's right to act.
        limits: what it keeps to.
        patience: what is known of how long jobs of each model slug take.
        run_id: Dagster's id of the run, if there is one.
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
        patience: Mapping[str, Patience],
        run_id: str | None = None,
    ) -> None:
        self._gateway = gateway
        self._ledger = ledger
        self._outputs = outputs
        self._clock = clock
        self._lease = lease
        self._limits = limits
        self._run_id = run_id
        self._slots = Slots(ledger, clock, limits.requests_per_minute)
        self._settler = Settler(gateway, ledger, clock, limits.unknown_settle_seconds)
        self._watch = Watch(ledger, clock)
        self._inputs = Inputs(gateway, ledger, clock)
        self._chance = random.Random()  # noqa: S311  jitter, not secrets
        self._delivery = Delivery(
            gateway=gateway,
            ledger=ledger,
            outputs=outputs,
            clock=clock,
            patience=patience,
            chance=self._chance,
        )
        self.progress = Progress()
        self.stopped_by: FailureKind | None = None
        self.stop_message: str | None = None
        self._is_stopping = False

    async def run(self, works: Sequence[Work]) -> dict[str, Ended]:
        """Bring every generation to an ending; what was submitted earlier comes first."""
        self.progress.total += len(works)
        order = {"collect": 0, "settle": 1, "wait": 3}
        endings: dict[str, Ended] = {}
        crashes: list[Exception] = []
        room = asyncio.Semaphore(self._limits.max_in_flight)

        async def bring(work: Work) -> None:
            try:
                endings[work.generation_id] = await self._work_or_wait(work)
                self._count(endings[work.generation_id])
            except Exception as error:  # noqa: BLE001  raised below, once what is in flight has landed
                crashes.append(error)
                self.stop(None, f"Submitting stopped after an unexpected error: {error}")
            finally:
                room.release()

        try:
            async with asyncio.TaskGroup() as group:
                for work in sorted(works, key=lambda work: order.get(work.action, 2)):
                    await room.acquire()
                    group.create_task(bring(work))
        finally:
            await self._settler.close()
            await self._watch.close()
        if crashes:
            raise crashes[0]
        return endings

    def stop(self, kind: FailureKind | None, message: str) -> None:
        """Submit nothing more; what is in flight goes on."""
        if not self._is_stopping:
            self._is_stopping = True
            self.stopped_by = kind
            self.stop_message = message

    @contextmanager
    def _in_flight(self) -> Iterator[None]:
        self.progress.in_flight += 1
        try:
            yield
        finally:
            self.progress.in_flight -= 1

    def _may_submit(self) -> bool:
        return not self._is_stopping

    def _count(self, ended: Ended) -> None:
        self.progress.endings[ended.ending] += 1
        self.progress.cost_usd += ended.cost_usd

    async def _work_or_wait(self, work: Work) -> Ended:
        try:
            return await self._work(work)
        except LostOwnershipError:
            # our lease ran out and another run took over: what it makes of it counts
            return await self._wait(work)

    async def _work(self, work: Work) -> Ended:
        match work.action:
            case "submit":
                return await self._buy(work)
            case "reuse":
                return Ended("reused")
            case "leave":
                return Ended("left")
            case "wait":
                return await self._wait(work)
            case "collect" | "settle":
                return await self._take_over(work)

    async def _buy(self, work: Work) -> Ended:
        if work.reserve_usd is None:
            return Ended("held_back", error="It is not generated; materialize its prompt set to generate it.")
        tries = Tries()
        while self._may_submit():
            try:
                body = await self._inputs.complete(work.body, work.images)
            except GatewayError as error:
                if (ended := await self._not_uploaded(work, error, tries)) is not None:
                    return ended
                continue
            waited_ms = await self._slots.wait(may_go=self._may_submit)
            if not self._may_submit():
                break
            try:
                claim = await self._claim(work, work.reserve_usd, waited_ms)
            except LostOwnershipError:
                return await self._wait(work)
            except BudgetError as error:
                self.stop("over_budget", str(error))
                break
            with self._in_flight():
                ended = await self._send(work, claim, body, tries)
            if ended is not None:
                return ended
        return Ended("held_back", self.stopped_by, self.stop_message)

    async def _not_uploaded(self, work: Work, error: GatewayError, tries: Tries) -> Ended | None:
        """An input file did not reach the provider; None when another try is due. Nothing was submitted."""
        policy = POLICIES[error.kind]
        if tries.may_again(error.kind):
            await self._clock.sleep(retry_delay_s(error.kind, tries.by_kind[error.kind], self._chance))
            return None
        if policy.is_permanent:
            await self._ledger.awrite(
                writes.refuse_unsent,
                work.generation_id,
                failure_kind=error.kind,
                error=str(error),
                now=self._clock.now(),
            )
            return Ended("failed", error.kind, str(error))
        self.stop(error.kind, f"{error} {policy.advice}")
        return Ended("held_back", error.kind, str(error))

    async def _claim(self, work: Work, reserve_usd: Decimal, waited_ms: int) -> Claim:
        return await self._ledger.awrite(
            writes.claim,
            generation_id=work.generation_id,
            owner=self._lease.owner,
            run_id=self._run_id,
            prompt_set=work.prompt_set,
            reserved_usd=reserve_usd,
            daily_budget_usd=self._limits.daily_budget_usd,
            rate_wait_ms=waited_ms,
            now=self._clock.now(),
        )

    async def _send(self, work: Work, claim: Claim, body: Mapping[str, Any], tries: Tries) -> Ended | None:
        """One attempt; None when another one is due."""
        if not self._lease.holds():
            # woken after a long pause: others may have taken over what this run owned, so nothing is sent
            await self._lease.renew()
            failure = GatewayError("connect_error", "The run's lease ran out before anything was sent.")
            return await self._refused(work, claim, body, tries, failure, intent_at=self._clock.now())
        intent_at = self._clock.now()
        began = self._clock.monotonic()
        sink = self._outputs.scratch_file(work.generation_id)
        try:
            accepted = await self._gateway.submit(work.model, body, sink)
        except GatewayError as error:
            self._outputs.discard(sink)
            return await self._refused(work, claim, body, tries, error, intent_at=intent_at)
        try:
            await self._ledger.awrite(
                writes.mark_submitted,
                claim,
                request_id=accepted.request_id,
                http_status=accepted.http_status,
                now=self._clock.now(),
            )
        except IntegrityError:
            # a lost submission with an equal body was found in the history under this very id
            self._outputs.discard(sink)
            taken = GatewayError("unknown_outcome", f"Request {accepted.request_id} belongs to an equal submission.")
            return await self._refused(work, claim, body, tries, taken, intent_at=intent_at)
        job = Job(
            claim=claim,
            request_id=accepted.request_id,
            began=began,
            accounting=accepted.accounting,
            fetched=accepted.fetched,
            text=accepted.text,
        )
        if work.model.api_version == "v1":
            return await self._delivery.store(work, job)
        return await self._delivery.follow(work, job, tries)

    async def _refused(
        self,
        work: Work,
        claim: Claim,
        body: Mapping[str, Any],
        tries: Tries,
        error: GatewayError,
        *,
        intent_at: datetime,
    ) -> Ended | None:
        if error.kind == "unknown_outcome":
            await self._ledger.awrite(
                writes.mark_unknown,
                claim,
                failure_kind=error.kind,
                error=str(error),
                http_status=error.http_status,
                now=self._clock.now(),
            )
            return await self._settle(work, claim, body, intent_at, tries)
        policy = POLICIES[error.kind]
        if error.reset_at is not None:
            await self._slots.cut(error.reset_at)
        if policy.stops_run:
            await self._fail(claim, error, is_final=False)
            return self._hold_back(error)
        is_final = not tries.may_again(error.kind)
        await self._fail(claim, error, is_final=is_final)
        if is_final:
            return Ended("failed", error.kind, str(error), attempts=claim.attempt)
        await self._clock.sleep(retry_delay_s(error.kind, tries.by_kind[error.kind], self._chance))
        return None

    async def _settle(
        self, work: Work, claim: Claim, body: Mapping[str, Any], intent_at: datetime, tries: Tries
    ) -> Ended | None:
        """Find out what became of a submission; None when it provably never arrived and may be sent again."""
        fate = await self._settler.settle(model_slug=work.model.slug, body=body, intent_at=intent_at)
        if isinstance(fate, Found):
            try:
                await self._ledger.awrite(
                    writes.mark_submitted,
                    claim,
                    request_id=fate.request_id,
                    http_status=None,
                    now=self._clock.now(),
                )
            except IntegrityError:  # an equal submission has that very request: ours is another one
                return await self._settle(work, claim, body, intent_at, tries)
            job = Job(claim=claim, request_id=fate.request_id, began=self._clock.monotonic(), is_watched=False)
            return await self._delivery.follow(work, job, tries)
        if fate == "absent":
            await self._ledger.awrite(writes.forget_unknown, claim, now=self._clock.now())
            return None
        return _not_known()

    async def _wait(self, work: Work) -> Ended:
        """Another run has it: use what it makes of it, or continue if it lets go."""
        record = await self._watch.until_free(work.generation_id)
        match record.state:
            case "succeeded":
                return Ended("reused")
            case "failed":
                return Ended("failed", _kind(record.failure_kind), record.error, attempts=record.attempts)
            case "planned":
                return await self._buy(work)
            case _:
                return await self._take_over(work)

    async def _take_over(self, work: Work) -> Ended:
        """Continue what a run that is gone left behind: fetch what it bought, find what it lost sight of."""
        now = self._clock.now()
        is_alive = await asyncio.to_thread(self._ledger.liveness, now)
        records = await asyncio.to_thread(self._ledger.read, reads.snapshot, [work.generation_id], is_alive=is_alive)
        record = records[work.generation_id]
        if record.state == "succeeded":
            return Ended("reused")
        if record.is_owner_alive:
            return await self._wait(work)
        try:
            if record.state == "failed":
                await self._ledger.awrite(writes.reopen, [work.generation_id], target="submitted", now=now)
                record = await self._reread(work.generation_id)
            claim = await self._ledger.awrite(
                writes.take_over,
                generation_id=work.generation_id,
                old_owner=record.owner,
                owner=self._lease.owner,
                now=now,
            )
        except LostOwnershipError:
            return await self._wait(work)
        tries = Tries()
        if record.state == "submitted" and record.request_id:
            job = Job(
                claim=claim, request_id=record.request_id, began=self._began(record.submitted_at), is_watched=False
            )
            with self._in_flight():
                ended = await self._delivery.follow(work, job, tries)
        else:
            body = await self._inputs.recall(work.body, work.images)
            ended = await self._settle(work, claim, body, record.intent_at or now, tries)
        return ended if ended is not None else await self._buy(work)

    async def _reread(self, generation_id: str) -> GenerationRecord:
        records = await asyncio.to_thread(
            self._ledger.read, reads.snapshot, [generation_id], is_alive=lambda _owner: False
        )
        return records[generation_id]

    def _began(self, submitted_at: datetime | None) -> float:
        """Our monotonic clock at the moment of an earlier submission; long ones count as just begun."""
        if submitted_at is None:
            return self._clock.monotonic()
        ago_s = max((self._clock.now() - submitted_at).total_seconds(), 0.0)
        return self._clock.monotonic() - min(ago_s, 300.0)

    def _hold_back(self, error: GatewayError) -> Ended:
        self.stop(error.kind, f"{error} {POLICIES[error.kind].advice}")
        return Ended("held_back", error.kind, str(error))

    async def _fail(self, claim: Claim, error: GatewayError, *, is_final: bool) -> None:
        await fail(
            self._ledger,
            self._clock,
            claim,
            error.kind,
            str(error),
            is_final=is_final,
            status=error.http_status,
        )


def _not_known() -> Ended:
    return Ended("unknown", "unknown_outcome", POLICIES["unknown_outcome"].advice)


def _kind(value: str | None) -> FailureKind | None:
    return next((kind for kind in POLICIES if kind == value), None)
