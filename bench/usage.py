"""`python -m bench.usage`: the usage summaries over ten million generations, against the same SQL run by hand.

The rows are made by DuckDB itself in a temporary folder: attempts and one model table, with the columns and types
that a load makes. By hand means DuckDB alone, on the same file, with the text that the product would send. The
product's time is everything an asset does: lock, schema, questions, extraction, normalization and load.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from segmind_dagster.reports.queries import compiled
from segmind_dagster.reports.usage import read_table, usage_source
from segmind_dagster.reports.usage_sql import combinations_sql, usage_sql
from segmind_dagster.sandbox import SANDBOX_API_KEY
from segmind_dagster.settings import load_settings
from segmind_dagster.source import build_source, load, tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from segmind_dagster.settings import Settings

_MODEL = "fast_flux_schnell"
_SETS, _MODELS, _DAYS = 200, 7, 90
_AIM = 1.5
_FIRST = "TIMESTAMPTZ '2026-01-01 00:00:00+00'"
# what a row says, by column; whatever is left out is NULL
_COMMON = {
    "generation_id": "sha256(n::VARCHAR)",
    "prompt_set": f"'set_' || (n % {_SETS})",
    "model": f"'model-' || (n % {_MODELS})",
    "status": "CASE WHEN n % 50 = 0 THEN 'failed' ELSE 'succeeded' END",
    "failure_kind": "CASE WHEN n % 50 = 0 THEN 'job_failed' END",
    "error": "CASE WHEN n % 50 = 0 THEN 'no reason given' END",
    "cost_usd": "CASE WHEN n % 50 = 0 THEN 0 ELSE 0.003 + (n % 1000) * 0.00001 END",
    "cost_source": "CASE WHEN n % 50 > 0 THEN CASE WHEN n % 97 = 0 THEN 'history' ELSE 'reported' END END",
    "queue_ms": "hash(n) % 3000",
    "inference_ms": "1000 + hash(n + 1) % 9000",
    "latency_ms": "1500 + hash(n + 2) % 20000",
    "api_origin": "'http://127.0.0.1:1'",
}
_ATTEMPT = {
    "attempt": "1",
    "reserved_usd": "0.01",
    "rate_wait_ms": "hash(n + 3) % 100",
    "intent_at": f"{_FIRST} + to_seconds(n % ({_DAYS} * 86400))",
    "day": f"DATE '2026-01-01' + (n // 86400 % {_DAYS})::INTEGER",
}
_GENERATION = {
    "prompt": "'prompt number ' || n",
    "variables": '\'{"fruit":"\' || (n % 12) || \'","light":"\' || (n % 5) || \'"}\'',
    "attempts": "1",
    "saved_usd": "0",
    "is_reused": "FALSE",
    "asked_day": f"DATE '2026-01-01' + (n // 86400 % {_DAYS})::INTEGER",
    "is_current": "n % 1000 > 0",
}


def main() -> None:
    """Make the rows, summarise them both ways, print the ratio."""
    parser = argparse.ArgumentParser(prog="python -m bench.usage", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000, help="generations, with an attempt each")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DLT_DATA_DIR"] = f"{folder}/dlt"
        settings = load_settings(
            environ={}, project_dir=Path(folder), api_url="http://127.0.0.1:1", api_key=SANDBOX_API_KEY
        )
        with _timed() as made:
            fill(settings, options.rows)
        print(f"{options.rows:,} generations, {made[0]:.0f} s to make, {os.cpu_count()} cores", flush=True)
        for _ in range(options.rounds):
            by_hand = ask_by_hand(settings)
            with _timed() as product:
                load(settings, usage_source())
            print("\n".join(table(by_hand, product[0])), flush=True)
        totals = {name: len(read_table(settings, name)) for name in tables.USAGE_COLUMNS}
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"rows: {', '.join(f'{name} {rows}' for name, rows in totals.items())}; peak memory {peak_mb:.0f} MB")


def fill(settings: Settings, rows: int) -> None:
    """The tables as a load makes them, empty, and then the rows."""
    load(settings, build_source(settings, prompt_sets=[]).with_resources(_MODEL, "attempts"))
    with duckdb.connect(_file(settings)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name, values in (("attempts", _COMMON | _ATTEMPT), (_MODEL, _COMMON | _GENERATION)):
            marks = {"_dlt_load_id": "'0'", "_dlt_id": "n::VARCHAR"}
            named = ", ".join([*values, *marks])
            selected = ", ".join([*values.values(), *marks.values()])
            whole, made = f"segmind_data.{name}", f"SELECT {selected} FROM range({rows}) t(n)"
            # without the index on `_dlt_id`, which takes minutes to fill and no summary looks at
            connection.execute(f"CREATE TABLE filling AS FROM {whole} LIMIT 0")
            connection.execute(f"INSERT INTO filling ({named}) {made}")
            connection.execute(f"DROP TABLE {whole}")
            connection.execute(f"CREATE TABLE {whole} AS FROM filling")
            connection.execute("DROP TABLE filling")


def ask_by_hand(settings: Settings) -> dict[str, float]:
    """Seconds that DuckDB alone takes for each summary's text."""
    texts = {**usage_sql([_MODEL]), "usage_by_variable": combinations_sql([_MODEL], as_text="CAST({} AS TEXT)")}
    found = {}
    with duckdb.connect(_file(settings)) as connection:
        for name, sql in texts.items():
            text = compiled(sql, dialect="duckdb", path=lambda table: ["segmind_data", table])
            with _timed() as took:
                connection.execute(text).fetchall()
            found[name] = took[0]
    return found


def table(by_hand: dict[str, float], product_s: float) -> list[str]:
    """The figures as lines, and whether the aim is met."""
    whole = sum(by_hand.values())
    ratio = f"{product_s:.2f} s by the assets' load: {product_s / whole:.2f} times, aim {_AIM}"
    lines = [f"  {name:<22}{seconds:>7.2f} s by hand" for name, seconds in by_hand.items()]
    return [*lines, f"  {'all of them':<22}{whole:>7.2f} s by hand, {ratio}"]


def _file(settings: Settings) -> str:
    return str(settings.data_dir / "segmind.duckdb")


@contextmanager
def _timed() -> Iterator[list[float]]:
    took: list[Any] = []
    began = time.perf_counter()
    yield took
    took.append(time.perf_counter() - began)


if __name__ == "__main__":
    main()
