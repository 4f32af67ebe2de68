"""The questions that runs and sensors ask all the time are answered from an index, not by reading everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from lab.ledger import NOON
from sqlalchemy import event, text

from segmind_dagster.ledger import leases, money, reads

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from segmind_dagster.ledger import Ledger

QUESTIONS: dict[str, tuple[Callable[[Connection], Any], set[str]]] = {
    "snapshot": (
        lambda connection: reads.snapshot(connection, ["a", "b"], is_alive=lambda *_: True),
        {"sqlite_autoindex_generations_1"},
    ),
    "snapshot, with failed runs": (
        lambda connection: reads.snapshot(
            connection, ["a", "b"], is_alive=lambda *_: True, uncounted_kinds={"no_credits"}
        ),
        {"sqlite_autoindex_generations_1", "attempts_failed"},
    ),
    "unfinished": (lambda connection: reads.unfinished(connection, is_alive=lambda *_: True), {"generations_open"}),
    "unfinished, with paid failures": (
        lambda connection: reads.unfinished(connection, is_alive=lambda *_: False, also_paid=True),
        {"generations_open", "sqlite_autoindex_generations_1"},
    ),
    "run": (lambda connection: leases.lease_of(connection, "me"), {"sqlite_autoindex_runs_1"}),
    "spent": (
        lambda connection: reads.spent(connection, run_id="run", day="2026-01-02", prompt_set="set"),
        {"sqlite_autoindex_spending_1"},
    ),
    "exposures": (lambda connection: money.exposures(connection, day=NOON.date(), since=NOON), {"attempts_unreported"}),
    "unreported": (lambda connection: reads.unreported(connection, since=NOON, most=5), {"attempts_unreported"}),
    "reported_prices": (
        lambda connection: money.reported_prices(connection, ["m"]),
        {"sqlite_autoindex_reported_prices_1"},
    ),
    "observed": (lambda connection: reads.observed(connection, ["m"]), {"attempts_by_model"}),
    "owned_requests": (lambda connection: reads.owned_requests(connection, ["r"]), {"attempts_by_request"}),
    "upload_url": (lambda connection: reads.upload_url(connection, "digest"), {"sqlite_autoindex_uploads_1"}),
    "set_rows of a set": (
        lambda connection: list(reads.set_rows(connection, resource="flux", prompt_sets=["set"])),
        {"sqlite_autoindex_set_generations_1", "sqlite_autoindex_generations_1"},
    ),
}


def plans(ledger: Ledger, question: Callable[[Connection], Any]) -> list[str]:
    """SQLite's plan of every statement that a question sends."""
    sent: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: Any) -> None:
        sent.append((statement, parameters))

    event.listen(ledger.engine, "before_cursor_execute", note)
    with ledger.reading() as connection:
        question(connection)
        event.remove(ledger.engine, "before_cursor_execute", note)
        asked = [(statement, given) for statement, given in sent if statement.startswith("SELECT")]
        assert asked
        return [
            row[3]
            for statement, given in asked
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", given)
        ]


@pytest.mark.parametrize(("question", "indexes"), QUESTIONS.values(), ids=QUESTIONS)
def test_a_query_uses_its_index(ledger: Ledger, question: Callable[[Connection], Any], indexes: set[str]) -> None:
    steps = plans(ledger, question)
    assert not [
        step for step in steps if step.startswith("SCAN") and "USING INDEX" not in step and "COVERING" not in step
    ]
    assert {index for index in indexes if any(f"INDEX {index} " in f"{step} " for step in steps)} == indexes


def test_totals_are_computed_from_an_index_alone(ledger: Ledger) -> None:
    assert plans(ledger, reads.totals) == ["SCAN generations USING COVERING INDEX generations_by_state"]


def test_open_and_unreported_attempts_are_read_from_a_partial_index(ledger: Ledger) -> None:
    steps = plans(ledger, lambda connection: money.exposures(connection, day=NOON.date(), since=NOON))
    assert steps == ["SCAN attempts USING COVERING INDEX attempts_unreported"]


def test_recent_attempts_of_a_model_are_read_in_their_order_without_sorting(ledger: Ledger) -> None:
    assert not [
        step for step in plans(ledger, lambda connection: reads.observed(connection, ["m"])) if "B-TREE" in step
    ]


def test_a_query_without_an_index_would_be_noticed(ledger: Ledger) -> None:
    steps = plans(
        ledger, lambda connection: connection.execute(text("SELECT error FROM generations WHERE error = 'x'"))
    )
    assert steps == ["SCAN generations"]
