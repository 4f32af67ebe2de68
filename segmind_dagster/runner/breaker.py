"""The circuit breaker of one model: whether another of its generations may be submitted now. Pure.

Closed: all may go. Half open, for a model that has never delivered here or that a person tries again after a stop:
three scouts may go. Open, after three paid outputs in a row that could not be used: none may go.

Only paid outputs count. A scout that ends in any other way is replaced by the next one, so that no task waits for a
verdict that cannot come. Which tasks wait, and the messages, are in `admission`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

SCOUTS: Final = 3

BreakerState = Literal["closed", "half_open", "open"]
BreakerAnswer = Literal["go", "wait", "stop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitBreaker:
    """The breaker of one model; immutable, each event returns a new one.

    Args:
        state: closed, half open or open.
        bad: paid outputs that could not be used, since the last good one, or since a person tried again.
        in_flight: scouts that have no ending yet.
    """

    state: BreakerState = "closed"
    bad: int = 0
    in_flight: int = 0

    @classmethod
    def at_start(cls, *, has_delivered: bool, bad: int, is_by_person: bool) -> CircuitBreaker:
        """The breaker at the start of a run.

        Args:
            has_delivered: whether an output of the model was ever stored.
            bad: its paid outputs that could not be used, since the last good one.
            is_by_person: whether a person asked for the run: that tries a stopped model again, a sensor's does not.
        """
        if bad >= SCOUTS:
            return cls(state="half_open") if is_by_person else cls(state="open", bad=bad)
        return cls(state="closed" if has_delivered else "half_open", bad=bad)

    def answer(self) -> BreakerAnswer:
        """Whether one more may be submitted."""
        match self.state:
            case "closed":
                return "go"
            case "open":
                return "stop"
            case "half_open":
                return "go" if self.in_flight + self.bad < SCOUTS else "wait"

    def sent(self) -> CircuitBreaker:
        """One more was submitted."""
        return replace(self, in_flight=self.in_flight + 1)

    def landed(self) -> CircuitBreaker:
        """One that was submitted has ended, in whatever way."""
        return replace(self, in_flight=self.in_flight - 1)

    def delivered(self) -> CircuitBreaker:
        """An output was verified and stored."""
        return replace(self, state="closed", bad=0)

    def disappointed(self) -> CircuitBreaker:
        """A paid output cannot be used."""
        bad = self.bad + 1
        return replace(self, bad=bad, state="open" if bad >= SCOUTS else self.state)
