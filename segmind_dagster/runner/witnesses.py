"""Whether a reading of the history reaches far enough to prove that something is not in it. Pure.

A history may be late: then it leaves out what arrived as well. Requests whose acceptance we have seen bear witness:
those that were sent at the time of a lost one, or after it, must be listed before its absence says anything.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Container, Iterable
    from datetime import datetime

BEFORE = timedelta(minutes=1)
"""How much earlier than the lost one a witness may have been sent, if it was accepted later."""

Testimony = Literal["reached", "late", "silent"]
"""The history has come so far; it leaves out what it should have by now; nobody can tell."""


class Witness(NamedTuple):
    """A request that the provider has accepted, by our own books.

    Args:
        request_id: the provider's id.
        model_slug: what was called.
        intent_at: when its intent was recorded.
        submitted_at: when its acceptance was.
    """

    request_id: str
    model_slug: str
    intent_at: datetime
    submitted_at: datetime


def testimony(
    witnesses: Iterable[Witness], listed: Container[str], *, sent_at: datetime, early: datetime, late: datetime
) -> Testimony:
    """What witnesses say of a history in which something that was sent is not found.

    Args:
        witnesses: requests to the same endpoint as the lost one.
        listed: request ids in the history.
        sent_at: when the lost one was sent.
        early: whatever was accepted up to then has to be listed; the first one, if none was.
        late: what was accepted after that may well not be listed yet.
    """
    heard = [each for each in witnesses if each.intent_at >= sent_at - BEFORE and sent_at <= each.submitted_at <= late]
    if not heard:
        return "silent"
    until = max(early, min(each.submitted_at for each in heard))
    are_listed = all(each.request_id in listed for each in heard if each.submitted_at <= until)
    return "reached" if are_listed else "late"
