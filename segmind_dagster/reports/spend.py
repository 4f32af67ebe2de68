"""The spend reconciliation: ledger, Segmind's history and the balance compared, as tables beside them.

What is asked is in `spend_sql`, what the answers mean in `reconciliation`, what the checks say of it in
`checks.spend`. The ledger is asked as well, because rows that are not loaded yet are no reason to worry.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dlt

from segmind_dagster.gateway.redaction import redactor_of
from segmind_dagster.ledger import check_reads, reads
from segmind_dagster.lifecycle.states import IN_PROGRESS
from segmind_dagster.reports import reconciliation, spend_sql
from segmind_dagster.reports.queries import ask_in_pages, has_tables
from segmind_dagster.reports.spend_reach import Reach
from segmind_dagster.reports.summaries import fitted, read_rows, summary_source
from segmind_dagster.source import history, tables
from segmind_dagster.source.pipeline import warehouse

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from dlt.extract.source import DltSource

    from segmind_dagster.ledger import Ledger
    from segmind_dagster.settings import Settings

_ABOUT = {
    "spend_unexplained": "Charges in Segmind's history that our ledger does not account for, since our first POST.",
    "spend_paid_twice": (
        "Generations that were charged more than once, with every request id: by accident, or because a person decided "
        "to buy them again."
    ),
    "spend_not_held": "Charges for which there is no output here, and until when it can be fetched.",
    "spend_cost_differences": "Charges on which our ledger and Segmind's history do not agree.",
    "spend_balance": "What the balance did between two looks at it, beside what history and ledger say was charged.",
    "spend_runway": "How long the balance lasts at the rate of the week before each look at it.",
}


def spend_source(settings: Callable[[], Settings]) -> DltSource:
    """The reconciliation as a dlt source: each resource asks the warehouse it is loaded into, and the ledger.

    Settings are read when a resource is extracted, not when it is built.
    """

    def rows(pipeline: Any, name: str) -> list[dict[str, Any]]:
        sources = _SpendSources(pipeline, settings())
        sources.remember(dlt.current.resource_state(name))
        return [{**row, "api_origin": sources.origin} for row in _ANSWERS[name](sources)]

    return summary_source({
        name: (columns, _ABOUT[name], rows) for name, columns in tables.SPEND_COLUMNS.items()
    })  # fmt: skip


class _SpendSources:
    """The warehouse and the ledger of one API and account."""

    def __init__(self, pipeline: Any, settings: Settings) -> None:
        self.settings = settings
        self.origin = settings.api_origin
        self._pipeline = pipeline
        # the history keeps how far it was read with dlt's state
        state = dlt.current.source_state().get("resources", {}).get(history.RESOURCE, {})
        self.reading = history.HistoryCoverage.of(state, self.origin)

    def remember(self, state: dict[str, Any]) -> None:
        """Keep with the table until when the history was compared: it may have been read again when it is looked at."""
        state.pop(self.origin, None)
        if self.reading is not None and self.has_history:
            self.reading.remember(state, self.origin)

    def has(self, *names: str) -> bool:
        return has_tables(self._pipeline, *names)

    @property
    def has_history(self) -> bool:
        return self.reading is not None and self.has(history.RESOURCE)

    def ask(self, sql: str) -> Iterator[dict[str, Any]]:
        for row in ask_in_pages(self._pipeline, sql, api_origin=self.origin):
            yield fitted(row, {name: _TYPES.get(name, _TEXT) for name in row})


_TEXT = {"data_type": "text"}
_TYPES: Mapping[str, Any] = {
    name: hints
    for columns in (
        tables.ATTEMPT_COLUMNS, tables.HISTORY_COLUMNS, tables.CREDITS_COLUMNS, *tables.SPEND_COLUMNS.values(),
    )
    for name, hints in columns.items()
} | {"first_at": {"data_type": "timestamp"}}  # fmt: skip


def _unexplained(sources: _SpendSources) -> list[dict[str, Any]]:
    if not sources.has_history or not sources.has("attempts"):
        return []
    from segmind_dagster.data_folder import opened

    (first,) = sources.ask(spend_sql.FIRST_INTENT)
    rows = ({**row, "request_body": _parsed(row["request_body"])} for row in sources.ask(spend_sql.NOT_OURS))
    with opened(sources.settings) as (ledger, _):
        return reconciliation.unexplained(
            rows,
            since=first["first_at"],
            owned=lambda ids: ledger.read(reads.owned_requests, ids),
            # as the history was redacted before it was loaded
            unanswered=[
                replace(each, body=redactor_of(sources.settings).values(each.body))
                for each in ledger.read(reads.unanswered)
            ],
        )


def _paid_twice(sources: _SpendSources) -> list[dict[str, Any]]:
    if not sources.has("attempts"):
        return []
    return reconciliation.paid_twice(sources.ask(spend_sql.charged_again(with_history=sources.has_history)))


def _not_held(sources: _SpendSources) -> list[dict[str, Any]]:
    if not sources.has("attempts"):
        return []
    rows = list(sources.ask(spend_sql.charged_in_vain(with_history=sources.has_history)))
    now = datetime.now(UTC)
    settled = _settled(sources.settings, [row["generation_id"] for row in rows]) if rows else frozenset()
    return reconciliation.not_held(rows, settled=settled, now=now)


def _settled(settings: Settings, generation_ids: Sequence[str]) -> Collection[str]:
    """Of these generations, those that are stored by now or that a run is at."""
    from segmind_dagster.data_folder import opened

    with opened(settings) as (ledger, _):
        known = ledger.read(reads.snapshot, generation_ids, is_alive=ledger.liveness())
    return {
        generation_id
        for generation_id, record in known.items()
        if record.state == "succeeded" or (record.state in IN_PROGRESS and record.is_owner_alive)
    }


def _cost_differences(sources: _SpendSources) -> list[dict[str, Any]]:
    if sources.reading is None or not sources.has("attempts", history.RESOURCE):
        return []
    return reconciliation.cost_differences(
        sources.ask(spend_sql.DIFFERENT), covered_from=sources.reading.covered_from, read_at=sources.reading.read_at
    )


def _balance(sources: _SpendSources) -> list[dict[str, Any]]:
    if not sources.has("credits"):
        return []
    is_reported = sources.has_history and sources.has("attempts")
    return reconciliation.balance_windows(
        list(sources.ask(spend_sql.BALANCES)),
        sources.ask(spend_sql.CHARGES) if is_reported else (),
        covered_from=sources.reading.covered_from if is_reported and sources.reading else None,
        read_at=sources.reading.read_at if is_reported and sources.reading else None,
    )


def _runway(sources: _SpendSources) -> list[dict[str, Any]]:
    return reconciliation.runways(list(sources.ask(spend_sql.BALANCES))) if sources.has("credits") else []


_ANSWERS: Mapping[str, Callable[[_SpendSources], list[dict[str, Any]]]] = {
    "spend_unexplained": _unexplained,
    "spend_paid_twice": _paid_twice,
    "spend_not_held": _not_held,
    "spend_cost_differences": _cost_differences,
    "spend_balance": _balance,
    "spend_runway": _runway,
}


def _parsed(body: Any) -> Any:
    """A JSON column, which some destinations answer as text."""
    return json.loads(body) if isinstance(body, str) else body


def read_spend(settings: Settings, names: Sequence[str]) -> dict[str, tuple[list[dict[str, Any]], Reach]]:
    """These tables of `tables.SPEND_COLUMNS` as they were loaded last, each with how far it reaches."""
    from segmind_dagster.data_folder import opened

    with warehouse(settings, purpose="reading the reconciliation") as pipeline:
        rows = {name: read_rows(pipeline, name, tables.SPEND_COLUMNS[name]) for name in names}
        readings = {name: reading_of(pipeline, name, settings.api_origin) for name in names}
    with opened(settings) as (ledger, _):
        return {name: (rows[name], _reach(ledger, readings[name])) for name in names}


def reading_of(pipeline: Any, name: str, api_origin: str) -> history.HistoryCoverage | None:
    """How far the history had been read when this table was loaded last; None when it never was.

    Args:
        pipeline: of the warehouse.
        name: `request_history`, or a table that was compared with it.
        api_origin: whose history.
    """
    schema: Any = pipeline.default_schema_name
    states = pipeline.state.get("sources", {}).get(schema, {}).get("resources", {})
    return history.HistoryCoverage.of(states.get(name, {}), api_origin)


def _reach(ledger: Ledger, reading: history.HistoryCoverage | None) -> Reach:
    since, until = (reading.covered_from, reading.read_at) if reading else (None, None)
    has_compared, newer, newer_usd = ledger.read(check_reads.charged_by_then, since=since, until=until)
    return Reach(
        read_at=until, covered_from=since, has_compared=has_compared, newer=newer, newer_usd=newer_usd
    )  # fmt: skip
