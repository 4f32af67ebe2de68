"""What a run has left at the provider: paid, or possibly paid, and not stored; with the words for it.

Reported at the end of every run, however it ends: in its report, in its error, by a script on stderr. Which runs are
complete is decided from the report; `delivery` fetches what is outstanding.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from segmind_dagster.errors import SegmindDagsterError
from segmind_dagster.ledger import reads

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from segmind_dagster.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Outstanding:
    """Generations that are paid for, or may be, and whose output is not stored.

    Args:
        accepted: accepted by the provider.
        in_doubt: submitted, and the answer was lost.
        usd: what they cost together, or may cost as far as that is known.
    """

    accepted: int = 0
    in_doubt: int = 0
    usd: Decimal = Decimal(0)

    def __bool__(self) -> bool:
        return bool(self.accepted or self.in_doubt)

    def sentence(self) -> str:
        """The message for people, with the command that helps."""
        parts = [f"{self.accepted} accepted by Segmind"] if self.accepted else []
        parts += [f"{self.in_doubt} whose outcome is not known"] if self.in_doubt else []
        count = self.accepted + self.in_doubt
        advice = " Decide what it cannot find with `segmind-dagster resolve`." if self.in_doubt else ""
        return (
            f"{count} generation{'s are' if count != 1 else ' is'} paid for, or may be, and not stored: "
            f"{' and '.join(parts)}, ${self.usd:.4f} in all. `segmind-dagster collect`, or the next run, fetches them "
            f"and does not pay again; Segmind keeps outputs for 7 days.{advice}"
        )


NOTHING: Final = Outstanding()


def outstanding(ledger: Ledger, generation_ids: Collection[str]) -> Outstanding:
    """Which of these generations are outstanding.

    Args:
        ledger: where it is recorded.
        generation_ids: what a run was about.
    """
    rows = ledger.read(reads.outstanding, sorted(generation_ids))
    in_doubt = sum(state in {"submitting", "unknown"} for state, _ in rows)
    return Outstanding(len(rows) - in_doubt, in_doubt, sum((usd for _, usd in rows), Decimal(0)))


@contextmanager
def warned_about_outstanding(ledger: Ledger, generation_ids: Collection[str]) -> Iterator[None]:
    """Add what is outstanding to any error that ends the block."""
    try:
        yield
    except BaseException as error:
        # an unreadable ledger has its own error
        with suppress(SegmindDagsterError):
            if left := outstanding(ledger, generation_ids):
                error.add_note(left.sentence())
        raise
