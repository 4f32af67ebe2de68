"""Limits how many generations a run has at the provider, and how many in all, at once; submissions go first.

A generation counts against the limit only until the provider is done with it: fetching and verifying its output does
not hold submissions back, as long as the total stays bounded too. While hundreds are being submitted at once, outputs
wait for a moment: they can be stored while the provider works on the new jobs.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from segmind_dagster.runner.ports import ClockPort

_AT_HAND = 2
# more concurrent submissions than Segmind's rate limit allows outside a burst
_BURST = 32
_PART_S = 0.05
_LONGEST_PARTS = 60


class ConcurrencyLimit:
    """The concurrency limit of one run.

    Args:
        at_provider: generations at the provider at once; as many again may be being stored.
        clock: the time.
    """

    def __init__(self, at_provider: int, clock: ClockPort) -> None:
        self._clock = clock
        self._submitting = 0
        self._at_provider = asyncio.Semaphore(at_provider)
        self._at_hand = asyncio.Semaphore(at_provider * _AT_HAND)
        self._inside: set[str] = set()

    async def acquire(self, generation_id: str) -> None:
        """Wait until one more generation may start."""
        await self._at_hand.acquire()
        await self._at_provider.acquire()
        self._inside.add(generation_id)

    def left_provider(self, generation_id: str) -> None:
        """The provider is done with this generation."""
        if generation_id in self._inside:
            self._inside.discard(generation_id)
            self._at_provider.release()

    def release(self, generation_id: str) -> None:
        """This generation has ended."""
        self.left_provider(generation_id)
        self._at_hand.release()

    @contextmanager
    def submitting(self) -> Iterator[None]:
        """Count a submission until its answer arrives; outputs wait while there are many."""
        self._submitting += 1
        try:
            yield
        finally:
            self._submitting -= 1

    async def after_submission_burst(self) -> None:
        """Wait while many generations are being submitted, three seconds at most."""
        for _ in range(_LONGEST_PARTS):
            if self._submitting <= _BURST:
                return
            await self._clock.sleep(_PART_S)
