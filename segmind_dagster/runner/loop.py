"""Runs an engine: its session, its lease, its progress, from a calling thread that may be interrupted.

How an interrupt or a standstill ends the run is in `interrupts`.
"""

from __future__ import annotations

import asyncio
import os
from decimal import Decimal
from statistics import median
from typing import TYPE_CHECKING

from segmind_dagster.gateway.errors import UnreachableError
from segmind_dagster.gateway.redaction import redactor_of
from segmind_dagster.ledger import entries, reads
from segmind_dagster.lifecycle.failures import PAID_KINDS
from segmind_dagster.registry import bundled_catalogue
from segmind_dagster.runner.account import why_not
from segmind_dagster.runner.admission import Admission
from segmind_dagster.runner.file_budgets import FileBudgets
from segmind_dagster.runner.freshness import refuse_if_outdated
from segmind_dagster.runner.interrupts import Watchdog, run_interruptibly
from segmind_dagster.runner.lookup import RUN_STAYS_OPEN
from segmind_dagster.runner.poll_schedule import PollSchedule
from segmind_dagster.runner.prices import current_catalogue
from segmind_dagster.runner.rate_limiter import RateLimiter
from segmind_dagster.runner.report import Ended, reused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from segmind_dagster.ledger import Ledger
    from segmind_dagster.lifecycle.generation import Generation
    from segmind_dagster.outputs import OutputStore
    from segmind_dagster.runner.engine import Engine
    from segmind_dagster.runner.ports import ClockPort
    from segmind_dagster.runner.report import Progress
    from segmind_dagster.settings import Settings

# longer than a rate window, a back-off or a fetch
_STALLED_S = 1800.0
_MOST_DISK_THREADS, _BUCKET_THREADS = 4, 24
_PROGRESS_EVERY_S = 5.0


def work_through(
    settings: Settings,
    ledger: Ledger,
    outputs: OutputStore,
    generations: Sequence[Generation],
    *,
    run_id: str | None,
    is_by_person: bool,
    on_progress: Callable[[Progress], None] | None,
    clock: ClockPort,
    prompt_files: Mapping[str, Path] | None = None,
    stays_open: float = RUN_STAYS_OPEN,
) -> tuple[dict[str, Ended], Engine]:
    """Process generations until each has an ending; blocks.

    Args:
        settings: where, with which key and limits.
        ledger: where every step is recorded.
        outputs: where bytes are kept.
        generations: what is to be done.
        run_id: Dagster's id of the run.
        is_by_person: whether a person asked for it, rather than a sensor.
        on_progress: called every few seconds, and at the end.
        clock: the time.
        prompt_files: the files of the prompt sets, whose budget may be lowered meanwhile.
        stays_open: settling times that a lost submission is waited for.

    Returns how each generation ended, and the engine for what it says about the run as a whole.
    """
    # aiohttp takes a fifth of a second to import: only when something is generated
    from segmind_dagster.gateway.client import Gateway
    from segmind_dagster.runner.engine import Engine, Limits
    from segmind_dagster.runner.lease import Lease

    rate_limiter = RateLimiter(ledger, clock, settings.requests_per_minute)
    to_buy = [generation for generation in generations if generation.is_to_buy]
    engine = Engine(
        gateway=(gateway := Gateway(settings)),
        ledger=ledger,
        outputs=outputs,
        clock=clock,
        lease=(lease := Lease(ledger, clock, run_id)),
        limits=Limits(
            max_in_flight=settings.max_in_flight,
            unknown_settle_seconds=settings.unknown_settle_seconds,
            v1_timeout_seconds=settings.v1_timeout_seconds,
            stays_open=stays_open,
        ),
        rate_limiter=rate_limiter,
        poll_schedules=_poll_schedules(ledger, generations),
        slugs=bundled_catalogue().entries.keys() | {generation.model.slug for generation in generations},
        admission=_admission(ledger, outputs, generations, is_by_person=is_by_person),
        redactor=redactor_of(settings),
        api_origin=settings.api_origin,
        highest_usd=ledger.read(reads.highest_costs, sorted({generation.model.slug for generation in generations})),
        run_id=run_id,
        budgets=FileBudgets(clock, prompt_files or {}, project_dir=settings.project_dir),
    )
    if all(generation.step in {"reuse", "leave"} for generation in generations):
        # nothing to ask the provider: no connection, no lease
        return {
            generation.generation_id: _as_it_was(generation, engine.admission) for generation in generations
        }, engine

    cheapest_usd = min((generation.reserve_usd or Decimal(0) for generation in to_buy), default=Decimal(0))

    async def remember(balance_usd: Decimal) -> None:
        await ledger.awrite(entries.record_balance, balance_usd=balance_usd, now=clock.now())

    async def work() -> dict[str, Ended]:
        began = clock.monotonic()
        async with gateway:
            try:
                reason = await why_not(gateway, cheapest_usd, remember=remember, warn=engine.warnings.append)
            except UnreachableError as error:
                engine.admission.stop(error.kind, str(error))
                return {
                    generation.generation_id: _as_it_was(generation, engine.admission) for generation in generations
                }
            if reason is not None:
                engine.admission.stop(*reason)
            elif to_buy:
                await refuse_if_outdated(
                    engine.lookup, engine.admission, to_buy, ledger=ledger, gateway=gateway, outputs=outputs,
                    clock=clock, settling_time_s=settings.unknown_settle_seconds,
                )  # fmt: skip
            await lease.renew()
            background = [
                asyncio.create_task(lease.keep_alive()),
                asyncio.create_task(_tell(engine.progress, began, on_progress, clock)),
            ]
            try:
                return await engine.run(generations)
            finally:
                for task in background:
                    task.cancel()
                await asyncio.gather(*background, return_exceptions=True)
                await lease.give_up()
                engine.progress.elapsed_s = clock.monotonic() - began
                if on_progress is not None:
                    on_progress(engine.progress)

    # slow steps end by themselves before that: a v1 call, and the lookup of a lost submission
    stalled_s = max(_STALLED_S, 2 * settings.v1_timeout_seconds + (stays_open + 1) * settings.unknown_settle_seconds)
    watchdog = Watchdog(engine.progress, clock, stalled_s)
    # few for a disk: every further active thread makes the event loop wait for the GIL
    threads = min(_MOST_DISK_THREADS, os.cpu_count() or 1) if outputs.is_local else _BUCKET_THREADS
    return run_interruptibly(work, engine.admission, watchdog, threads=threads), engine


def _as_it_was(generation: Generation, admission: Admission) -> Ended:
    """The ending of a generation that is left unchanged."""
    match generation.step:
        case "reuse":
            return reused(generation)
        case "leave":
            return Ended("left")
        case "collect" | "wait":
            return Ended("running", error=admission.message)
        case "look_up":
            return Ended("unknown", error=admission.message)
        case _:
            return admission.held_back(generation)


async def _tell(
    progress: Progress, began: float, on_progress: Callable[[Progress], None] | None, clock: ClockPort
) -> None:
    pause_s = _PROGRESS_EVERY_S
    while True:
        await clock.sleep(pause_s)
        # a long run logs less often, so that its log stays readable
        pause_s = min(pause_s * 1.2, 60.0)
        progress.elapsed_s = clock.monotonic() - began
        if on_progress is not None:
            on_progress(progress)


def _admission(
    ledger: Ledger, outputs: OutputStore, generations: Sequence[Generation], *, is_by_person: bool
) -> Admission:
    slugs = sorted({generation.model.slug for generation in generations if generation.step != "reuse"})
    known = ledger.read(reads.deliveries, slugs, bad_kinds=PAID_KINDS)
    return Admission(known, is_by_person=is_by_person, quarantine=outputs.quarantine.url)


def _poll_schedules(ledger: Ledger, generations: Sequence[Generation]) -> dict[str, PollSchedule]:
    slugs = sorted({generation.model.slug for generation in generations})
    observed = ledger.read(reads.observed, slugs)
    catalogue = current_catalogue(ledger, slugs)
    known: dict[str, PollSchedule] = {}
    for slug in slugs:
        _, latencies_ms = observed.get(slug, ([], []))
        if latencies_ms:
            known[slug] = PollSchedule(
                median(latencies_ms) / 1000, is_measured=True, longest_s=max(latencies_ms) / 1000
            )
        else:
            known[slug] = PollSchedule(catalogue.get(slug).latency_s)
    return known
