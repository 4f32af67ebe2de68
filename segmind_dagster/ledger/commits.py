"""Group commit: the writes of many tasks in few transactions, each durable before its task continues.

A durable commit costs an fsync whatever it holds, so operations that wait at the same time share one, and their
tasks are woken by one call. What the operations do is in `moves`, `writes` and `entries`.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import defaultdict
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from segmind_dagster.errors import LedgerError, SegmindDagsterError
from segmind_dagster.ledger.batching import Batched
from segmind_dagster.ledger.database_errors import concerns_everything, translated

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection, Engine

_P = ParamSpec("_P")
_T = TypeVar("_T")
_LARGEST_GROUP = 500
# while several writers follow each other this closely, each group waits shortly for more: few large groups cost less
# than many small ones. A single writer does not wait (like PostgreSQL's commit_delay and commit_siblings)
_BUSY_S = 0.1
_LAST_COMMIT_S = 90.0
_GATHER_S = 0.04


@dataclass(slots=True, eq=False)
class _Asked:
    """An operation, and the thread or task that waits for it.

    Args:
        operation: what is to be run.
        args: its arguments, behind the connection.
        kwargs: its keyword arguments.
        future: where its outcome goes.
        loop: the loop the future belongs to; None for a thread's.
        result: what it returned.
        error: what it raised instead.
    """

    operation: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    future: Future[Any] | asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop | None
    result: Any = None
    error: Exception | None = None


class GroupCommitter:
    """One thread that runs write operations in order of arrival, many in one transaction.

    An operation that refuses (raises `SegmindDagsterError`) must do so before its first write: the others in
    its group are still committed.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._queue: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._start = threading.Lock()
        self._is_closed = False

    def submit(
        self, operation: Callable[Concatenate[Connection, _P], _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> Future[_T]:
        """Queue an operation; the future resolves once its effect is durable."""
        future: Future[_T] = Future()
        self._enter(_Asked(operation, args, kwargs, future, None))
        return future

    async def run_async(
        self, operation: Callable[Concatenate[Connection, _P], _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """Run an operation; other tasks run until it is durable.

        A cancelled task no longer waits; its operation is still written.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()
        self._enter(_Asked(operation, args, kwargs, future, loop))
        return await future

    def close(self) -> None:
        """Finish what is queued, then stop."""
        with self._start:
            self._is_closed = True
            thread = self._thread
            self._queue.put(None)
        if thread is not None:
            # bounded: a database that does not answer must not keep a run that has to stop
            thread.join(_LAST_COMMIT_S)
        self._engine.dispose()

    def _enter(self, asked: _Asked) -> None:
        with self._start:
            if self._is_closed:
                raise LedgerError("The ledger is closed; nothing more can be recorded in it.")
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="ledger-commits", daemon=True)
                self._thread.start()
            self._queue.put(asked)

    def _work(self) -> None:
        done_at = -_BUSY_S
        was_shared = False
        while (first := self._queue.get()) is not None:
            if was_shared and time.monotonic() - done_at < _BUSY_S:
                time.sleep(_GATHER_S)
            group = [first]
            is_last = False
            while len(group) < _LARGEST_GROUP and not self._queue.empty():
                following = self._queue.get()
                if following is None:
                    is_last = True
                    break
                group.append(following)
            self._commit(group)
            _answer(group)
            done_at = time.monotonic()
            was_shared = len(group) > 1
            if is_last:
                return

    def _commit(self, group: Sequence[_Asked]) -> None:
        is_begun = False
        try:
            with self._engine.begin() as connection:
                is_begun = True
                _run(connection, group)
        except Exception as failure:  # noqa: BLE001  handed to the callers, never swallowed
            # when it could not begin, another process locks the database: single retries would multiply the wait;
            # and what is wrong with the database fails them all the same way
            if len(group) == 1 or not is_begun or concerns_everything(failure):
                what = f"Wrote to the ledger at {self._engine.url.render_as_string(hide_password=True)}"
                for asked in group:
                    asked.error = translated(what, failure)
                return
            # one failing operation must not fail those that share its commit
            for asked in group:
                asked.result = asked.error = None
                self._commit([asked])


def _run(connection: Connection, group: Sequence[_Asked]) -> None:
    """Run the operations of a group in order of arrival; batched ones last, once for all callers.

    No caller queues a second operation before the first is answered, so that this reorders only unrelated ones.
    """
    batches: defaultdict[Batched[..., Any, Any], list[_Asked]] = defaultdict(list)
    for asked in group:
        if isinstance(asked.operation, Batched):
            batches[asked.operation].append(asked)
            continue
        try:
            asked.result = asked.operation(connection, *asked.args, **asked.kwargs)
        except SegmindDagsterError as refusal:
            asked.error = refusal
    for operation, callers in batches.items():
        asks = [operation.ask(*asked.args, **asked.kwargs) for asked in callers]
        for asked, answer in zip(callers, operation.many(connection, asks), strict=True):
            if isinstance(answer, SegmindDagsterError):
                asked.error = answer
            else:
                asked.result = answer


def _answer(group: Sequence[_Asked]) -> None:
    """Wake all waiters; the tasks of one loop with one call, because waking a loop costs a system call."""
    by_loop: defaultdict[asyncio.AbstractEventLoop | None, list[_Asked]] = defaultdict(list)
    for asked in group:
        by_loop[asked.loop].append(asked)
    for loop, answered in by_loop.items():
        if loop is None:
            _resolve(answered)
        else:
            with suppress(RuntimeError):  # the loop is closed: no task waits any more
                loop.call_soon_threadsafe(_resolve, answered)


def _resolve(answered: Sequence[_Asked]) -> None:
    for asked in answered:
        if asked.future.done():  # its task was cancelled
            continue
        if asked.error is not None:
            asked.future.set_exception(asked.error)
        else:
            asked.future.set_result(asked.result)
