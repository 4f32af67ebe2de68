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
        self._waiting: deque[_Waiting] = deque()
        self._handing_out: asyncio.Task[None] | None = None

    async def wait(self, *, may_go: Callable[[], bool]) -> int:
        """Wait for the next moment a request may be sent; returns how long that took, in ms.

        Args:
            may_go: whether there is still something to wait for, asked when the turn comes.
        """
        began = self._clock.monotonic()
        turn = _Waiting(may_go, asyncio.get_running_loop().create_future())
        self._waiting.append(turn)
        if self._handing_out is None:
            self._handing_out = asyncio.create_task(self._hand_out())
        await turn.has_come
        return int((self._clock.monotonic() - began) * 1000)

    async def _hand_out(self) -> None:
        """Give slots to those who wait, in their order, each at its moment: to all at once for whom it has come."""
        try:
            while self._drop_the_idle():
                if not self._reserved:
                    await self._reserve()
                    continue
                slot = self._reserved[0]
                delay_s = slot - self._clock.monotonic()
                # sleep without holding the slot, and in parts, so that a stop or a 429 reaches all who wait
                while self._drop_the_idle() and self._reserved and self._reserved[0] == slot:
                    if delay_s <= 0:
                        self._reserved.popleft()
                        self._waiting.popleft().has_come.set_result(None)
                        break
                    await self._clock.sleep(min(delay_s, _PART_S))
                    delay_s -= _PART_S
        except Exception as error:  # noqa: BLE001  raised by those who wait
            for turn in self._waiting:
                if not turn.has_come.done():
                    turn.has_come.set_exception(error)
            self._waiting.clear()
        finally:
            self._handing_out = None

    def _drop_the_idle(self) -> bool:
        """Let those go who need no slot any more; whether one is left who does."""
        while self._waiting and (self._waiting[0].has_come.done() or not self._waiting[0].may_go()):
            has_come = self._waiting.popleft().has_come
            if not has_come.done():  # its task was cancelled
                has_come.set_result(None)
        return bool(self._waiting)

    async def _reserve(self) -> None:
        now, at_s = self._clock.now(), self._clock.monotonic()
        rate_limiter = await self._ledger.awrite(
            reserve_a_second, most=_LARGEST_RESERVATION, per_minute=self._per_minute, now=now, at_s=at_s
        )
        self._reserved.extend(at_s + (slot - now).total_seconds() for slot in rate_limiter)

    def give_back(self) -> None:
        """The request whose turn it was is not sent: the next one may go at once."""
        self._reserved.appendleft(self._clock.monotonic())

    async def cut(self, reset_s: float) -> None:
        """A 429 came back: wait for the reset, which is so many seconds away, and go slower afterwards."""
        self._reserved.clear()
        now, at_s = self._clock.now(), self._clock.monotonic()
        reset_at = now + timedelta(seconds=reset_s)
        await self._ledger.awrite(cut_rate, reset_at=reset_at, per_minute=self._per_minute, now=now, at_s=at_s)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """One who waits for a slot."""

    may_go: Callable[[], bool]
    has_come: asyncio.Future[None]
