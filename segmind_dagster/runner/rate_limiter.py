"""When requests are sent: this run's share of the account's rate, which all runs share in `ledger.rate`."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from segmind_dagster.ledger.rate import cut_rate, reserve_a_second

if TYPE_CHECKING:
    from collections.abc import Callable

    from segmind_dagster.ledger import Ledger
    from segmind_dagster.runner.ports import ClockPort

_PART_S = 1.0
_LARGEST_RESERVATION = 1000


class RateLimiter:
    """This run's share of the account's request rate."""

    def __init__(self, ledger: Ledger, clock: ClockPort, per_minute: float) -> None:
        self._ledger = ledger
        self._clock = clock
        self._per_minute = per_minute
        # on our monotonic clock
        self._reserved: deque[float] = deque()
        self._queue: deque[_QueuedRequest] = deque()
        self._handing_out: asyncio.Task[None] | None = None

    async def wait(self, *, may_go: Callable[[], bool]) -> int:
        """Wait for the next moment a request may be sent; returns how long that took, in ms.

        Args:
            may_go: whether the request is still to be sent, asked when its turn comes.
        """
        began = self._clock.monotonic()
        turn = _QueuedRequest(may_go, asyncio.get_running_loop().create_future())
        self._queue.append(turn)
        if self._handing_out is None:
            self._handing_out = asyncio.create_task(self._hand_out())
        await turn.has_come
        return int((self._clock.monotonic() - began) * 1000)

    async def _hand_out(self) -> None:
        """Release queued requests in order, each at its reserved time; several at once if their times have passed."""
        try:
            while self._drop_obsolete():
                if not self._reserved:
                    await self._reserve()
                    continue
                send_at_s = self._reserved[0]
                delay_s = send_at_s - self._clock.monotonic()
                # sleep before taking this time, and in parts, so that a stop or a 429 reaches every queued request
                while self._drop_obsolete() and self._reserved and self._reserved[0] == send_at_s:
                    if delay_s <= 0:
                        self._reserved.popleft()
                        self._queue.popleft().has_come.set_result(None)
                        break
                    await self._clock.sleep(min(delay_s, _PART_S))
                    delay_s -= _PART_S
        except Exception as error:  # noqa: BLE001  raised in the waiting tasks
            for turn in self._queue:
                if not turn.has_come.done():
                    turn.has_come.set_exception(error)
            self._queue.clear()
        finally:
            self._handing_out = None

    def _drop_obsolete(self) -> bool:
        """Release requests that will not be sent any more; returns whether any others are queued."""
        while self._queue and (self._queue[0].has_come.done() or not self._queue[0].may_go()):
            has_come = self._queue.popleft().has_come
            if not has_come.done():  # its task was cancelled
                has_come.set_result(None)
        return bool(self._queue)

    async def _reserve(self) -> None:
        now, at_s = self._clock.now(), self._clock.monotonic()
        send_times = await self._ledger.awrite(
            reserve_a_second, most=_LARGEST_RESERVATION, per_minute=self._per_minute, now=now, at_s=at_s
        )
        self._reserved.extend(at_s + (send_time - now).total_seconds() for send_time in send_times)

    def give_back(self) -> None:
        """The released request is not sent: the next one may go at once."""
        self._reserved.appendleft(self._clock.monotonic())

    async def cut(self, reset_s: float) -> None:
        """After a 429: wait for the reset, in that many seconds, and send more slowly afterwards."""
        self._reserved.clear()
        now, at_s = self._clock.now(), self._clock.monotonic()
        reset_at = now + timedelta(seconds=reset_s)
        await self._ledger.awrite(cut_rate, reset_at=reset_at, per_minute=self._per_minute, now=now, at_s=at_s)


@dataclass(frozen=True, slots=True)
class _QueuedRequest:
    """A request that waits until it may be sent."""

    may_go: Callable[[], bool]
    has_come: asyncio.Future[None]
