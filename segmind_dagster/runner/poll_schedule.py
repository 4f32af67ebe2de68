"""When jobs are polled: it follows the real latency of the model.

The first poll comes when the job may be done, not every second.
"""

from __future__ import annotations

from collections import deque

_UNKNOWN_LATENCY_S = 5.0
SHORTEST_DEADLINE_S = 600.0
_REMEMBERED = 50
_SCOUTS = 2
# how far unfinished jobs may raise the expected latency of their model
_AT_MOST = 4


def counted_s(ago_s: float) -> float:
    """For how long a job of another run counts as polled: at least half of its polls are still to come.

    Args:
        ago_s: when it was submitted, in seconds before now.
    """
    return min(max(ago_s, 0.0), SHORTEST_DEADLINE_S / 2)


class PollSchedule:
    """The latency of one model, learnt from its jobs.

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
        # a published mean may be far off for our parameters: a few jobs are polled early to find out
        self._scouts = 0 if is_measured else _SCOUTS

    def enlist(self) -> bool:
        """Whether the next job is one of the few that are polled early."""
        if self._seen or not self._scouts:
            return False
        self._scouts -= 1
        return True

    def learn(self, latency_s: float) -> None:
        """A job of this model took that long."""
        self._seen.append(latency_s)
        self._longest_s = max(self._longest_s, latency_s)

    def learn_unfinished(self, elapsed_s: float) -> None:
        """A job of this model was not done after that long: until one is, others are not polled earlier."""
        self._at_least_s = max(self._at_least_s, elapsed_s)

    @property
    def expected_s(self) -> float:
        """What the next job will probably take."""
        if self._seen:
            return sorted(self._seen)[len(self._seen) // 2]
        # bounded: one hanging job must not delay the polls of the others
        return min(max(self._usual_s, self._at_least_s * 1.05), self._usual_s * _AT_MOST)

    def delay_s(self, elapsed_s: float, *, is_scout: bool = False) -> float:
        """How long to wait before the next poll of a job that was submitted `elapsed_s` ago."""
        expected = self.expected_s
        if elapsed_s < expected * 0.9:
            until_expected = max(expected - elapsed_s, 0.05)
            return min(max(elapsed_s, 0.25), until_expected) if is_scout else until_expected
        # later polls: a twentieth of the time so far, within what the provider advises for long jobs
        return min(max(0.05 * max(elapsed_s, expected), 0.1), 10.0)

    def likely_over_s(self) -> float:
        """When a job is probably over: after the longest that was seen, done or not, else twice what is expected."""
        return max(self._longest_s, self._at_least_s) or 2 * self.expected_s

    def over_s(self) -> float:
        """When a job must be over: after the longest latency seen, else at its poll deadline."""
        return self._longest_s or self.deadline_s()

    def deadline_s(self) -> float:
        """The poll deadline: then the job is left to a later run, which collects it."""
        return max(SHORTEST_DEADLINE_S, 10 * self.expected_s)
