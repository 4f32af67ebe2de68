"""`python -m bench.backfill`: one backfill by Dagster's daemon, of the product and of plain dagster-dlt partitions.

Both get the same prompt sets, models, sandbox, warehouse and number of runs at a time; a backfill is launched through
GraphQL, as the UI does. While the product's runs go on, its account assets are refreshed as well, because the
cursor of the request history lives in the same stored state. Everything is read back afterwards from the own books of
Dagster, the sandbox and the warehouse.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.backfill_books import (
    Rows,
    Runs,
    most_at_once,
    read_rows,
    read_runs,
    spans_by_run,
    start_ups,
    stored_state,
)
from bench.backfill_deployment import running_dagster
from bench.backfill_postgres import running_postgres
from bench.server import KEY, Server, running

if TYPE_CHECKING:
    from collections.abc import Iterator

RESOURCES: Final = ("fast_flux_schnell", "sdxl_newreality", "consistent_character_neolemon_v2")
ACCOUNT: Final = ("segmind/credits", "segmind/models", "segmind/models_page", "segmind/request_history")
CONTENDERS: Final = ("plain", "runs", "single_run")
_TIMEOUT_S = 1200.0
_NOTES = """\
plain       DagsterDltResource.run as documented, one run a partition; a thread a job, a poll twice a second
runs        the product, SEGMIND_BACKFILL=runs: one run a partition
single_run  the product, SEGMIND_BACKFILL=single_run: one run for all of them
failed: runs that did not succeed. rows, tables: present of expected. paid: generations charged, of those asked for.
generating, loading: most runs doing so at one moment, as far as rows are left to tell. start s: median from the
launch of a run to its first submission. waits: log lines of runs that waited for their turn to load. cursor: how
far request_history was read is in the state that the warehouse keeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """The work of one backfill.

    Args:
        sets: prompt sets, a partition each.
        prompts: generations of one set and model.
        at_a_time: runs that the daemon lets run at once.
        latency_s: how long a job takes.
    """

    sets: int
    prompts: int
    at_a_time: int
    latency_s: float

    @property
    def keys(self) -> list[str]:
        """The partitions."""
        return [f"set_{number:02}" for number in range(self.sets)]

    @property
    def generations(self) -> int:
        """Of all sets and models."""
        return self.sets * self.prompts * len(RESOURCES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one backfill came to; `problems` are expectations that do not hold, in words."""

    runs: Runs
    rows: Rows
    tables: set[str]
    has_cursor: bool
    charges: int
    problems: list[str]


def main() -> None:
    """Run the backfills and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.backfill", description=__doc__)
    parser.add_argument("--sets", type=int, default=24)
    parser.add_argument("--prompts", type=int, default=4, help="generations of one set and model")
    parser.add_argument("--at-a-time", type=int, default=4, help="runs that the daemon lets run at once")
    parser.add_argument("--latency", type=float, default=3.0, help="seconds a job takes")
    parser.add_argument("--stores", default="duckdb,postgres")
    parser.add_argument("--contenders", default=",".join(CONTENDERS))
    parser.add_argument("--folder", type=Path, help="keep everything there instead of in a temporary folder")
    options = parser.parse_args()
    size = Size(sets=options.sets, prompts=options.prompts, at_a_time=options.at_a_time, latency_s=options.latency)
    print(
        f"{size.sets} prompt sets, {len(RESOURCES)} models, {size.generations} generations of {size.latency_s:g} s, "
        f"{size.at_a_time} runs at a time, {os.cpu_count()} cores"
    )
    problems: list[str] = []
    print(
        _line(
            "",
            "",
            "runs",
            "failed",
            "wall s",
            "rows",
            "tables",
            "paid",
            "generating",
            "loading",
            "start s",
            "waits",
            "cursor",
        )
    )
    with ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for store in options.stores.split(","):
            for contender in options.contenders.split(","):
                outcome = measure(contender, store, size, folder / f"{store}-{contender}")
                print(_row(store, contender, size, outcome), flush=True)
                if outcome.runs.failure:
                    print(f"    first failure: {outcome.runs.failure}")
                if contender != "plain":
                    problems += [f"{store} {contender}: {problem}" for problem in outcome.problems]
    print(_NOTES)
    if problems:
        raise SystemExit("\n".join(problems))


def measure(contender: str, store: str, size: Size, folder: Path) -> Outcome:
    """One backfill from an empty folder; what it came to."""
    prompts = folder / "prompts"
    prompts.mkdir(parents=True)
    for key in size.keys:
        texts = [f"{key} number {number}" for number in range(size.prompts)]
        (prompts / f"{key}.yaml").write_text(json.dumps({"models": RESOURCES, "prompts": texts}), encoding="utf-8")
    is_plain = contender == "plain"
    module = "bench.backfill_plain" if is_plain else "segmind_dagster.definitions"
    prefix = "dlt_plain_" if is_plain else "segmind/"
    assets = [prefix + resource for resource in RESOURCES]
    with ExitStack() as stack:
        server = stack.enter_context(running(fixed_latency_s=size.latency_s))
        url, environ = stack.enter_context(_store(store, folder, is_plain=is_plain))
        environ |= _environ(server, folder, contender)
        stack.enter_context(_variables(environ))
        with running_dagster(module, folder, at_a_time=size.at_a_time, keys=size.keys, environ=environ) as dagster:
            backfill_id = dagster.launch_backfill(assets, size.keys)
            account = None if is_plain else dagster.launch_run(module, ACCOUNT)
            dagster.wait_for_backfill(backfill_id, timeout_s=_TIMEOUT_S)
            if account and (status := dagster.wait_for_run(account, timeout_s=_TIMEOUT_S)) != "SUCCESS":
                raise SystemExit(f"the account's run ended with {status}; see {folder}")
        runs = read_runs(dagster.home, backfill_id, assets)
        dataset = "plain_data" if is_plain else "segmind_data"
        rows = read_rows(url, dataset, RESOURCES)
        name = "plain" if is_plain else "segmind"
        tables, state = stored_state(name, environ["SEGMIND_DESTINATION"], dataset, folder)
    of_origin = state.get("segmind", {}).get("resources", {}).get("request_history", {})
    outcome = Outcome(
        runs=runs,
        rows=rows,
        tables=tables,
        has_cursor=any(isinstance(kept, dict) and kept.get("read_at") for kept in of_origin.values()),
        charges=server.account["charges"],
        problems=[],
    )
    return _judged(outcome, size)


def _judged(outcome: Outcome, size: Size) -> Outcome:
    each = size.sets * size.prompts
    expected = {*RESOURCES, "attempts", *(name.partition("/")[2] for name in ACCOUNT)}
    checks = {
        f"{outcome.runs.failed} of {outcome.runs.count} runs failed": outcome.runs.failed == 0,
        f"rows: {outcome.rows.counts}": set(outcome.rows.counts.values()) == {each},
        f"materialized: {outcome.runs.partitions}": set(outcome.runs.partitions.values()) == {size.sets},
        f"not in the stored schema: {sorted(expected - outcome.tables)}": expected <= outcome.tables,
        "no cursor in the stored state": outcome.has_cursor,
        f"{outcome.charges} charges for {size.generations} generations": outcome.charges == size.generations,
        "loads overlap": most_at_once(outcome.runs.loads) == 1,
    }
    outcome.problems.extend(problem for problem, holds in checks.items() if not holds)
    return outcome


def _environ(server: Server, folder: Path, contender: str) -> dict[str, str]:
    return {
        "SEGMIND_PROJECT_DIR": str(folder),
        "SEGMIND_PROMPTS_DIR": str(folder / "prompts"),
        "SEGMIND_DATA_DIR": str(folder / "data"),
        "SEGMIND_API_URL": server.url,
        "SEGMIND_API_KEY": KEY,
        "SEGMIND_REQUESTS_PER_MINUTE": "6000000",
        "SEGMIND_RUN_BUDGET_USD": "1000000",
        "SEGMIND_DAILY_BUDGET_USD": "1000000",
        "DLT_DATA_DIR": str(folder / "dlt"),
        **({} if contender == "plain" else {"SEGMIND_BACKFILL": contender}),
    }


@contextmanager
def _store(store: str, folder: Path, *, is_plain: bool) -> Iterator[tuple[str, dict[str, str]]]:
    """A warehouse: where to read it, and the variables that point there. PostgreSQL keeps the ledger as well."""
    if store == "duckdb":
        path = str(folder / "warehouse.duckdb")
        yield path, {"SEGMIND_DESTINATION": "duckdb", "DESTINATION__DUCKDB__CREDENTIALS": path}
        return
    with running_postgres() as url:
        # dlt insists on a password, which this server does not ask for
        credentials = url.replace("@", ":none@")
        environ = {"SEGMIND_DESTINATION": "postgres", "DESTINATION__POSTGRES__CREDENTIALS": credentials}
        with_driver = url.replace("postgresql://", "postgresql+psycopg://")
        yield with_driver, environ if is_plain else {**environ, "SEGMIND_LEDGER_URL": url}


@contextmanager
def _variables(environ: dict[str, str]) -> Iterator[None]:
    """These variables in our own environment as well, for dlt reads its credentials there."""
    before = dict(os.environ)
    os.environ.update(environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _row(store: str, contender: str, size: Size, outcome: Outcome) -> str:
    spans = spans_by_run(outcome.rows.generations)
    start_s = start_ups(outcome.runs.launched, spans)
    is_plain = contender == "plain"
    expected = len(RESOURCES) if is_plain else len(RESOURCES) + 1 + len(ACCOUNT)
    wanted = {*RESOURCES} if is_plain else {*RESOURCES, "attempts", *(name.partition("/")[2] for name in ACCOUNT)}
    return _line(
        store,
        contender,
        outcome.runs.count,
        outcome.runs.failed,
        f"{outcome.runs.wall_s:.1f}",
        f"{sum(outcome.rows.counts.values())}/{size.generations}",
        f"{len(outcome.tables & wanted)}/{expected}",
        f"{outcome.charges}/{size.generations}",
        most_at_once(spans.values()),
        most_at_once(outcome.runs.loads),
        "" if start_s is None else f"{start_s:.1f}",
        len(outcome.runs.waited),
        "" if is_plain else outcome.has_cursor,
    )


def _line(*cells: Any) -> str:
    widths = (9, 11, 5, 7, 8, 9, 8, 9, 11, 8, 8, 6, 7)
    return "".join(
        f"{cell!s:<{width}}" if n < 2 else f"{cell!s:>{width}}"
        for n, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )


if __name__ == "__main__":
    main()
