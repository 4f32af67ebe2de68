"""The large ledger is one that the product can read, and what should be looked up is not scanned for."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from bench.ledgers import fill
from bench.scale import ask_large_ledger, plan_large_set, query_plans, questions
from segmind_dagster.ledger import Ledger, open_ledger, reads, sensor_reads
from segmind_dagster.ledger.schema import METADATA
from segmind_dagster.lifecycle.next_step import FIRST_LOOK, KEPT, RETRYABLE, UNCOUNTED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS = 5000


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    url = f"sqlite:///{tmp_path_factory.mktemp('scale') / 'ledger.sqlite'}"
    ledger = open_ledger(url, api_origin="http://127.0.0.1:1", holds_outputs=lambda: None)
    ledger.write(fill, ROWS)
    yield ledger
    ledger.close()


def test_the_generated_ledger_has_consistent_sums(ledger: Ledger) -> None:
    totals = ledger.read(reads.totals)
    assert {state: count for state, (count, _) in totals.items()} == {
        "succeeded": ROWS - 2000, "failed": 1000, "submitted": 1000,
    }  # fmt: skip
    assert totals["succeeded"][1] == ledger.read(reads.charged) == (ROWS - 2000) * Decimal("0.0014")
    spent = ledger.read(reads.spent, run_id="run00001", day="2026-01-01", prompt_set="set_001")
    # every generation that did not fail committed something: its charge, or what was reserved for it
    assert spent.set_usd == (ROWS - 1000) // 100 * Decimal("0.0014")
    assert spent.run_usd == (ROWS - 1000) // 1000 * Decimal("0.0014")


def test_open_work_in_the_generated_ledger_is_found_by_the_sensors(ledger: Ledger) -> None:
    assert sum(each.generations for each in ledger.read(sensor_reads.held)) == 750
    look = {"first_look": FIRST_LOOK, "kept": KEPT}
    assert sum(each.generations for each in ledger.read(sensor_reads.loose, now=datetime.now(UTC), **look)) == 250
    work = ledger.read(sensor_reads.open_work, failed_kinds=RETRYABLE, uncounted_kinds=UNCOUNTED)
    assert sum(each.generations for each in work) == 1000
    assert {each.runs for each in work} == {2}


def test_generations_in_flight_are_read_back_with_their_body(ledger: Ledger) -> None:
    found = ledger.read(reads.unfinished, is_alive=lambda *_: False)
    assert len(found) == 1000
    assert {record.state for record in found} == {"submitted"}
    assert found[0].body["seed"] == ROWS - 1000


# these add up everything there is, and only `segmind-dagster status` asks them
SCANS = {"status: totals", "status: charged"}


def few_of(step: str) -> set[str]:
    """The table of a step that reads a partial index from end to end: what it holds is open, and open is few."""
    partial = {
        index.name: table.name
        for table in METADATA.tables.values()
        for index in table.indexes
        if index.dialect_options["sqlite"]["where"] is not None
    }
    return {table for index, table in partial.items() if step.endswith(f"INDEX {index}")}


def test_queries_of_runs_and_sensors_use_an_index(ledger: Ledger) -> None:
    tables = {table.name for table in METADATA.tables.values()}
    for name, _, question in questions(ledger):
        steps = query_plans(ledger, question)
        assert steps
        scans = [step for step in steps if step.startswith("SCAN") and step.split()[1] in tables - few_of(step)]
        assert bool(scans) is (name in SCANS), (name, scans)


def test_both_reports_name_their_measurements(tmp_path: Path) -> None:
    asked = "\n".join(ask_large_ledger(tmp_path / "ledger", ROWS, (1000, 100)))
    planned = "\n".join(plan_large_set(tmp_path / "set", 300))
    assert "a ledger of 5000 generations" in asked
    assert "1000 in flight" in asked
    assert "100 in flight" in asked
    for question in ("open_work", "held", "loose", "leases", "asked_for", "last_success", "balance"):
        assert asked.count(f"sensors: {question} ") == 2
    assert "aim 50 ms" in asked
    assert "300 finished generations of one set (300 reused)" in planned
