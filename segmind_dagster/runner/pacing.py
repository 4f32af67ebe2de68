"""When requests are sent, and when jobs are asked about.

Sending follows the account's shared rate (`ledger.rate`). Polling follows what jobs of the model really take:
the first look comes when the job may be done, not every second.
"""

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
    from segmind_dagster.runner.work import ClockPort

_PART_S = 1.0
_LARGEST_RESERVATION = 1000
_UNKNOWN_LATENCY_S = 5.0
_REMEMBERED = 50
_SCOUTS = 2
# how far jobs that are not done may push what others of their model wait for
_AT_MOST = 4


class RateLimiter:
    """This run's share of the account's request rate.

    Args:
        ledger: where the rate is shared.
        clock: the time.
        per_minute: the configured upper bound.
    """

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
                # slept while nobody holds the slot, and in parts, so that a stop or a 429 reaches all who wait
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


class PollSchedule:
    """How long jobs of one model take, learnt while they finish.

    Args:
        usual_s: what is known beforehand; None when nothing is.
        is_measured: whether that was measured with this account, rather than published for everybody.
        longest_s: the longest that one took with this account; None when none is known.
    """

    def __init__(self, usual_s: float | None, *, is_measured: bool = False, longest_s: float | None = None) -> None:
        self._usual_s = usual_s if usual_s is not None else _UNKNOWN_LATENCY_S
        self._seen: deque[float] = deque(maxlen=_REMEMBERED)
        self._at_least_s = 0.0
        self._longest_s = longest_s or 0.0
        # a published mean may be far off for what we ask: a few jobs are looked at early to find out
        self._scouts = 0 if is_measured else _SCOUTS

    def enlist(self) -> bool:
        """Whether the next job is one of the few that are looked at early."""
        if self._seen or not self._scouts:
            return False
        self._scouts -= 1
        return True

    def learn(self, latency_s: float) -> None:
        """A job of this model took that long."""
        self._seen.append(latency_s)
        self._longest_s = max(self._longest_s, latency_s)

    def learn_unfinished(self, elapsed_s: float) -> None:
        """A job of this model was not done after that long: until one is, the others need not look earlier."""
        self._at_least_s = max(self._at_least_s, elapsed_s)

    @property
    def expected_s(self) -> float:
        """What the next job will probably take."""
        if self._seen:
            return sorted(self._seen)[len(self._seen) // 2]
        # bounded: one job that hangs must not keep the others from being looked at
        return min(max(self._usual_s, self._at_least_s * 1.05), self._usual_s * _AT_MOST)

    def delay_s(self, elapsed_s: float, *, is_scout: bool = False) -> float:
        """How long to wait before the next look at a job that was submitted `elapsed_s` ago."""
        expected = self.expected_s
        if elapsed_s < expected * 0.9:
            until_expected = max(expected - elapsed_s, 0.05)
            return min(max(elapsed_s, 0.25), until_expected) if is_scout else until_expected
        # later looks: a twentieth of the time so far, within what the provider advises for long jobs
        return min(max(0.05 * max(elapsed_s, expected), 0.1), 10.0)

    def over_s(self) -> float:
        """When a job must be over: after the longest that was seen, else as late as it is polled for."""
        return self._longest_s or self.deadline_s()

    def deadline_s(self) -> float:
        """When a job is left to a later run: it stays recorded, and is collected then."""
        return max(600.0, 10 * self.expected_s)
