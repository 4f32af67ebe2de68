"""Waits for generations that another run owns, without buying them again and without hanging.

All are looked up with one query; a wait ends when the other run finishes, releases the generation, or is dead.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from segmind_dagster.ledger import reads
from segmind_dagster.lifecycle.states import IN_PROGRESS

if TYPE_CHECKING:
    from collections.abc import Callable

    from segmind_dagster.ledger import Ledger
    from segmind_dagster.lifecycle.generation import Generation
    from segmind_dagster.runner.ports import ClockPort

_LOOK_EVERY_S = 1.0


class Watch:
    """Watches generations of other runs, with one query a second.

    Args:
        ledger: where to look.
        clock: the time.
        owner: this run, which must not wait for itself: a claim may be durable although its commit was not confirmed.
        may_wait: whether to wait at all; when not, records come back as they are.
    """

    def __init__(
        self, ledger: Ledger, clock: ClockPort, *, owner: str = "", may_wait: Callable[[], bool] = lambda: True
    ) -> None:
        self._ledger = ledger
        self._owner = owner
        self._clock = clock
        self._may_wait = may_wait
        self._waiting: dict[str, asyncio.Future[Generation]] = {}
        self._task: asyncio.Task[None] | None = None

    async def until_free(self, generation_id: str) -> Generation:
        """The generation's record, once no live run owns it any more."""
        future = self._waiting.setdefault(generation_id, asyncio.get_running_loop().create_future())
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())
        return await asyncio.shield(future)

    async def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _look(self) -> None:
        try:
            await self._look_until_free()
        # any error: no task may wait for a query that has ended; raised again
        except Exception as error:
            for future in self._waiting.values():
                future.set_exception(error)
            self._waiting.clear()
            raise

    async def _look_until_free(self) -> None:
        while self._waiting:
            records = await asyncio.to_thread(self._records, list(self._waiting))
            for generation_id, record in records.items():
                is_others = record.is_owner_alive and record.owner != self._owner
                if record.state not in IN_PROGRESS or not is_others or not self._may_wait():
                    self._waiting.pop(generation_id).set_result(record)
            if self._waiting:
                await self._clock.sleep(_LOOK_EVERY_S)

    def _records(self, generation_ids: list[str]) -> dict[str, Generation]:
        is_alive = self._ledger.liveness(self._clock.monotonic())
        return self._ledger.read(reads.snapshot, generation_ids, is_alive=is_alive)
