"""The rows that the summaries are timed on are summarised the same by hand and by the product."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import duckdb

from bench.usage import ask_by_hand, fill, table
from segmind_dagster.reports.usage import read_table, usage_source
from segmind_dagster.settings import load_settings
from segmind_dagster.source import load, tables

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 3000


def test_the_generated_rows_are_summarised_completely(tmp_path: Path) -> None:
    settings = load_settings(
        environ={}, project_dir=tmp_path, api_url="http://127.0.0.1:1", api_key="SG_0000000000000000"
    )
    fill(settings, ROWS)
    by_hand = ask_by_hand(settings)
    assert set(by_hand) == set(tables.USAGE_COLUMNS)
    load(settings, usage_source())
    found = {name: read_table(settings, name) for name in tables.USAGE_COLUMNS}
    with duckdb.connect(str(settings.data_dir / "segmind.duckdb")) as connection:
        (spend,) = connection.execute("SELECT sum(cost_usd) FROM segmind_data.attempts").fetchone() or (None,)
    for name in ("usage_by_model", "usage_by_prompt_set", "usage_by_day"):
        assert sum((row["cost_usd"] for row in found[name]), Decimal(0)) == spend
        assert sum(row["attempts"] for row in found[name]) == ROWS
    # days are asked for as much work as prompt sets
    asked = sum(row["generations"] for row in found["usage_by_prompt_set"])
    assert 0 < asked == sum(row["generations"] for row in found["usage_by_day"])
    fruit = [row for row in found["usage_by_variable"] if row["variable"] == "fruit"]
    assert sum((row["cost_usd"] for row in fruit), Decimal(0)) == spend
    assert len({row["value"] for row in fruit}) == 12
    assert table(by_hand, 1.0)[-1].endswith("times, aim 1.5")
