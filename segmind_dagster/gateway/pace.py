"""The pace of requests that are free: as fast as they come, until one is refused for the rate.

A session's own, and apart from the rate of submissions (`ledger.rate`): polls that come too often are no reason to buy
more slowly. After a refusal all of them wait for the window to open and then go one after the other; the gap doubles
with each window that refuses again, and closes while answers come.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

_FIRST_GAP_S: Final = 0.05
_LONGEST_GAP_S: Final = 2.0
# so much of the gap is left after an answer: it halves within some twenty
_CLOSING: Final = 0.97


class Pace:
    """When the next free request may be sent."""

    def __init__(self) -> None:
        self._gap_s = 0.0
        self._next_at = 0.0
        self._refused_at = 0.0
        self._refusals = 0

    async def turn(self) -> float:
        """Wait for one's turn; returns when that was, by the monotonic clock."""
        while self._gap_s:
            now, refusals = time.monotonic(), self._refusals
            mine = max(self._next_at, now)
            self._next_at = mine + self._gap_s
            if mine > now:
                await asyncio.sleep(mine - now)
            # refused again meanwhile: the window is another one, and the queue begins anew
            if self._refusals == refusals:
                break
        return time.monotonic()

    def accept(self) -> None:
        """One was answered."""
        gap_s = self._gap_s * _CLOSING
        self._gap_s = gap_s if gap_s >= _FIRST_GAP_S / 4 else 0.0

    def refuse(self, sent_at: float, wait_s: float) -> None:
        """One was refused for the rate.

        Args:
            sent_at: when its turn was; what was sent before the last refusal says nothing new.
            wait_s: until the window opens.
        """
        now = time.monotonic()
        opens_at = now + wait_s
        if sent_at < self._refused_at:
            self._next_at = max(self._next_at, opens_at)
            return
        self._gap_s = min(max(2 * self._gap_s, _FIRST_GAP_S), _LONGEST_GAP_S)
        self._next_at = opens_at
        self._refused_at = now
        self._refusals += 1
