"""The large ledger is one that the product can read, and what should be looked up is not scanned for."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from bench.ledgers import fill
from bench.scale import ask_large_ledger, plan_large_set, query_plans
from segmind_dagster.ledger import Ledger, open_ledger, reads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any

    from sqlalchemy import Connection

ROWS = 5000


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    url = f"sqlite:///{tmp_path_factory.mktemp('scale') / 'ledger.sqlite'}"
    ledger = open_ledger(url, api_origin="http://127.0.0.1:1", holds_outputs=lambda: None)
    ledger.write(fill, ROWS)
    yield ledger
    ledger.close()


def test_the_made_ledger_adds_up(ledger: Ledger) -> None:
    totals = ledger.read(reads.totals)
    assert {state: count for state, (count, _) in totals.items()} == {
        "succeeded": ROWS - 2200, "failed": 2000, "submitted": 200,
    }  # fmt: skip
    assert totals["succeeded"][1] == ledger.read(reads.charged) == (ROWS - 2200) * Decimal("0.0014")
    spent = ledger.read(reads.spent, run_id="run00001", day="2026-01-01", prompt_set="set_001")
    # every generation committed something: its charge, or what was reserved for it
    assert spent.set_usd == ROWS // 100 * Decimal("0.0014")
    assert spent.run_usd == ROWS // 1000 * Decimal("0.0014")


def test_what_is_in_flight_is_read_back_with_its_body(ledger: Ledger) -> None:
    found = ledger.read(reads.unfinished, is_alive=lambda *_: False)
    assert len(found) == 200
    assert {record.state for record in found} == {"submitted"}
    assert found[0].body["seed"] == ROWS - 200


@pytest.mark.parametrize(
    "question",
    [
        pytest.param(lambda c: reads.spent(c, run_id="r", day="2026-01-01", prompt_set="s"), id="spent"),
        pytest.param(lambda c: reads.observed(c, ["fast-flux-schnell"]), id="observed"),
        pytest.param(lambda c: reads.unfinished(c, is_alive=lambda *_: False), id="unfinished"),
        pytest.param(reads.owners, id="owners"),
        pytest.param(lambda c: reads.snapshot(c, ["a", "b"], is_alive=lambda *_: False), id="snapshot"),
        pytest.param(lambda c: reads.owned_requests(c, ["a", "b"]), id="owned_requests"),
    ],
)
def test_what_runs_and_sensors_ask_is_looked_up_not_scanned_for(
    ledger: Ledger, question: Callable[[Connection], Any]
) -> None:
    steps = query_plans(ledger, question)
    assert steps
    assert not [step for step in steps if step.startswith("SCAN") and "CONSTANT" not in step]


def test_both_reports_say_what_they_measured(tmp_path: Path) -> None:
    asked = "\n".join(ask_large_ledger(tmp_path / "ledger", ROWS))
    planned = "\n".join(plan_large_set(tmp_path / "set", 300))
    assert "a ledger of 5000 generations" in asked
    assert "aim 50 ms" in asked
    assert "300 finished generations of one set (300 reused)" in planned
