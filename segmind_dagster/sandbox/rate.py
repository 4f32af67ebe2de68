"""The account's rate limit: a fixed window, as Segmind's reset header implies.

Counts and decides; the 429 itself is written by the server's gate.
"""

from __future__ import annotations


class FixedWindow:
    """Requests per window, and the most there ever were in one.

    Args:
        window_s: length of a window; windows start at multiples of it.
        limit: requests allowed in one window; None for no limit. May be changed at any time.
    """

    def __init__(self, *, window_s: float, limit: int | None) -> None:
        self.limit = limit
        self.peak = 0
        self.refused = 0
        self._window_s = window_s
        self._window = -1
        self._count = 0

    def refuse_until(self, now: float) -> float | None:
        """Count a request, `now` in UTC epoch seconds; when it is one too many, the time at which the window ends."""
        window = int(now // self._window_s)
        if window != self._window:
            self._window, self._count = window, 0
        self._count += 1
        self.peak = max(self.peak, self._count)
        if self.limit is None or self._count <= self.limit:
            return None
        self.refused += 1
        return (window + 1) * self._window_s
