"""Money inside one transaction: running totals, open reservations, reported prices.

What the caps allow is decided in `lifecycle.budget` from the rows read here; `moves` and `writes` reserve and settle.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from segmind_dagster.errors import BudgetError, LedgerError
from segmind_dagster.ledger import statements
from segmind_dagster.ledger.records import Charge
from segmind_dagster.ledger.schema import whole_nanos
from segmind_dagster.lifecycle.budget import REPORTABLE, Budget, Exposure, ReportedPrice, ScopeNames, with_report

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from sqlalchemy import Connection

    from segmind_dagster.lifecycle.budget import Refused, Scope, Spend
    from segmind_dagster.lifecycle.generation import Claim


_FREE = Decimal(0)
_A_DAY = timedelta(days=1)
_AWAITED = frozenset({"submitting", "submitted"})
_NEVER = datetime.max.replace(tzinfo=UTC)


def exposures(connection: Connection, *, day: date, since: datetime) -> list[Exposure]:
    """Open reservations, and charges since a time without a reported cost, of all runs.

    Args:
        connection: the ledger.
        day: the UTC day that is counted apart; all else counts as of the day before.
        since: the moment.
    """
    begins = datetime.combine(day, time(), UTC)
    rows = connection.execute(statements.EXPOSURES, {"day_begins": begins, "day_ends": begins + _A_DAY, "since": since})
    found = []
    for row in rows:
        is_open = row.cost_usd is None
        each_usd = row.reserved_usd if is_open else row.cost_usd
        for of_day, count in ((day, row.of_day), (day - _A_DAY, row.attempts - row.of_day)):
            if count:
                found.append(
                    Exposure(
                        model_slug=row.model_slug,
                        scopes=ScopeNames(of_day.isoformat(), row.run_id or row.owner, row.prompt_set),
                        reserved_usd=row.reserved_usd,
                        count=count,
                        counted_usd=each_usd * count,
                        is_awaited=row.state in _AWAITED,
                        is_open=is_open,
                    )
                )
    return found


def open_exposures(connection: Connection, *, day: date) -> list[Exposure]:
    """Everything that is sent and not charged yet, of all runs; of one day, or of other days."""
    return [each for each in exposures(connection, day=day, since=_NEVER) if each.is_open]


def reported_prices(connection: Connection, slugs: Collection[str]) -> dict[str, ReportedPrice]:
    """The recently reported prices of these models."""
    rows = connection.execute(statements.PRICES, {"slugs": sorted(slugs)})
    return {row.model_slug: ReportedPrice(row.highest_usd, row.reported_at) for row in rows}


def budget(connection: Connection, spends: Sequence[Spend], *, now: datetime) -> Budget:
    """The budget for deciding about what is about to be sent."""
    exposed = exposures(connection, day=now.astimezone(UTC).date(), since=now - REPORTABLE)
    slugs = {spend.model_slug for spend in spends} | {each.model_slug for each in exposed}
    return Budget(
        committed=committed(connection, {name for spend in spends for name in spend.scopes}),
        exposures=exposed,
        prices=reported_prices(connection, slugs),
        now=now,
    )


def over_budget(refused: Refused) -> BudgetError:
    """The error for a refused claim."""
    return BudgetError(
        refused.explain("the next generation needs"),
        scope=refused.scope,
        is_final=refused.is_final,
        awaits_others=refused.awaits_others,
        awaits_report=refused.awaits_report,
    )


def committed(connection: Connection, names: Collection[str]) -> dict[tuple[Scope, str], Decimal]:
    """The sum of charges and reservations, by scope and name."""
    rows = connection.execute(statements.COMMITTED, {"names": sorted(names)})
    return {(row.scope, row.name): row.committed_usd for row in rows}


def report_prices(connection: Connection, costs: Iterable[tuple[str, Decimal | None, datetime]]) -> None:
    """Record reported prices of models; None or $0 is no price.

    Args:
        connection: the ledger, with a write transaction.
        costs: model slug, cost in USD and when it was reported.
    """
    reported = [(slug, whole_nanos(cost_usd), at) for slug, cost_usd, at in costs if cost_usd]
    if not reported:
        return
    before = reported_prices(connection, {slug for slug, _, _ in reported})
    prices = dict(before)
    for slug, cost_usd, at in reported:
        prices[slug] = with_report(prices.get(slug), cost_usd, at)
    changes = [
        {"model_slug": slug, "highest_usd": price.highest_usd, "reported_at": price.reported_at}
        for slug, price in prices.items()
        if price != before.get(slug)
    ]
    if changes:
        connection.execute(statements.enter_prices(connection.dialect.name), changes)


@dataclass(frozen=True, slots=True)
class Reservation:
    """The reservation or cost of one attempt, the caps it counts against, and the source of its cost.

    Args:
        amount_usd: charged, or reserved until that is known.
        scopes: whose totals it is part of.
        model_slug: the model.
        source: who said so.
        is_charged: whether it was charged already.
    """

    amount_usd: Decimal
    scopes: ScopeNames
    model_slug: str
    source: str
    is_charged: bool

    def settled(self, cost_usd: Decimal | None, *, source: str, estimate_usd: Decimal | None) -> Charge:
        """Settle with a cost, or with an estimate.

        Args:
            cost_usd: as reported; None when it was not.
            source: who did.
            estimate_usd: what it is likely to have cost, if none was reported; what is reserved may be more.
        """
        before_usd = self.amount_usd if self.is_charged else _FREE
        if cost_usd is not None:
            usd = whole_nanos(cost_usd)
        elif self.is_charged or estimate_usd is None:
            usd, source = self.amount_usd, self.source
        else:
            usd, source = min(self.amount_usd, whole_nanos(estimate_usd)), self.source
        return Charge(usd, source, usd - before_usd)


def reservations(connection: Connection, held: Collection[Claim]) -> dict[Claim, Reservation]:
    """The reservations of the attempts of these claims; attempts not in the ledger are left out.

    Args:
        connection: the ledger.
        held: the claims.
    """
    rows = connection.execute(statements.RESERVED, {"ids": sorted({each.generation_id for each in held})})
    wanted = {(each.generation_id, each.attempt): each for each in held}
    return {
        wanted[row.generation_id, row.attempt]: Reservation(
            row.usd,
            ScopeNames(row.intent_at.date().isoformat(), row.run, row.prompt_set),
            row.model_slug,
            # a reported amount stays when a later look has none
            row.cost_source or "estimated",
            row.is_charged,
        )
        for row in rows
        if (row.generation_id, row.attempt) in wanted
    }


def missing(held: Claim) -> LedgerError:
    """The error for an attempt without a row."""
    return LedgerError(f"Attempt {held.attempt} of generation {held.generation_id} is not in the ledger.")


class Totals:
    """Changes of running totals inside one transaction, written at once.

    Args:
        connection: the ledger, with a write transaction.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._changes: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)

    def add(self, scopes: ScopeNames, difference_usd: Decimal) -> None:
        """Add an amount; a negative one subtracts."""
        for key in scopes.pairs():
            self._changes[key] += difference_usd

    def write(self) -> None:
        """Write the changes to the ledger."""
        changes = [
            {"scope": scope, "name": name, "committed_usd": usd} for (scope, name), usd in self._changes.items() if usd
        ]
        if changes:
            self._connection.execute(statements.add_spending(self._connection.dialect.name), changes)
        self._changes.clear()
