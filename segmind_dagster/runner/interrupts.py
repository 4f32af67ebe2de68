"""Ends a run from outside: by an interrupt, SIGTERM, or a stall.

The event loop has a thread of its own, so that an interrupt of the calling thread stops submitting, lets what is in
flight land within `DRAIN_S`, and leaves the rest recorded for the next run.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from segmind_dagster.errors import SegmindDagsterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from segmind_dagster.runner.admission import Admission
    from segmind_dagster.runner.ports import ClockPort
    from segmind_dagster.runner.report import Ended, Progress

LOGGER = logging.getLogger(__name__)
DRAIN_S = 20.0
# a terminal signals a whole process group, and parents forward it: within this time it is the same signal
_SAME_ORDER_S = 2.0


class Watchdog:
    """Detects a stalled run from outside the event loop.

    Only a change of state is progress. Work that may take longer announces its deadline (`Progress.expect_by`); the
    time without a change counts from that deadline.

    Args:
        progress: where the run is.
        clock: the time.
        stalled_s: how long nothing may move that has not said so.
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
        elif now - max(self._moved_at, self._progress.expected_by) > self._stalled_s:
            raise SegmindDagsterError(
                f"Nothing has moved for {now - self._moved_at:.0f} s ({self._progress.line()}), so the run was given "
                "up; a disk or a network share that hangs is the usual reason. What was submitted is recorded: "
                "materialize again to collect it, nothing is bought twice."
            )


def run_interruptibly(
    work: Callable[[], Any], admission: Admission, watchdog: Watchdog, *, threads: int = 4
) -> dict[str, Ended]:
    """Run the loop in its own thread; an interrupt here first drains the loop there.

    Args:
        work: what the loop runs.
        admission: stops submitting.
        watchdog: ends a run in which nothing moves.
        threads: for what waits for disks and buckets.

    Raises:
        SegmindDagsterError: nothing has moved for too long.
    """
    outcome: dict[str, Any] = {}
    loop_task: dict[str, Any] = {}
    finished = threading.Event()

    async def main() -> None:
        loop_task["loop"] = loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(threads, thread_name_prefix="segmind-disk"))
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
            admission.interrupt("The run was terminated; what was submitted is recorded and collected by the next run.")
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
    """Where SIGTERM has no handler yet, let it interrupt like Ctrl-C instead of killing."""
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
    """Wait a bounded time for the loop to end; a later interrupt ends the wait, a duplicate of the first does not."""
    began = time.monotonic()
    while (left_s := began + DRAIN_S - time.monotonic()) > 0:
        try:
            if finished.wait(left_s):
                return True
        except BaseException:
            if time.monotonic() - began > _SAME_ORDER_S:
                raise
    return finished.is_set()
