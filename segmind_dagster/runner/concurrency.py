"""How many generations a run has at the provider, and how many in all, at once; and which go first.

A generation gives its place at the provider up as soon as the provider is done with it: fetching and verifying its
output keeps nobody from being submitted, as long as what is at hand stays bounded too. When hundreds are being
submitted at once, outputs wait for a moment: the provider works meanwhile, and they can be stored while it does.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from segmind_dagster.runner.ports import ClockPort

_AT_HAND = 2
# submissions under way at once that no rate limit of Segmind's lets come about except in a burst
_BURST = 32
_PART_S = 0.05
_LONGEST_PARTS = 60


class ConcurrencyLimit:
    """The places of one run.

    Args:
        at_provider: generations at the provider at once; so many again may be being stored.
        clock: the time.
    """

    def __init__(self, at_provider: int, clock: ClockPort) -> None:
        self._clock = clock
        self._submitting = 0
        self._at_provider = asyncio.Semaphore(at_provider)
        self._at_hand = asyncio.Semaphore(at_provider * _AT_HAND)
        self._inside: set[str] = set()

    async def acquire(self, generation_id: str) -> None:
        """Wait for a place."""
        await self._at_hand.acquire()
        await self._at_provider.acquire()
        self._inside.add(generation_id)

    def left_provider(self, generation_id: str) -> None:
        """The provider is done with it."""
        if generation_id in self._inside:
            self._inside.discard(generation_id)
            self._at_provider.release()

    def release(self, generation_id: str) -> None:
        """It has its ending."""
        self.left_provider(generation_id)
        self._at_hand.release()

    @contextmanager
    def submitting(self) -> Iterator[None]:
        """It may be sent now; until its answer is there, outputs leave it the way."""
        self._submitting += 1
        try:
            yield
        finally:
            self._submitting -= 1

    async def after_submission_burst(self) -> None:
        """Wait while many are being submitted, three seconds at most."""
        for _ in range(_LONGEST_PARTS):
            if self._submitting <= _BURST:
                return
            await self._clock.sleep(_PART_S)
