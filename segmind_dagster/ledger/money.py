"""Caps and running totals: what each UTC day, run and prompt set has spent, together with what is reserved.

When money is put aside and settled is decided in `moves` and `writes`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from segmind_dagster.errors import BudgetError, LedgerError
from segmind_dagster.ledger import statements
from segmind_dagster.ledger.records import Charge
from segmind_dagster.ledger.schema import whole_nanos

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from sqlalchemy import Connection

    from segmind_dagster.ledger.records import Caps, Claim


_FREE = Decimal(0)


class Purses(NamedTuple):
    """The names of those an attempt's cost counts against.

    Args:
        day: UTC day of the intent, ISO 8601.
        run: Dagster's id of the run, or the owner's own.
        set: key of the prompt set that pays.
    """

    day: str
    run: str
    set: str


@dataclass(frozen=True, slots=True)
class Reservation:
    """What one attempt has put aside or cost, against which caps it counts, and who said so.

    Args:
        amount_usd: charged, or put aside until that is known.
        purses: whose totals it is part of.
        source: who said so.
        is_charged: whether it was charged already.
    """

    amount_usd: Decimal
    purses: Purses
    source: str
    is_charged: bool

    def settled(self, cost_usd: Decimal | None, *, source: str, estimate_usd: Decimal | None) -> Settled:
        """What counts as charged now.

        Args:
            cost_usd: as somebody reported it; None when nobody did.
            source: who did.
            estimate_usd: what it is likely to have cost, if nobody did; what is put aside may be more.
        """
        before_usd = self.amount_usd if self.is_charged else _FREE
        if cost_usd is not None:
            usd = whole_nanos(cost_usd)
        elif self.is_charged or estimate_usd is None:
            usd, source = self.amount_usd, self.source
        else:
            usd, source = min(self.amount_usd, whole_nanos(estimate_usd)), self.source
        return Settled(usd, source, Charge(usd - before_usd, source == "estimated" and usd != before_usd))


class Settled(NamedTuple):
    """The cost of an attempt whose outcome is known.

    Args:
        usd: charged, or estimated.
        source: who said so.
        anew: what that adds to what was charged before.
    """

    usd: Decimal
    source: str
    anew: Charge


def reservations(connection: Connection, held: Collection[Claim]) -> dict[Claim, Reservation]:
    """What the attempts of these claims have put aside; those that are not in the ledger are left out.

    Args:
        connection: the ledger.
        held: the claims.
    """
    rows = connection.execute(statements.RESERVED, {"ids": sorted({each.generation_id for each in held})})
    wanted = {(each.generation_id, each.attempt): each for each in held}
    return {
        wanted[row.generation_id, row.attempt]: Reservation(
            row.usd,
            Purses(row.intent_at.date().isoformat(), row.run, row.prompt_set),
            # an amount that was reported once stays so when a later look brings none
            row.cost_source or "estimated",
            row.is_charged,
        )
        for row in rows
        if (row.generation_id, row.attempt) in wanted
    }


def missing(held: Claim) -> LedgerError:
    """The error that an attempt without its row amounts to."""
    return LedgerError(f"Attempt {held.attempt} of generation {held.generation_id} is not in the ledger.")


class Totals:
    """Running totals inside one transaction: read once, changed together.

    Args:
        connection: the ledger, with a write transaction.
        purses: whose totals are looked at before they are changed.
    """

    def __init__(self, connection: Connection, purses: Iterable[Purses] = ()) -> None:
        self._connection = connection
        self._committed: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
        self._changes: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
        names = {name for each in purses for name in each}
        if names:
            rows = connection.execute(statements.COMMITTED, {"names": sorted(names)})
            self._committed.update({(row.scope, row.name): row.committed_usd for row in rows})

    def reserve(self, caps: Caps, purses: Purses, needed_usd: Decimal, *, margin_usd: Decimal = _FREE) -> None:
        """Put money aside, if no cap stands in the way.

        Args:
            caps: the limits.
            purses: whose totals it counts against.
            needed_usd: what is put aside.
            margin_usd: what a cap has to leave free beside it.

        Raises:
            BudgetError: one does; nothing is put aside.
        """
        for scope, cap_usd in (("set", caps.set_usd), ("run", caps.run_usd), ("day", caps.day_usd)):
            used_usd = self._committed[scope, getattr(purses, scope)]
            if cap_usd is not None and used_usd + needed_usd + margin_usd > cap_usd:
                whose, remedy = _EXPLANATIONS[scope]
                raise BudgetError(
                    f"The {scope} cap stands in the way: ${used_usd:.4f} of ${cap_usd} is used "
                    f"or reserved {whose.format(purses)} and the next generation may cost ${needed_usd:.4f}. {remedy}.",
                    scope=scope,
                )
        self.add(purses, needed_usd)

    def add(self, purses: Purses, difference_usd: Decimal) -> None:
        """Count an amount, or take one back."""
        if not difference_usd:
            return
        for scope in purses._fields:
            key = scope, getattr(purses, scope)
            self._committed[key] += difference_usd
            self._changes[key] += difference_usd

    def write(self) -> None:
        """Bring the changes into the ledger."""
        changes = [
            {"scope": scope, "name": name, "committed_usd": usd} for (scope, name), usd in self._changes.items() if usd
        ]
        if changes:
            self._connection.execute(statements.add_spending(self._connection.dialect.name), changes)
        self._changes.clear()


_EXPLANATIONS: Mapping[str, tuple[str, str]] = {
    "set": ("by prompt set '{0.set}'", "Raise its `budget_usd`, or ask for less"),
    "run": ("by this run", "Raise SEGMIND_RUN_BUDGET_USD, or materialize again: the rest resumes"),
    "day": (
        "on {0.day} (UTC)",
        "Raise SEGMIND_DAILY_BUDGET_USD, or materialize again tomorrow: what is missing resumes by itself",
    ),
}
