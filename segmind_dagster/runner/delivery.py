"""From an accepted submission to stored bytes: poll, fetch, verify, record.

Everything here is paid for, or will be: nothing is submitted, and nothing is given up while the provider may still
have it.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from segmind_dagster.errors import OutputError, SegmindDagsterError
from segmind_dagster.gateway import wire
from segmind_dagster.gateway.errors import GatewayError
from segmind_dagster.gateway.fetching import Received
from segmind_dagster.ledger import moves, writes
from segmind_dagster.lifecycle.failures import classify_job, retry_delay_s
from segmind_dagster.lifecycle.generation import NOT_REPORTED, Attempt
from segmind_dagster.lifecycle.parsing import FREE
from segmind_dagster.runner.attempts import (
    Tries,
    may_be_running,
    took_s,
    with_history,
    with_sidecar,
)
from segmind_dagster.runner.poll_schedule import PollSchedule
from segmind_dagster.runner.report import Ended

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Iterator, MutableMapping, Sequence
    from decimal import Decimal
    from pathlib import Path

    from segmind_dagster.gateway.errors import UnnamedAnswerError
    from segmind_dagster.gateway.redaction import Redactor
    from segmind_dagster.ledger import Ledger
    from segmind_dagster.ledger.records import Charge
    from segmind_dagster.lifecycle.failures import FailureKind
    from segmind_dagster.lifecycle.generation import Claim, Generation, Output
    from segmind_dagster.lifecycle.matching import HistoryRow
    from segmind_dagster.outputs import Quarantined
    from segmind_dagster.runner.concurrency import ConcurrencyLimit
    from segmind_dagster.runner.odd_prices import OddPrices
    from segmind_dagster.runner.ports import ClockPort, GatewayPort, OutputsPort
    from segmind_dagster.runner.report import Progress

_FETCHES = 3
_POLL_FAILURES = 10
# a record that is missing this often is looked up in the history
_MISSES = 3
_PART_S = 2.0
# stands for an answer without any output: it has to be fetched
_NOTHING = wire.Answer(status="completed")
# in the sidecar of what came with an answer that names no request
_NOT_NAMED = ""


async def fail(
    ledger: Ledger,
    clock: ClockPort,
    claim: Claim,
    kind: FailureKind,
    message: str,
    *,
    is_final: bool,
    status: int | None = None,
    cost_usd: Decimal | None = FREE,
    cost_source: str = "reported",
    estimate_usd: Decimal | None = None,
) -> Charge:
    """Record a failed attempt, final or with another one to follow; return what it cost."""
    return await ledger.awrite(
        writes.mark_failed,
        claim,
        target="failed" if is_final else "planned",
        failure_kind=kind,
        error=message,
        http_status=status,
        cost_usd=cost_usd,
        cost_source=cost_source,
        estimate_usd=estimate_usd,
        now=clock.now(),
    )


class Delivery:
    """Polls accepted jobs, and fetches and stores their outputs.

    Args:
        gateway: the provider.
        ledger: where every step is recorded.
        outputs: where bytes are kept.
        clock: the time.
        schedules: what is known of how long jobs of each model slug take.
        chance: source of jitter.
        redactor: takes the key out of what is written beside a file.
        api_origin: where the generations come from.
        progress: where the run is.
        concurrency: given up when the provider is done with a generation.
        odd_prices: stops the run when one cost implausibly much.
    """

    def __init__(
        self,
        *,
        gateway: GatewayPort,
        ledger: Ledger,
        outputs: OutputsPort,
        clock: ClockPort,
        schedules: MutableMapping[str, PollSchedule],
        chance: random.Random,
        redactor: Redactor,
        api_origin: str,
        progress: Progress,
        concurrency: ConcurrencyLimit,
        odd_prices: OddPrices,
    ) -> None:
        self._gateway = gateway
        self._ledger = ledger
        self._outputs = outputs
        self._clock = clock
        self._chance = chance
        self._redactor = redactor
        self._api_origin = api_origin
        self._schedules = schedules
        self._progress = progress
        self._concurrency = concurrency
        self._odd_prices = odd_prices

    async def follow(self, generation: Generation, attempt: Attempt, tries: Tries) -> Ended | None:
        """Poll until the job is done; None when it failed free of charge and may be sent again."""
        schedule = self._schedules.setdefault(generation.model.slug, PollSchedule(None))
        is_scout = schedule.enlist()
        failures = 0
        while True:
            elapsed_s = self._clock.monotonic() - attempt.accepted_s
            deadline_s = schedule.deadline_s()
            self._progress.expect_by(attempt.accepted_s + deadline_s)
            if elapsed_s > deadline_s:
                return Ended("running", error=f"Request {attempt.request_id} is not done after {elapsed_s:.0f} s.")
            await self._pause(schedule, elapsed_s, is_scout=is_scout)
            try:
                answer = await self._gateway.status(attempt.request_id)
                if answer.status == "completed":
                    reported = answer.accounting
                    answer = await self._gateway.result(attempt.request_id)
                    # keep what only the status reported
                    answer = replace(answer, accounting=answer.accounting.or_else(reported))
            except GatewayError as error:
                failures += 1
                if error.kind == "expired":
                    if (ended := await self._without_record(generation, attempt, failures)) is not None:
                        return ended
                elif failures >= _POLL_FAILURES:
                    return Ended("running", error.kind, str(error))
                continue
            failures = 0
            self._learn(schedule, attempt, answer)
            if answer.status == "completed":
                self._concurrency.left_provider(generation.generation_id)
                await self._concurrency.after_submission_burst()
                attempt = replace(attempt, accounting=answer.accounting)
                ended = await self.store(generation, attempt, answer)
                return replace(ended, remark=_remark(attempt, answer)) if answer.further_outputs else ended
            if answer.status == "failed":
                return await self._job_failed(attempt, answer, tries)

    async def _job_failed(self, attempt: Attempt, answer: wire.Answer, tries: Tries) -> Ended | None:
        """The job failed, free of charge; None when it may be sent again."""
        kind = classify_job(answer.error or "")
        is_final = not tries.may_again(kind)
        message = f"Request {attempt.request_id} failed at Segmind: {_short(answer.error)}"
        await fail(self._ledger, self._clock, attempt.claim, kind, message, is_final=is_final)
        self._progress.steps += 1
        if is_final:
            return Ended("failed", kind, message, attempts=attempt.claim.attempt)
        await self._clock.sleep(retry_delay_s(kind, tries.by_kind[kind], self._chance))
        return None

    async def _without_record(self, generation: Generation, attempt: Attempt, times: int) -> Ended | None:
        """Handle a request unknown to Segmind; None while it may only be too young."""
        if not may_be_running(attempt.accepted_at, self._clock.now()):
            return await self.store(generation, attempt)
        if times % _MISSES:
            return None
        row = await self._from_history(attempt)
        if isinstance(row, Ended):
            return row if row.ending == "failed" or times >= _POLL_FAILURES else None
        if row is None or row.output_url is None:
            missing = f"Segmind has no record of request {attempt.request_id} yet, or none any more."
            return Ended("running", error=missing) if times >= _POLL_FAILURES else None
        return await self.store(
            generation, with_history(attempt, row), wire.Answer(status="completed", output_url=row.output_url)
        )

    def _learn(self, schedule: PollSchedule, attempt: Attempt, answer: wire.Answer) -> None:
        elapsed_s = self._clock.monotonic() - attempt.accepted_s
        if answer.status == "completed":
            schedule.learn(took_s(answer.accounting, elapsed_s))
        elif answer.status == "pending" and attempt.is_watched:
            schedule.learn_unfinished(elapsed_s)

    async def _pause(self, schedule: PollSchedule, elapsed_s: float, *, is_scout: bool) -> None:
        """Wait until the next look; in parts, because other jobs may show meanwhile that it can come earlier."""
        waited_s = 0.0
        while (left_s := schedule.delay_s(elapsed_s, is_scout=is_scout) - waited_s) > 0:
            part_s = min(left_s, _PART_S)
            await self._clock.sleep(part_s)
            waited_s += part_s

    async def store(self, generation: Generation, attempt: Attempt, answer: wire.Answer = _NOTHING) -> Ended:
        """Store paid bytes: those in the answer, else the file in the result, else the file in the history.

        Refused bytes go to the quarantine, unless a retry shortly after brings the whole file.
        """
        self._concurrency.left_provider(generation.generation_id)
        received = answer.received
        refused = [received] if received is not None and received.reason is not None else []
        try:
            return await self._store(generation, attempt, answer, refused)
        finally:
            for each in refused:
                self._outputs.discard(each.path)

    async def _store(
        self, generation: Generation, attempt: Attempt, answer: wire.Answer, refused: list[Received]
    ) -> Ended:
        text = answer.output_text if generation.model.output == "text" else None
        unread = answer.output_text if text is None and answer.output_url is None else None
        fetched, problem = None if refused else answer.received, "the answer names no output"
        url = answer.output_url if text is None else None
        kind: FailureKind = "bad_output"
        async for _ in self._rounds():
            if fetched is None and text is None and url is None:
                row = await self._from_history(attempt)
                if isinstance(row, Ended):
                    await self._put_aside(generation, attempt, refused)
                    return row
                attempt, url = with_history(attempt, row), row.output_url if row else None
                if url is None:
                    kind = "expired" if attempt.accounting == NOT_REPORTED else kind
                    break
            path = fetched.path if fetched else self._outputs.scratch_file(generation.generation_id)
            try:
                with self._disk_errors(attempt, path):
                    digest = await self._bring(text, fetched, url, path)
                    stored = await asyncio.to_thread(self._keep, generation, attempt, path)
            except OutputError as error:
                refused.append(
                    Received(path=path, reason=str(error), is_cut=error.is_cut, is_only_copy=fetched is not None)
                )
                fetched, kind, problem = None, "bad_output", str(error)
                if error.is_permanent or text is not None:
                    break
            except GatewayError as error:
                self._outputs.discard(path)
                if error.kind != "expired":
                    await self._put_aside(generation, attempt, refused)
                    return Ended("running", error.kind, str(error))
                url, kind, problem = None, "expired", str(error)
            else:
                await self._put_aside(generation, attempt, [each for each in refused if each.is_only_copy])
                return await self._succeed(generation, attempt, stored, digest or stored.sha256)
        return await self._give_up(generation, attempt, kind, problem, refused, unread=unread)

    async def _rounds(self) -> AsyncIterator[int]:
        """A few spaced attempts to fetch: a file may be named shortly before it exists."""
        for number in range(_FETCHES):
            if number:
                await self._clock.sleep(retry_delay_s("expired", number, self._chance))
            yield number

    async def _give_up(
        self,
        generation: Generation,
        attempt: Attempt,
        kind: FailureKind,
        problem: str,
        refused: list[Received],
        *,
        unread: str | None,
    ) -> Ended:
        """Fail a paid generation without a usable output, unless a killed run had already stored the file."""
        kept = await asyncio.to_thread(
            self._outputs.kept,
            resource=generation.model.resource,
            generation_id=generation.generation_id,
            request_id=attempt.request_id,
        )
        if kept is not None:
            stored, sidecar = kept
            return await self._succeed(generation, with_sidecar(attempt, sidecar), stored, stored.sha256)
        if generation.model.api_version == "v1" and not refused:
            stored_aside = await self._from_quarantine(generation, attempt)
            if stored_aside is not None:
                return await self._succeed(generation, attempt, stored_aside, stored_aside.sha256)
        if unread is not None and not refused:
            refused.append(await self._written(generation, attempt, unread, problem))
        quarantined = await self._put_aside(generation, attempt, refused)
        message = f"Request {attempt.request_id} was paid for, but its output cannot be used: {problem}."
        charge = await fail(
            self._ledger, self._clock, attempt.claim, kind, message, is_final=True,
            cost_usd=attempt.accounting.cost_usd, cost_source=attempt.cost_source, estimate_usd=generation.estimate_usd,
        )  # fmt: skip
        self._odd_prices.look(generation, attempt)
        # not in the ledger: the path must not be exported, and changes when outputs are moved
        where = f" What came is kept in {quarantined[-1].uri}." if quarantined else ""
        return Ended(
            "failed", kind, f"{message}{where}", charge.anew_usd, charge.is_estimated, attempts=attempt.claim.attempt
        )

    async def put_unnamed_aside(
        self, generation: Generation, claim: Claim, path: Path, error: UnnamedAnswerError
    ) -> None:
        """Quarantine the output of an answer without a request id: it may be all that is left of a paid job."""
        now = self._clock.monotonic()
        attempt = Attempt(claim=claim, request_id=_NOT_NAMED, began_s=now, accepted_s=now, is_watched=False)
        refused = Received(path=path, reason=str(error), is_cut=error.is_cut, is_only_copy=True)
        await self._put_aside(generation, attempt, [refused])

    async def _from_quarantine(self, generation: Generation, attempt: Attempt) -> Output | None:
        """The quarantined output of an answer without a request id, if it is whole."""
        path = self._outputs.scratch_file(generation.generation_id)
        try:
            with self._disk_errors(attempt, path):
                for each in await asyncio.to_thread(self._outputs.quarantine.found, generation.model.resource):
                    is_ours = each.generation_id == generation.generation_id
                    if is_ours and await asyncio.to_thread(self._outputs.quarantine.copy, each, path):
                        with suppress(OutputError):
                            return await asyncio.to_thread(self._keep, generation, attempt, path)
        finally:
            self._outputs.discard(path)
        return None

    async def _written(self, generation: Generation, attempt: Attempt, text: str, problem: str) -> Received:
        """Write a result without a file to a file."""
        path = self._outputs.scratch_file(generation.generation_id)
        with self._disk_errors(attempt, path):
            await asyncio.to_thread(path.write_text, text, encoding="utf-8", errors="replace")
        return Received(path=path, reason=problem)

    async def _put_aside(
        self, generation: Generation, attempt: Attempt, refused: Sequence[Received]
    ) -> list[Quarantined]:
        """Put refused bytes into quarantine; without any bytes there is no file."""
        quarantined = []
        for each in refused:
            if each.path.exists():
                with self._disk_errors(attempt, each.path):
                    quarantined.append(await asyncio.to_thread(self._quarantine, generation, attempt, each))
        return quarantined

    def _quarantine(self, generation: Generation, attempt: Attempt, refused: Received) -> Quarantined:
        sidecar = {
            **self._provenance(generation),
            **self._books(generation, attempt),
            "request_id": attempt.request_id,
            "expected": generation.model.output,
            "reason": refused.reason,
            "is_cut": refused.is_cut,
        }
        return self._outputs.quarantine.put(
            refused.path,
            resource=generation.model.resource,
            generation_id=generation.generation_id,
            attempt=attempt.claim.attempt,
            sidecar=self._redactor.values(sidecar),
        )

    @contextmanager
    def _disk_errors(self, attempt: Attempt, path: Path) -> Iterator[None]:
        """End the run with a message when the disk is full or not writable; the job stays collectable."""
        try:
            yield
        except OSError as error:
            with suppress(OSError):
                self._outputs.discard(path)
            raise SegmindDagsterError(
                f"Request {attempt.request_id} is paid for, but its output cannot be stored: {error}. Nothing more is "
                "submitted. Make room or see to it that the outputs folder can be written to, then materialize "
                "again: what was paid for is collected, and nothing is paid for twice."
            ) from error

    async def _bring(self, text: str | None, fetched: Received | None, url: str | None, path: Path) -> str | None:
        """Get the output into a file; return the digest of the received bytes, if any were received."""
        if fetched is not None:
            return fetched.sha256
        if text is not None:
            # JSON can hold half of a surrogate pair, which is no text: replaced with a question mark
            await asyncio.to_thread(path.write_text, text, encoding="utf-8", errors="replace")
            return None
        return await self._gateway.fetch(url or "", path)

    def _keep(self, generation: Generation, attempt: Attempt, path: Path) -> Output:
        provenance = {**self._provenance(generation), "request_id": attempt.request_id}
        if attempt.accounting.seed is not None:
            provenance["seed"] = attempt.accounting.seed
        return self._outputs.keep(
            path,
            resource=generation.model.resource,
            generation_id=generation.generation_id,
            kind=generation.model.output,
            provenance=provenance,
            books=self._books(generation, attempt),
        )

    def _provenance(self, generation: Generation) -> dict[str, Any]:
        """Where an output comes from."""
        return {
            "generation_id": generation.generation_id,
            "model": generation.model.slug,
            "parameters": self._redactor.values(generation.body),
            "api_origin": self._api_origin,
            "generator": "segmind-dagster",
        }

    def _books(self, generation: Generation, attempt: Attempt) -> dict[str, Any]:
        """What `recovery` needs, should the ledger be lost: who paid, how much, when."""
        books: dict[str, Any] = {
            "prompt_set": generation.prompt_set,
            "attempt": attempt.claim.attempt,
            "images": {name: image.sha256 for name, image in generation.images.items()},
            "stored_at": self._clock.now().isoformat(),
        }
        if attempt.is_watched:
            books["latency_ms"] = int((self._clock.monotonic() - attempt.began_s) * 1000)
        if attempt.accounting.cost_usd is not None:
            books |= {"cost_usd": str(attempt.accounting.cost_usd), "cost_source": attempt.cost_source}
        return books

    async def _succeed(self, generation: Generation, attempt: Attempt, stored: Output, provider_sha256: str) -> Ended:
        attempt = replace(attempt, estimate_usd=generation.estimate_usd).with_output(
            stored, provider_sha256, now=self._clock.now(), now_s=self._clock.monotonic()
        )
        charge = await self._ledger.awrite(moves.mark_succeeded, attempt)
        self._odd_prices.look(generation, attempt)
        return Ended(
            "succeeded",
            cost_usd=charge.anew_usd,
            is_estimated=charge.is_estimated,
            attempts=attempt.claim.attempt,
            latency_ms=attempt.latency_ms,
            output_uri=stored.uri,
        )

    async def _from_history(self, attempt: Attempt) -> HistoryRow | Ended | None:
        """The history row of a request; or its ending, when the row decides it or cannot be read now."""
        try:
            row = await self._gateway.history_row(attempt.request_id)
        except GatewayError as error:
            return Ended("running", error.kind, str(error))
        if row is not None and row.is_failed:
            return await self._fail_free(attempt, row.error or "no reason given")
        if row is not None and row.is_unfinished:
            status = (row.status or "").strip().lower()
            return Ended("running", error=f"Request {attempt.request_id} is still {status} in Segmind's history.")
        return row

    async def _fail_free(self, attempt: Attempt, error: str) -> Ended:
        """Record a job that failed between two runs, as only the history still shows."""
        kind = classify_job(error)
        message = f"Request {attempt.request_id} failed at Segmind: {_short(error)}"
        await fail(self._ledger, self._clock, attempt.claim, kind, message, is_final=True)
        return Ended("failed", kind, message, attempts=attempt.claim.attempt)


def _remark(attempt: Attempt, answer: wire.Answer) -> str:
    return (
        f"Request {attempt.request_id} brought {answer.further_outputs + 1} outputs, and one was asked for: the first "
        "is kept. The others stay at Segmind for a while; fetch them there, and report this, because each may be paid "
        "for."
    )


def _short(error: str | None) -> str:
    """A provider's text, shortened; the gateway has redacted keys and signatures."""
    return (error or "no reason given")[:300]
