"""Group commit: the writes of many tasks in few transactions, each durable before its task goes on.

A durable commit costs an fsync whatever it holds, so operations that wait at the same moment share one.
What the operations do is in `writes`.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from segmind_dagster.errors import LedgerError, SegmindDagsterError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine

_T = TypeVar("_T")
_LARGEST_GROUP = 500


class GroupCommitter:
    """One thread that runs write operations, many a transaction, in the order they arrive.

    An operation that refuses (raises `SegmindDagsterError`) must do so before its first write: the others in
    its group are committed all the same.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._queue: queue.SimpleQueue[tuple[Callable[[Connection], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._start = threading.Lock()
        self._is_closed = False

    def submit(self, operation: Callable[[Connection], _T]) -> Future[_T]:
        """Queue an operation; the future resolves once its effect is durable."""
        with self._start:
            if self._is_closed:
                raise LedgerError("The ledger is closed; nothing more can be recorded in it.")
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="ledger-commits", daemon=True)
                self._thread.start()
            future: Future[_T] = Future()
            self._queue.put((operation, future))
        return future

    def run(self, operation: Callable[[Connection], _T]) -> _T:
        """Run an operation and wait until it is durable."""
        return self.submit(operation).result()

    async def run_async(self, operation: Callable[[Connection], _T]) -> _T:
        """Run an operation; other tasks go on until it is durable."""
        # shielded: a cancelled task must not make a queued write vanish
        return await asyncio.shield(asyncio.wrap_future(self.submit(operation)))

    def close(self) -> None:
        """Finish what is queued, then stop."""
        with self._start:
            self._is_closed = True
            thread = self._thread
            self._queue.put(None)
        if thread is not None:
            thread.join()
        self._engine.dispose()

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            group = [first]
            is_last = False
            while len(group) < _LARGEST_GROUP and not self._queue.empty():
                following = self._queue.get()
                if following is None:
                    is_last = True
                    break
                group.append(following)
            self._commit(group)
            if is_last:
                return

    def _commit(self, group: list[tuple[Callable[[Connection], Any], Future[Any]]]) -> None:
        done: list[tuple[Future[Any], Any]] = []
        refused: list[tuple[Future[Any], SegmindDagsterError]] = []
        try:
            with self._engine.begin() as connection:
                for operation, future in group:
                    try:
                        done.append((future, operation(connection)))
                    except SegmindDagsterError as refusal:
                        refused.append((future, refusal))
        except Exception as failure:  # noqa: BLE001  handed to the callers, never swallowed
            if len(group) == 1:
                group[0][1].set_exception(failure)
                return
            # one bad operation must not fail those that shared its commit
            for member in group:
                self._commit([member])
            return
        for future, result in done:
            future.set_result(result)
        for future, error in refused:
            future.set_exception(error)
