"""How many generations a run has at the provider, and how many at hand, at once.

A generation gives its place at the provider up as soon as the provider is done with it: fetching and verifying its
output keeps nobody from being submitted, as long as what is at hand stays bounded too.
"""

from __future__ import annotations

import asyncio

_AT_HAND = 2


class Places:
    """The places of one run.

    Args:
        at_provider: generations at the provider at once; so many again may be on their way to the disk.
    """

    def __init__(self, at_provider: int) -> None:
        self._at_provider = asyncio.Semaphore(at_provider)
        self._at_hand = asyncio.Semaphore(at_provider * _AT_HAND)
        self._inside: set[str] = set()

    async def take(self, generation_id: str) -> None:
        """Wait for a place."""
        await self._at_hand.acquire()
        await self._at_provider.acquire()
        self._inside.add(generation_id)

    def finish(self, generation_id: str) -> None:
        """The provider is done with it."""
        if generation_id in self._inside:
            self._inside.discard(generation_id)
            self._at_provider.release()

    def leave(self, generation_id: str) -> None:
        """It has its ending."""
        self.finish(generation_id)
        self._at_hand.release()
