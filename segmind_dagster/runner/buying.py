"""Takes one generation from the decision to an accepted submission, or to the reason why there is none.

Each step is durable before the next begins: the intent before the POST, the request id before the first poll.
An interruption leaves a state that the next run can continue from. What follows an accepted submission is in
`delivery`; `lookup` finds out what became of one whose answer was lost.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Literal

from segmind_dagster.errors import BudgetError, LostOwnershipError, RequestOwnedError
from segmind_dagster.gateway.errors import GatewayError, NotSentError, UnnamedAnswerError
from segmind_dagster.ledger import moves, reads, writes
from segmind_dagster.lifecycle.failures import LOOKED_UP, POLICIES, retry_delay_s
from segmind_dagster.lifecycle.generation import Attempt
from segmind_dagster.runner.attempts import Tries
from segmind_dagster.runner.delivery import Delivery, fail
from segmind_dagster.runner.lookup import Fate, Found, Lookup
from segmind_dagster.runner.report import Ended

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Iterator, Mapping
    from datetime import datetime
    from typing import Any

    from segmind_dagster.gateway.wire import Answer
    from segmind_dagster.ledger import Claim, Ledger
    from segmind_dagster.lifecycle.failures import FailureKind
    from segmind_dagster.lifecycle.generation import Generation
    from segmind_dagster.runner.admission import Admission
    from segmind_dagster.runner.concurrency import ConcurrencyLimit
    from segmind_dagster.runner.costs import CostReader
    from segmind_dagster.runner.file_budgets import FileBudgets
    from segmind_dagster.runner.headroom import Headroom
    from segmind_dagster.runner.inputs import InputUploader
    from segmind_dagster.runner.lease import Lease
    from segmind_dagster.runner.ports import ClockPort, GatewayPort, OutputsPort
    from segmind_dagster.runner.rate_limiter import RateLimiter
    from segmind_dagster.runner.report import Progress


_V1_AT_ONCE = 200
_NOT_CLEAR = (
    "Segmind's history cannot tell yet whether the job was made in spite of the error; it is looked up again before "
    "it is sent again."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Buyer:
    """Submits generations.

    Args:
        gateway: the provider.
        ledger: where every step is recorded.
        outputs: where the bytes go that come along with an answer.
        clock: the time.
        lease: this run's right to act.
        rate_limiter: this run's share of the request rate.
        inputs: uploads local images.
        lookup: finds lost submissions.
        delivery: polls and stores accepted ones.
        concurrency: counts what is being submitted.
        admission: whether anything may still be submitted.
        headroom: the queue of generations that a cap refuses for now.
        costs: reads costs that no answer reported.
        budgets: what the prompt files allow by now.
        progress: where the run is.
        chance: source of jitter.
        run_id: Dagster's id of the run, if there is one.
        v1_limit: bounds the v1 calls under way.
        unsent: what is still to be submitted, by generation id.
    """

    gateway: GatewayPort
    ledger: Ledger
    outputs: OutputsPort
    clock: ClockPort
    lease: Lease
    rate_limiter: RateLimiter
    inputs: InputUploader
    lookup: Lookup
    delivery: Delivery
    concurrency: ConcurrencyLimit
    admission: Admission
    headroom: Headroom
    costs: CostReader
    budgets: FileBudgets
    progress: Progress
    chance: random.Random
    run_id: str | None
    v1_limit: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_V1_AT_ONCE))
    unsent: dict[str, Generation] = field(default_factory=dict)

    async def buy(self, generation: Generation) -> Ended:
        """Submit a planned generation and store its output.

        Raises:
            LostOwnershipError: another run has it.
        """
        if generation.reserve_usd is None:
            return Ended("held_back", error="It is not generated; materialize its prompt set to generate it.")
        if not await self.admission.admits(generation):
            return self.admission.held_back(generation)
        try:
            return await self._buy(generation, generation.reserve_usd)
        finally:
            self.admission.landed(generation)

    async def _buy(self, generation: Generation, reserve_usd: Decimal) -> Ended:
        tries = Tries()
        while await self.admission.admits(generation):
            try:
                body = await self.inputs.complete(generation.body, generation.images)
            except GatewayError as error:
                if (ended := await self._not_uploaded(generation, error, tries)) is not None:
                    return ended
                continue
            async with AsyncExitStack() as calling:
                if generation.model.api_version == "v1":
                    # a v1 call holds its connection until the job is done, and polls need connections too
                    await calling.enter_async_context(self.v1_limit)
                waited_ms = await self.rate_limiter.wait(may_go=lambda: self.admission.allows(generation))
                if not self.admission.allows(generation):
                    break
                ended = await self._send_within_caps(generation, body, tries, reserve_usd, waited_ms, calling)
            if ended is not None:
                return ended
        # tasks that wait for headroom learn the same
        self.headroom.changed()
        return self.admission.held_back(generation)

    async def _send_within_caps(
        self,
        generation: Generation,
        body: Mapping[str, Any],
        tries: Tries,
        planned_usd: Decimal,
        waited_ms: int,
        calling: AsyncExitStack,
    ) -> Ended | None:
        """One attempt, if the caps leave headroom for it; None when another attempt follows."""
        term = self.lease.term
        try:
            with self.concurrency.submitting(), self.headroom.asking() as changes:
                claim = await self._claim(generation, planned_usd, waited_ms)
        except BudgetError as error:
            await calling.aclose()
            if error.awaits_report:
                self.costs.wanted()
            if not await self.headroom.wait(generation, error, changes):
                self._stop_for(generation, error)
            return None
        self.unsent.pop(generation.generation_id, None)
        self.headroom.granted()
        with self.in_flight():
            return await self._send(generation, claim, body, tries, term, calling)

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """Count a generation as in flight."""
        self.progress.in_flight += 1
        try:
            with self.headroom.in_flight():
                yield
        finally:
            self.progress.in_flight -= 1

    async def _claim(self, generation: Generation, reserve_usd: Decimal, waited_ms: int) -> Claim:
        """Claim the right to send one POST.

        Raises:
            LostOwnershipError: another run has it.
            BudgetError: a cap refuses it.
        """
        try:
            return await self.ledger.awrite(
                moves.claim,
                generation_id=generation.generation_id,
                owner=self.lease.owner,
                run_id=self.run_id,
                prompt_set=generation.prompt_set,
                reserved_usd=reserve_usd,
                caps=await self.budgets.caps(generation),
                rate_wait_ms=waited_ms,
                now=self.clock.now(),
            )
        except (LostOwnershipError, BudgetError):
            self.rate_limiter.give_back()
            raise

    def _stop_for(self, generation: Generation, error: BudgetError) -> None:
        """A cap is reached and nothing in flight will free headroom: that set, or the run, submits nothing more."""
        held = [
            each
            for each in {generation.generation_id: generation, **self.unsent}.values()
            if error.scope != "set" or each.prompt_set == generation.prompt_set
        ]
        needed_usd = sum((each.reserve_usd or Decimal(0) for each in held), Decimal(0))
        message = f"{error} Held back: {len(held)} generation{'s' * (len(held) != 1)}, up to ${needed_usd:.4f}."
        if error.scope == "set":
            self.admission.hold_set(generation.prompt_set, message)
        else:
            self.admission.stop("over_budget", message)

    async def _not_uploaded(self, generation: Generation, error: GatewayError, tries: Tries) -> Ended | None:
        """An input file could not be uploaded; None when another attempt follows. Nothing was submitted."""
        policy = POLICIES[error.kind]
        if tries.may_again(error.kind):
            await self.clock.sleep(retry_delay_s(error.kind, tries.by_kind[error.kind], self.chance))
            return None
        if policy.is_permanent or error.kind == "server_error":
            return await self._refuse(generation, error.kind, str(error))
        self.admission.stop(error.kind, f"{error} {policy.advice}")
        return Ended("held_back", error.kind, str(error))

    async def _refuse(self, generation: Generation, kind: FailureKind, message: str) -> Ended:
        """Fail a planned generation for this run, without a further attempt."""
        await self.ledger.awrite(
            writes.refuse_unsent, generation.generation_id, failure_kind=kind, error=message, now=self.clock.now()
        )
        return Ended("failed", kind, message)

    async def _send(
        self,
        generation: Generation,
        claim: Claim,
        body: Mapping[str, Any],
        tries: Tries,
        term: int,
        calling: AsyncExitStack,
    ) -> Ended | None:
        """One attempt; None when another one follows."""
        intent_at = self.clock.now()
        began = self.clock.monotonic()
        sink = self.outputs.scratch_file(generation.generation_id)
        self.progress.steps += 1
        try:
            # a v1 call lasts as long as its job: do not wait for it
            with nullcontext() if generation.model.api_version == "v1" else self.concurrency.submitting():
                accepted = await self.gateway.submit(
                    generation.model, body, sink, may_send=lambda: self._may_send(term)
                )
        except NotSentError as error:
            self.outputs.discard(sink)
            await self._withdraw(claim, error)
            return None
        except GatewayError as error:
            # whatever is waited for from here on, the call is over
            await calling.aclose()
            if isinstance(error, UnnamedAnswerError):
                await self.delivery.put_unnamed_aside(generation, claim, sink, error)
            self.outputs.discard(sink)
            if error.kind == "unknown_outcome":
                self.admission.unanswered(generation, str(error))
            elif error.http_status is not None:
                self.admission.answered(generation)
            return await self._refused(generation, claim, body, tries, error, intent_at=intent_at)
        await calling.aclose()
        accepted_at = self.clock.monotonic()
        self.admission.answered(generation)
        if accepted.received is None:
            self.outputs.discard(sink)
        try:
            await self.ledger.awrite(
                moves.mark_submitted,
                claim,
                request_id=accepted.request_id,
                http_status=accepted.http_status,
                now=self.clock.now(),
            )
            self.progress.steps += 1
        except LostOwnershipError:
            self.outputs.discard(sink)
            raise
        except RequestOwnedError:
            # a lost submission with an equal body was found in the history under this very id
            self.outputs.discard(sink)
            return await self._answered_twice(generation, claim, body, tries, accepted, intent_at=intent_at)
        attempt = Attempt(
            claim=claim,
            request_id=accepted.request_id,
            began_s=began,
            accepted_s=accepted_at,
            accepted_at=self.clock.now(),
            accounting=accepted.accounting,
        )
        if generation.model.api_version == "v1":
            return await self.delivery.store(generation, attempt, accepted)
        return await self.delivery.follow(generation, attempt, tries)

    async def _answered_twice(
        self,
        generation: Generation,
        claim: Claim,
        body: Mapping[str, Any],
        tries: Tries,
        accepted: Answer,
        *,
        intent_at: datetime,
    ) -> Ended | None:
        """The request id of the answer already belongs to another submission."""
        error = f"Request {accepted.request_id}, which the answer names, belongs to another generation."
        await self._mark_unknown(claim, "unknown_outcome", error, accepted.http_status)
        if await asyncio.to_thread(self.ledger.read, reads.was_adopted, accepted.request_id):
            # an equal lost submission has it: it does not matter which of the two arrived, only that one may not have
            return await self.find(generation, claim, body, intent_at, tries)
        # it was accepted, so that nothing may prove it absent
        fate = await self.lookup.find_refused(generation.generation_id, generation.model, body, intent_at)
        if isinstance(fate, Found) and (attempt := await self._adopt(claim, fate)) is not None:
            return await self.delivery.follow(generation, attempt, tries)
        return Ended("unknown", "unknown_outcome", f"{error} {POLICIES['unknown_outcome'].advice}")

    def _may_send(self, term: int) -> bool:
        # after a pause longer than the lease another run may own it; a stop may come while waiting for a connection
        return self.lease.holds(term) and not self.admission.is_interrupted

    async def _withdraw(self, claim: Claim, error: NotSentError) -> None:
        """Withdraw a claim whose POST was not sent; raises when another run owns it by now."""
        if not self.lease.holds():
            await self.lease.renew()
        await self._fail(claim, error, is_final=False)

    async def _refused(
        self,
        generation: Generation,
        claim: Claim,
        body: Mapping[str, Any],
        tries: Tries,
        error: GatewayError,
        *,
        intent_at: datetime,
    ) -> Ended | None:
        if error.kind == "unknown_outcome":
            await self._mark_unknown(claim, error.kind, str(error), error.http_status)
            return await self.find(generation, claim, body, intent_at, tries, error=error)
        policy = POLICIES[error.kind]
        if error.reset_s is not None:
            await self.rate_limiter.cut(error.reset_s)
        if policy.stops_run:
            await self._fail(claim, error, is_final=False)
            self.admission.stop(error.kind, f"{error} {policy.advice}")
            return Ended("held_back", error.kind, str(error))
        if error.http_status is not None:
            # the job may exist although the answer is an error
            fate = await self._adopted(claim, lambda: self._fate_in_spite_of(error.kind, generation, body, intent_at))
            if isinstance(fate, Attempt):
                return await self.delivery.follow(generation, fate, tries)
            if fate == "unresolved" and not policy.is_permanent:
                message = f"{str(error).rstrip('.')}. {_NOT_CLEAR}"
                await self._mark_unknown(claim, error.kind, message, error.http_status)
                return Ended("unknown", error.kind, message, attempts=claim.attempt)
        is_final = not tries.may_again(error.kind)
        await self._fail(claim, error, is_final=is_final)
        if is_final:
            return Ended("failed", error.kind, str(error), attempts=claim.attempt)
        await self.clock.sleep(retry_delay_s(error.kind, tries.by_kind[error.kind], self.chance))
        return None

    async def _fate_in_spite_of(
        self, kind: FailureKind, generation: Generation, body: Mapping[str, Any], intent_at: datetime
    ) -> Fate:
        """Whether a job exists in spite of an error; what others submit meanwhile serves as a control."""
        if POLICIES[kind].is_permanent:
            return await self.lookup.find_refused(generation.generation_id, generation.model, body, intent_at)
        self.concurrency.left_provider(generation.generation_id)
        with self.admission.aside(generation):
            return await self.lookup.find_before_retry(
                generation.generation_id, generation.model, body, intent_at,
                goes_on=lambda: self.admission.allows(generation),
            )  # fmt: skip

    async def find(
        self,
        generation: Generation,
        claim: Claim,
        body: Mapping[str, Any],
        intent_at: datetime,
        tries: Tries,
        *,
        error: GatewayError | None = None,
        kind: FailureKind | None = None,
    ) -> Ended | None:
        """Look up a submission; None when it provably never arrived and may be sent again.

        Args:
            generation: what it is for.
            claim: the right to act for it.
            body: what was sent.
            intent_at: when its intent was recorded.
            tries: what has failed so far.
            error: why its outcome is not known, where this run has sent it.
            kind: the same where an earlier run has.
        """
        # others are submitted meanwhile: accepted ones are controls for the history
        self.concurrency.left_provider(generation.generation_id)
        find = self.lookup.find
        if kind in LOOKED_UP:
            find = partial(self.lookup.find_before_retry, goes_on=lambda: not self.admission.is_interrupted)
        fate = await self._adopted(claim, lambda: find(generation.generation_id, generation.model, body, intent_at))
        if isinstance(fate, Attempt):
            return await self.delivery.follow(generation, fate, tries)
        if fate == "absent":
            reason = "Segmind's history does not list this submission by the time it must."
            await self.ledger.awrite(writes.mark_absent, claim, reason=reason, now=self.clock.now())
            if error is None or tries.may_again(error.kind):
                return None
            # it never arrives, and no answer says why: others need not wait for it
            return await self._refuse(generation, "server_error", f"{error} It never reached Segmind's history.")
        return Ended("unknown", "unknown_outcome", POLICIES["unknown_outcome"].advice)

    async def _adopted(
        self, claim: Claim, look: Callable[[], Awaitable[Fate]]
    ) -> Attempt | Literal["absent", "unresolved"]:
        """The attempt with the request that a lookup finds; looks again while equal submissions get what it finds."""
        while isinstance(fate := await look(), Found):
            if (attempt := await self._adopt(claim, fate)) is not None:
                return attempt
        return fate

    async def _adopt(self, claim: Claim, found: Found) -> Attempt | None:
        """Record the request found in the history; None when an equal submission has it already."""
        try:
            await self.ledger.awrite(
                moves.mark_submitted, claim, request_id=found.request_id, http_status=None, now=self.clock.now()
            )
        except RequestOwnedError:
            return None
        now = self.clock.monotonic()
        return Attempt(claim=claim, request_id=found.request_id, began_s=now, accepted_s=now, is_watched=False)

    async def _mark_unknown(self, claim: Claim, kind: FailureKind, error: str, http_status: int | None) -> None:
        await self.ledger.awrite(
            writes.mark_unknown, claim, failure_kind=kind, error=error, http_status=http_status, now=self.clock.now()
        )

    async def _fail(self, claim: Claim, error: GatewayError, *, is_final: bool) -> None:
        await fail(self.ledger, self.clock, claim, error.kind, str(error), is_final=is_final, status=error.http_status)
