"""The queue of generations that wait for headroom under a cap: which of them ask again, and when.

Whether a cap allows a generation is decided in `lifecycle.budget`, inside the claim. A waiting generation asks again
when something of this run ends or a cost is reported: one for each cap, and twice as many with every grant. So a
thousand waiting generations do not ask a thousand times, and all go within a few commits once there is headroom.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from segmind_dagster.errors import BudgetError
    from segmind_dagster.lifecycle.generation import Generation
    from segmind_dagster.runner.ports import ClockPort

# headroom freed by other runs, a raised cap and a new day trigger no event here
_ASK_EVERY_S = 2.0
# how long a run with nothing in flight waits for what other runs have in flight
_OTHERS_S = 300.0


class Headroom:
    """Generations of one run that wait for headroom under a cap.

    Args:
        clock: the time.
        may_come: whether anything else of this run may free headroom, besides what is counted here.
    """

    def __init__(self, clock: ClockPort, *, may_come: Callable[[], bool]) -> None:
        self._clock = clock
        self._may_come = may_come
        self._in_flight = 0
        self._asking = 0
        self._changes = 0
        self._waiting: defaultdict[str, deque[asyncio.Future[None]]] = defaultdict(deque)
        self._alone_since: float | None = None
        self._ticking: asyncio.Task[None] | None = None

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """Count a generation as in flight; when it ends, another may go."""
        self._in_flight += 1
        self._alone_since = None
        try:
            yield
        finally:
            self._in_flight -= 1
            self.changed()

    @contextmanager
    def asking(self) -> Iterator[int]:
        """A claim is being decided, and may free headroom later. Yields the number of changes before it."""
        self._asking += 1
        try:
            yield self._changes
        finally:
            self._asking -= 1

    def changed(self) -> None:
        """There may be headroom: one waiting generation asks for each cap."""
        self._changes += 1
        for line in self._waiting.values():
            _wake(line, 1)

    def granted(self) -> None:
        """One was granted: two more ask."""
        for line in self._waiting.values():
            _wake(line, 2)

    async def wait(self, generation: Generation, refused: BudgetError, changes: int) -> bool:
        """Wait until there may be headroom; False, at once, when none can come.

        Args:
            generation: what was refused.
            refused: why.
            changes: what `asking` yielded: headroom may have come since the refusal was decided.
        """
        line = self._waiting[f"set {generation.prompt_set}" if refused.scope == "set" else ""]
        has_changed = changes != self._changes
        if refused.is_final or not (has_changed or self._is_hopeful(refused)):
            self._wake_all()
            return False
        if has_changed and not line:
            return True
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.append(turn)
        if self._ticking is None or self._ticking.done():
            self._ticking = asyncio.create_task(self._ask_now_and_then())
        await turn
        return True

    async def close(self) -> None:
        """Wake everything that waits."""
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
        self._wake_all()

    def _is_hopeful(self, refused: BudgetError) -> bool:
        """Whether anything may free headroom: in this run, or for a while in others."""
        if self._in_flight or self._asking or self._may_come():
            self._alone_since = None
            return True
        if not refused.awaits_others:
            return False
        if self._alone_since is None:
            self._alone_since = self._clock.monotonic()
        return self._clock.monotonic() - self._alone_since < _OTHERS_S

    async def _ask_now_and_then(self) -> None:
        while any(self._waiting.values()):
            await self._clock.sleep(_ASK_EVERY_S)
            self.changed()

    def _wake_all(self) -> None:
        for line in self._waiting.values():
            _wake(line, len(line))


def _wake(line: deque[asyncio.Future[None]], most: int) -> None:
    for _ in range(min(most, len(line))):
        turn = line.popleft()
        if not turn.done():
            turn.set_result(None)
