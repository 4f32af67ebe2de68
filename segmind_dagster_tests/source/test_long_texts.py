"""Texts that are longer than a destination holds are kept compressed, and rows with them can be loaded."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import dlt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.source.destinations import fitted
from segmind_dagster.source.long_texts import COMPRESSED, short_text, whole_text

if TYPE_CHECKING:
    from pathlib import Path

LONGEST = 500


@given(st.text(max_size=400), st.integers(1, 5), st.integers(60, 3000))
def test_any_text_fits_and_is_complete_unless_truncated(text: str, times: int, longest: int) -> None:
    text *= times
    stored = short_text(text, longest)
    assert len(stored.encode("utf-8", errors="replace")) <= longest
    if not stored.endswith("destination holds]"):
        assert whole_text(stored) == text.encode("utf-8", errors="replace").decode()


def test_short_texts_are_unchanged_and_long_ones_compressed_before_truncation() -> None:
    assert short_text("a" * LONGEST, LONGEST) == "a" * LONGEST
    assert short_text("a" * 9999, LONGEST).startswith(COMPRESSED)
    noise = "".join(random.Random(7).choices("abcdefghijklmnopqrstuvwxyz", k=9999))
    cut = short_text(noise, LONGEST)
    assert cut.startswith(noise[:400])
    assert cut.endswith("[cut: longer than the destination holds]")


@pytest.mark.parametrize("longest", [LONGEST, 1024 * 1024 * 1024])
def test_rows_are_fitted_to_the_destination_they_are_loaded_into(tmp_path: Path, longest: int) -> None:
    columns: Any = {"page": {"data_type": "text"}, "seed": {"data_type": "bigint"}, "params": {"data_type": "json"}}
    rows = [{"page": "<p>" * 999, "seed": 1, "params": {"a": "b" * 999}}, {"page": None, "seed": 2}, {"page": "short"}]

    @dlt.source
    def pages() -> Any:
        return dlt.resource(rows, name="pages", columns=columns)

    destination = dlt.destinations.duckdb(credentials=str(tmp_path / "a.duckdb"), max_text_data_type_length=longest)
    pipeline = dlt.pipeline("long_texts", pipelines_dir=str(tmp_path), destination=destination, dataset_name="d")
    pipeline.run(fitted(pages(), destination)).raise_on_failed_jobs()
    with pipeline.sql_client() as client:
        loaded = [row[0] for row in client.execute_sql("SELECT page FROM pages ORDER BY seed NULLS LAST") or []]
    assert [None if page is None else whole_text(page) for page in loaded] == [row["page"] for row in rows]
    assert loaded[0].startswith(COMPRESSED) is (longest == LONGEST)
