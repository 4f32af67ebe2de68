"""A lost ledger is rebuilt for nothing; afterwards nothing is bought again and the books are what they were."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import duckdb
import pytest
from lab.project import FACE, TEXT, V1, V2, VIDEO, png

from segmind_dagster.errors import LedgerError, LedgerMissingError, OriginMismatchError, SettingsError
from segmind_dagster.ledger import Caps, entries, leases, moves
from segmind_dagster.ledger.schema import ATTEMPTS, GENERATIONS, SET_GENERATIONS, SPENDING
from segmind_dagster.prompts import find_prompt_set
from segmind_dagster.reports.spend import spend_source
from segmind_dagster.source import load

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.recovery_project import Lab


REGISTERED = (
    "generation_id", "model_slug", "prompt", "negative_prompt", "body", "images", "variables", "seed", "sample",
)  # fmt: skip


def fill(lab: Lab) -> list[str]:
    """Three sets over five models; two of them ask for the same prompt, one has a local picture."""
    (lab.folder / "prompts" / "face.png").write_bytes(png())
    keys = [
        lab.write("fruit", ["a pear", "a {kind} plum"], variables={"kind": ["blue", "red"]}, models=[V1, V2]),
        lab.write("harvest", ["a pear", "a fig"], samples=2),
        lab.write("mixed", ["a boat"], models=[TEXT, VIDEO]),
        lab.write("faces", [{"prompt": "a man", "image": "face.png"}], models=[FACE]),
    ]
    lab.generate(*keys)
    return keys


def whole_ledger(lab: Lab) -> list[list[Mapping[str, object]]]:
    return [lab.ledger_rows(table) for table in (GENERATIONS, ATTEMPTS, SPENDING, SET_GENERATIONS)]


def test_a_run_without_a_ledger_stops_and_with_the_rebuilt_one_buys_nothing(lab: Lab) -> None:
    keys = fill(lab)
    lab.lose_ledger()
    with pytest.raises(LedgerMissingError):
        lab.generate(*keys)
    posts, charges = lab.posts, lab.charges
    rebuilt = lab.rebuild()
    assert (rebuilt.restored, rebuilt.present) == ({"succeeded": charges}, 0)
    report = lab.generate(*keys)
    assert {ending for result in report.models for ending in result.endings} == {"reused"}
    assert (lab.posts, lab.charges) == (posts, charges)
    lab.check_whole()


@pytest.mark.parametrize("is_loaded", [True, False])
def test_the_rebuilt_ledger_is_the_one_that_was_lost(lab: Lab, *, is_loaded: bool) -> None:
    fill(lab)
    if is_loaded:
        lab.load()
    before = lab.generation_fields(), lab.attempt_fields(), lab.spending(), lab.memberships()
    lab.lose_ledger()
    rebuilt = lab.rebuild()
    assert (lab.generation_fields(), lab.attempt_fields(), lab.spending(), lab.memberships()) == before
    assert (rebuilt.spent_usd, rebuilt.estimated_usd) == (lab.charged_usd, 0)
    assert (rebuilt.unclaimed, rebuilt.not_restored, rebuilt.doubtful) == (0, (), ())


def test_the_first_request_time_of_a_set_is_restored_from_the_warehouse(lab: Lab) -> None:
    lab.generate(lab.write("fruit", 1))
    lab.generate(lab.write("harvest", ["fruit number 0"]))
    asked = {row["prompt_set"]: row["asked_at"] for row in lab.ledger_rows(SET_GENERATIONS)}
    lab.load()
    lab.lose_ledger()
    lab.rebuild()
    assert {row["prompt_set"]: row["asked_at"] for row in lab.ledger_rows(SET_GENERATIONS)} == asked


def test_rebuilding_twice_adds_nothing(lab: Lab) -> None:
    fill(lab)
    lab.lose_ledger()
    lab.rebuild()
    before = whole_ledger(lab)
    again = lab.rebuild()
    assert (again.restored.total(), again.present, again.spent_usd) == (0, lab.charges, 0)
    assert whole_ledger(lab) == before


def test_a_complete_ledger_is_left_unchanged(lab: Lab) -> None:
    fill(lab)
    lab.load()
    before = whole_ledger(lab)
    rebuilt = lab.rebuild()
    assert (rebuilt.restored.total(), rebuilt.present) == (0, lab.charges)
    assert whole_ledger(lab) == before


def test_an_old_backup_gains_later_generations_and_keeps_its_own(lab: Lab) -> None:
    lab.generate(lab.write("fruit", 2))
    ledger = lab.folder / "data" / "ledger.sqlite"
    backup = ledger.read_bytes()
    old = lab.generations()
    lab.generate(lab.write("harvest", 3))
    lab.lose_ledger()
    ledger.write_bytes(backup)
    rebuilt = lab.rebuild()
    assert (rebuilt.restored, rebuilt.present) == ({"succeeded": 3}, 2)
    assert [row for row in lab.generations() if row["prompt_set"] == "fruit"] == old
    lab.check_whole()


def test_generations_only_planned_in_the_backup_are_restored_too(lab: Lab) -> None:
    lab.generate(lab.write("fruit", 2))
    ledger = lab.folder / "data" / "ledger.sqlite"
    backup = ledger.read_bytes()
    lab.write("harvest", 3)
    lab.generate("harvest")
    lab.lose_ledger()
    ledger.write_bytes(backup)
    lab.environ["SEGMIND_RUN_BUDGET_USD"] = "0.0001"
    assert lab.generate("harvest").stopped_by == "over_budget"
    assert lab.states() == ["planned"] * 3 + ["succeeded"] * 2
    assert lab.rebuild().restored == {"succeeded": 3}
    assert lab.generate("harvest").models[0].endings == {"reused": 3}
    lab.check_whole()


def test_an_empty_rebuild_is_no_error_and_allows_the_first_run(lab: Lab) -> None:
    assert lab.rebuild().restored == {}
    lab.generate(lab.write("fruit", 1))
    lab.check_whole()


def test_rebuild_is_refused_beside_an_active_run(lab: Lab) -> None:
    lab.generate(lab.write("fruit", 1))
    now = datetime.now(UTC)
    with lab.ledger() as ledger:
        ledger.write(
            leases.record_lease, owner="other", run_id=None, process=leases.Process.this(),
            at_s=leases.since_boot_s(), now=now,
        )  # fmt: skip
        (row,) = lab.generations()
        lab.write("harvest", 1)
        request = find_prompt_set("harvest", prompts_dir=lab.folder / "prompts", project_dir=lab.folder).generations[0]
        fresh = {**row, "generation_id": request.generation_id}
        columns = {name: fresh[name] for name in REGISTERED}
        ledger.write(entries.register_set, prompt_set="harvest", resource=V2, generations=[columns], now=now)
        ledger.write(
            moves.claim,
            generation_id=request.generation_id, owner="other", run_id=None, prompt_set="harvest",
            reserved_usd=Decimal("0.01"), caps=Caps(), rate_wait_ms=0, now=now,
        )  # fmt: skip
    with pytest.raises(LedgerError, match="at work"):
        lab.rebuild()


def test_a_ledger_of_another_origin_is_refused(lab: Lab) -> None:
    lab.generate(lab.write("fruit", 1))
    with pytest.raises(OriginMismatchError):
        lab.rebuild(SEGMIND_ACCOUNT="other")


def test_without_a_key_nothing_is_changed(lab: Lab) -> None:
    del lab.environ["SEGMIND_API_KEY"]
    with pytest.raises(SettingsError, match="SEGMIND_API_KEY"):
        lab.rebuild()
    assert not (lab.folder / "data").exists()


@pytest.mark.kill
@pytest.mark.parametrize("moment", ["before", "amid"])
def test_a_killed_rebuild_keeps_the_guard_and_can_be_repeated(lab: Lab, moment: str) -> None:
    keys = fill(lab)
    expected = lab.generation_fields(), lab.spending()
    lab.lose_ledger()
    target = {"before": "restore", "amid": "Totals"}[moment]
    code = f"""
import os, signal
from segmind_dagster.ledger import restoring
from segmind_dagster.recovery import rebuild
from segmind_dagster.settings import load_settings
restoring.{target} = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
rebuild(load_settings(), say=print)
"""
    killed = subprocess.run([sys.executable, "-c", code], env={**os.environ, **lab.environ}, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    with pytest.raises(LedgerMissingError):
        lab.generate(*keys)
    lab.rebuild()
    assert (lab.generation_fields(), lab.spending()) == expected
    lab.generate(*keys)
    lab.check_whole()


def test_reconciliation_tables_are_not_used_as_evidence(lab: Lab) -> None:
    lab.generate(lab.write("fruit", 2))
    lab.load()
    settings = lab.settings()
    load(settings, spend_source(lambda: settings))
    before = lab.generation_fields(), lab.attempt_fields(), lab.memberships()
    with duckdb.connect(str(lab.folder / "data" / "segmind.duckdb")) as connection:
        connection.execute(
            "INSERT INTO segmind_data.spend_not_held "
            "(generation_id, attempt, prompt_set, status, api_origin, _dlt_load_id, "
            "_dlt_id) VALUES ('g', 7, 'elsewhere', 'failed', ?, '0', '0')",
            [settings.api_origin],
        )
    lab.lose_ledger()
    lab.rebuild()
    assert {row["generation_id"] for row in lab.generation_fields()} == {row["generation_id"] for row in before[0]}
    assert [row["cost_usd"] for row in lab.attempt_fields()] == [row["cost_usd"] for row in before[1]]
    assert lab.memberships() == before[2]
