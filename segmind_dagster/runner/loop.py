"""Runs an engine: its session, its lease, its progress, and what happens when the caller is interrupted.

The event loop has a thread of its own, so that an interrupt of the calling thread stops submitting, lets what
is in flight land within `DRAIN_S`, and leaves the rest recorded for the next run.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from statistics import median
from typing import TYPE_CHECKING, Any

from segmind_dagster.errors import SegmindDagsterError
from segmind_dagster.ledger import entries, reads
from segmind_dagster.runner.account import why_not
from segmind_dagster.runner.pacing import Patience, Slots
from segmind_dagster.runner.prices import current_catalogue
from segmind_dagster.runner.work import Ended, Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from segmind_dagster.ledger import Ledger
    from segmind_dagster.outputs import OutputStore
    from segmind_dagster.runner.brake import Brake
    from segmind_dagster.runner.engine import Engine
    from segmind_dagster.runner.work import ClockPort, Progress, Work
    from segmind_dagster.settings import Settings

LOGGER = logging.getLogger(__name__)
DRAIN_S = 20.0
# a terminal interrupts a whole group of processes, and parents pass it on: within this time it is the same order
_SAME_ORDER_S = 2.0
# longer than anything that may take its time: a v1 call, a rate window, a poll of a long job
_STALLED_S = 1800.0
_PROGRESS_EVERY_S = 5.0
_DISK_THREADS = 24


def work_through(
    settings: Settings,
    ledger: Ledger,
    outputs: OutputStore,
    works: Sequence[Work],
    *,
    run_id: str | None,
    on_progress: Callable[[Progress], None] | None,
    clock: ClockPort,
) -> tuple[dict[str, Ended], Engine]:
    """Work through generations until each has an ending; blocks.

    Args:
        settings: where, with which key and limits.
        ledger: where every step is recorded.
        outputs: where bytes are kept.
        works: what is to be done.
        run_id: Dagster's id of the run.
        on_progress: told every few seconds, and at the end.
        clock: the time.

    Returns how each generation ended, and the engine for what it says about the run as a whole.
    """
    # aiohttp takes a fifth of a second to import: only when something is generated
    from segmind_dagster.gateway.client import Gateway
    from segmind_dagster.runner.engine import Engine
    from segmind_dagster.runner.lease import Lease

    slots = Slots(ledger, clock, settings.requests_per_minute)
    engine = Engine(
        gateway=(gateway := Gateway(settings, on_rate_limited=slots.cut)),
        ledger=ledger,
        outputs=outputs,
        clock=clock,
        lease=(lease := Lease(ledger, clock, run_id)),
        limits=Limits(
            max_in_flight=settings.max_in_flight,
            unknown_settle_seconds=settings.unknown_settle_seconds,
            v1_timeout_seconds=settings.v1_timeout_seconds,
        ),
        slots=slots,
        patience=_patience(ledger, works),
        run_id=run_id,
    )
    if all(work.action in {"reuse", "leave"} for work in works):
        # nothing to ask the provider: no connection, no lease
        return {work.generation_id: Ended("reused" if work.action == "reuse" else "left") for work in works}, engine

    async def remember(balance_usd: Decimal) -> None:
        await ledger.awrite(entries.record_balance, balance_usd=balance_usd, now=clock.now())

    async def work() -> dict[str, Ended]:
        began = clock.monotonic()
        async with gateway:
            await lease.renew()
            background = [
                asyncio.create_task(lease.keep_alive()),
                asyncio.create_task(_tell(engine.progress, began, on_progress, clock)),
            ]
            try:
                to_buy = [
                    work.reserve_usd for work in works if work.action == "submit" and work.reserve_usd is not None
                ]
                cheapest_usd = min(to_buy, default=Decimal(0))
                if (reason := await why_not(gateway, cheapest_usd, remember=remember)) is not None:
                    engine.brake.stop(*reason)
                return await engine.run(works)
            finally:
                for task in background:
                    task.cancel()
                await asyncio.gather(*background, return_exceptions=True)
                await lease.give_up()
                engine.progress.elapsed_s = clock.monotonic() - began
                if on_progress is not None:
                    on_progress(engine.progress)

    stalled_s = max(_STALLED_S, 2 * settings.v1_timeout_seconds)
    return _run_interruptibly(work, engine.brake, Watchdog(engine.progress, clock, stalled_s)), engine


async def _tell(
    progress: Progress, began: float, on_progress: Callable[[Progress], None] | None, clock: ClockPort
) -> None:
    pause_s = _PROGRESS_EVERY_S
    while True:
        await clock.sleep(pause_s)
        # a long run tells less often, so that its log stays readable
        pause_s = min(pause_s * 1.2, 60.0)
        progress.elapsed_s = clock.monotonic() - began
        if on_progress is not None:
            on_progress(progress)


class Watchdog:
    """Notices, from outside the event loop, that nothing moves any more.

    Args:
        progress: where the run is.
        clock: the time.
        stalled_s: how long nothing may move.
    """

    def __init__(self, progress: Progress, clock: ClockPort, stalled_s: float) -> None:
        self._progress = progress
        self._clock = clock
        self._stalled_s = stalled_s
        self._steps = progress.steps
        self._moved_at = clock.monotonic()

    def look(self) -> None:
        """Look once.

        Raises:
            SegmindDagsterError: nothing has moved for too long.
        """
        now = self._clock.monotonic()
        if self._steps != self._progress.steps or not self._progress.is_at_work:
            self._steps, self._moved_at = self._progress.steps, now
        elif now - self._moved_at > self._stalled_s:
            raise SegmindDagsterError(
                f"Nothing has moved for {now - self._moved_at:.0f} s ({self._progress.line()}), so the run was given "
                "up; a disk or a network share that hangs is the usual reason. What was submitted is recorded: "
                "materialize again to collect it, nothing is bought twice."
            )


def _run_interruptibly(work: Callable[[], Any], brake: Brake, watchdog: Watchdog) -> dict[str, Ended]:
    """Run the loop in a thread; an interrupt here drains there before it goes on."""
    outcome: dict[str, Any] = {}
    loop_task: dict[str, Any] = {}
    finished = threading.Event()

    async def main() -> None:
        loop_task["loop"] = loop = asyncio.get_running_loop()
        # these threads wait for the disk most of the time
        loop.set_default_executor(ThreadPoolExecutor(_DISK_THREADS, thread_name_prefix="segmind-disk"))
        loop_task["task"] = asyncio.current_task()
        outcome["endings"] = await work()

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:  # noqa: BLE001  raised again in the calling thread
            outcome["error"] = error
        finally:
            finished.set()

    thread = threading.Thread(target=run, name="segmind-runner", daemon=True)
    thread.start()
    with _terminable():
        try:
            while not finished.wait(0.5):
                watchdog.look()
        except BaseException:
            brake.interrupt("The run was terminated; what was submitted is recorded and collected by the next run.")
            LOGGER.warning("Stopping: nothing more is submitted; what is in flight has %.0f s to land.", DRAIN_S)
            if not _is_drained(finished) and "loop" in loop_task:
                loop_task["loop"].call_soon_threadsafe(loop_task["task"].cancel)
                _is_drained(finished)
            raise
    if "error" in outcome:
        raise outcome["error"]
    endings: dict[str, Ended] = outcome["endings"]
    return endings


@contextmanager
def _terminable() -> Iterator[None]:
    """Where nobody has decided what SIGTERM does, it interrupts as Ctrl-C does, instead of killing."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _is_drained(finished: threading.Event) -> bool:
    """Wait for the loop's end, within bounds; a later interrupt ends the wait, an echo of the first does not."""
    began = time.monotonic()
    while (left_s := began + DRAIN_S - time.monotonic()) > 0:
        try:
            if finished.wait(left_s):
                return True
        except BaseException:
            if time.monotonic() - began > _SAME_ORDER_S:
                raise
    return finished.is_set()


def _patience(ledger: Ledger, works: Sequence[Work]) -> dict[str, Patience]:
    slugs = sorted({work.model.slug for work in works})
    observed = ledger.read(reads.observed, slugs)
    catalogue = current_catalogue(ledger, slugs)
    known: dict[str, Patience] = {}
    for slug in slugs:
        _, latencies_ms = observed.get(slug, ([], []))
        if latencies_ms:
            known[slug] = Patience(median(latencies_ms) / 1000, is_measured=True)
        else:
            known[slug] = Patience(catalogue.get(slug).latency_s)
    return known
