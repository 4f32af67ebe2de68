"""Another destination than DuckDB: through dlt's SQLAlchemy, SQLite, which knows no percentiles and no decimals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.project import FLUX, REALITY

from segmind_dagster.reports.account import account_figures
from segmind_dagster.reports.spend import read_spend, spend_source
from segmind_dagster.reports.usage import read_table, usage_source
from segmind_dagster.sandbox import Faults
from segmind_dagster.source import ACCOUNT_RESOURCES, load, tables

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from conftest import OpenProject


def test_summaries_and_reconciliation_are_the_same_sums_to_the_nano_dollar(
    open_project: OpenProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DESTINATION__SQLALCHEMY__CREDENTIALS", f"sqlite:///{tmp_path}/warehouse.db")
    project = open_project(faults=Faults(script=["accepted_then_reset"]))
    project.environ["SEGMIND_DESTINATION"] = "sqlalchemy"
    settings = project.settings()
    project.load(*ACCOUNT_RESOURCES)
    project.buy(
        project.write("fruit", ["a {colour} pear", "a plum"], variables={"colour": ["red", "green"]}),
        project.write("harvest", ["a plum"], models=[FLUX, REALITY]),
    )
    project.load()
    load(settings, usage_source())
    project.load(*ACCOUNT_RESOURCES)
    load(settings, spend_source(lambda: settings))

    usage = {name: read_table(settings, name) for name in tables.USAGE_COLUMNS}
    for name in ("usage_by_model", "usage_by_prompt_set", "usage_by_day"):
        assert sum(row["cost_usd"] for row in usage[name]) == project.charged_usd
        assert all(row["latency_p50_ms"] <= row["latency_p95_ms"] <= row["latency_p99_ms"] for row in usage[name])
    assert {row["value"]: row["succeeded"] for row in usage["usage_by_variable"]} == {"red": 1, "green": 1}
    assert {row["prompt_set"]: row["reused"] for row in usage["usage_by_prompt_set"]} == {"fruit": 0, "harvest": 1}

    compared = read_spend(settings, list(tables.SPEND_COLUMNS))
    assert all(reach.has_compared and not reach.newer for _, reach in compared.values())
    spend = {name: rows for name, (rows, _) in compared.items()}
    (window,) = spend.pop("spend_balance")
    assert window["history_usd"] == window["ledger_usd"] == window["decrease_usd"] == project.charged_usd
    assert len(spend.pop("spend_runway")) == 2
    assert not any(spend.values())
    assert account_figures(settings, ["request_history"])["request_history"]["charged (USD)"] == project.charged_usd
