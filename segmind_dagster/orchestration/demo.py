"""The demonstration: the bundled prompt sets through real Dagster runs against the sandbox, watched live."""

from __future__ import annotations

import os
import sys
import threading
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self

import dagster as dg
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from segmind_dagster.data_folder import opened
from segmind_dagster.errors import SegmindDagsterError
from segmind_dagster.ledger import reads
from segmind_dagster.orchestration.asset_partitions import RANGE, partition_keys
from segmind_dagster.orchestration.local import LocalProject, prepare_dagster_home, running_sandbox, use_sandbox
from segmind_dagster.orchestration.resources import SegmindResource
from segmind_dagster.orchestration.sync import sync_partitions
from segmind_dagster.orchestration.translator import (
    ACCOUNT_KEYS,
    GALLERY_KEY,
    MODEL_KEYS,
    PROMPT_SET_KEY,
    REPORT_KEY,
    SPEND_KEYS,
    USAGE_KEYS,
)
from segmind_dagster.prompts import PromptSet, find_prompt_set
from segmind_dagster.reports.usage import read_table
from segmind_dagster.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOOK_EVERY_S = 0.25
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_COLUMNS = {
    "asked": "generations",
    "stored": "succeeded",
    "failed": "failed",
    "   USD": "cost_usd",
    "  each": "cost_per_output_usd",
    "p50 s": "latency_p50_ms",
    "p95 s": "latency_p95_ms",
}


def run_demo() -> bool:
    """Materialize every prompt set and print what came of it; returns whether every run succeeded."""
    # Dagster captures the standard output of steps; the progress line is for the terminal
    console = Console(file=os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8"))
    project = use_sandbox()
    prepare_dagster_home(project)
    began = time.monotonic()
    with running_sandbox(project) as sandbox, dg.DagsterInstance.get() as instance:
        settings = SegmindResource().load()
        if sandbox is None:
            console.print(f"Using the sandbox that is already running at {settings.api_url}.", soft_wrap=True)
        before_usd = _charged(settings)
        sets = _sync(instance, settings)
        count = sum(len(found.generations) for found in sets)
        console.print(f"[bold]{len(sets)} prompt sets[/], {count} generations; no key, no cost:")
        console.print(f"the sandbox at {settings.api_url} stands in for Segmind, with some faults on.")
        failures = _materialize(console, instance, settings, sets)
        elapsed_s = time.monotonic() - began
        _print_usage(console, settings)
        print_money(console, settings, before_usd, sandbox.account(jobs=False) if sandbox else None)
    print_places(console, project, settings, elapsed_s)
    for failure in failures:
        console.print(f"[red]{failure}[/]")
    return not failures


def _sync(instance: dg.DagsterInstance, settings: Settings) -> list[PromptSet]:
    _, _, problems = sync_partitions(instance)
    if problems:
        raise SegmindDagsterError("\n".join(problems))
    return [
        find_prompt_set(key, prompts_dir=settings.prompts_dir, project_dir=settings.project_dir)
        for key in sorted(partition_keys(instance))
    ]


def _materialize(
    console: Console, instance: dg.DagsterInstance, settings: Settings, sets: Sequence[PromptSet]
) -> list[str]:
    """Run everything, and say what failed: each file, all sets together as a backfill in one run does, the summaries.

    Together they wait for the provider at the same time, and are loaded once.
    """
    from segmind_dagster.orchestration.build import build_definitions

    defs = build_definitions(backfill_policy=dg.BackfillPolicy.single_run())
    job = defs.resolve_implicit_global_asset_job_def()
    failures = []
    with _LiveProgress(console, settings, sets) as live:

        def run(what: str, assets: Sequence[dg.AssetKey], **of: Any) -> None:
            live.say(what)
            result = job.execute_in_process(
                instance=instance, asset_selection=assets, run_config=_QUIET, raise_on_error=False, **of
            )
            if not result.success:
                failures.append(_why(result, what))

        for found in sets:
            run(found.key, [PROMPT_SET_KEY], partition_key=found.key)
        # a range goes by Dagster's order, in which new partitions come last
        if keys := partition_keys(instance):
            run("all sets", [*MODEL_KEYS, GALLERY_KEY], tags=dict(zip(RANGE, (keys[0], keys[-1]), strict=True)))
        run("usage", [*ACCOUNT_KEYS, *USAGE_KEYS, *SPEND_KEYS, REPORT_KEY])
    return failures


def _why(result: dg.ExecuteInProcessResult, what: str) -> str:
    for event in result.all_events:
        if event.is_step_failure and event.step_failure_data.error is not None:
            data = event.step_failure_data
            description = data.user_failure_data.description if data.user_failure_data else None
            return f"{what}: {description or event.step_failure_data.error.message}"
    return f"{what}: the run failed; its log in the UI says why."


class _LiveProgress:
    """A progress line fed from the ledger, which knows what is asked for, stored and paid."""

    def __init__(self, console: Console, settings: Settings, sets: Sequence[PromptSet]) -> None:
        self._settings = settings
        self._total = len({request.generation_id for found in sets for request in found.generations})
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<16}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TextColumn("[green]${task.fields[usd]:.4f}[/]  [yellow]{task.fields[in_flight]} in flight[/]"),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._progress.add_task("starting", total=self._total, usd=Decimal(0), in_flight=0)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._progress.start()
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._is_over.set()
        self._thread.join()
        self._progress.stop()

    def say(self, text: str) -> None:
        """Name what is being worked on."""
        self._progress.update(self._task, description=text)

    def _watch(self) -> None:
        with opened(self._settings) as (ledger, _):
            is_over = False
            while not is_over:
                is_over = self._is_over.wait(_LOOK_EVERY_S)
                totals = ledger.read(reads.totals)
                in_flight = sum(totals.get(state, (0, 0))[0] for state in ("submitting", "submitted", "unknown"))
                self._progress.update(
                    self._task,
                    completed=totals.get("succeeded", (0, 0))[0],
                    usd=sum((usd for _, usd in totals.values()), Decimal(0)),
                    in_flight=in_flight,
                )


def _print_usage(console: Console, settings: Settings) -> None:
    shown = {
        "usage_by_model": ("model", "Usage by model"),
        "usage_by_prompt_set": ("prompt_set", "Usage by prompt set"),
    }
    for name, (dimension, title) in shown.items():
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column(dimension.replace("_", " "), overflow="ellipsis", no_wrap=True, max_width=24)
        for heading in _COLUMNS:
            table.add_column(heading, justify="right", no_wrap=True, min_width=len(heading))
        for row in read_table(settings, name):
            table.add_row(str(row[dimension]), *(_cell(column, row[column]) for column in _COLUMNS.values()))
        console.print(table)


def _cell(column: str, value: Any) -> str:
    if value is None:
        return "-"
    if column.endswith("_usd"):
        return f"{value:.4f}"
    return f"{value / 1000:.2f}" if column.endswith("_ms") else str(value)


def _charged(settings: Settings) -> Decimal:
    with opened(settings) as (ledger, _):
        return ledger.read(reads.charged)


def print_money(console: Console, settings: Settings, before_usd: Decimal, account: dict[str, Any] | None) -> None:
    """What was bought this time, what the ledger holds, and whether the provider says the same."""
    with opened(settings) as (ledger, _):
        totals = ledger.read(reads.totals)
    charged = _charged(settings)
    states = ", ".join(f"{count} {state}" for state, (count, _) in sorted(totals.items()))
    bought = f"${charged - before_usd:.6f}" if charged > before_usd else "nothing: all of it was there already"
    console.print(f"\n[bold]This time[/] bought for {bought}")
    console.print(f"[bold]Ledger[/]    {states}; ${charged:.6f} charged altogether")
    if account is not None:
        same = "the same" if Decimal(account["charged_usd"]) == charged else "[red]not the same[/]"
        failed = account["submissions"] - account["charges"]
        console.print(
            f"[bold]Provider[/]  {account['charges']} charges, ${Decimal(account['charged_usd']):.6f}: {same}"
        )
        console.print(f"          {account['submissions']} jobs accepted, {failed} of them failed, free of charge")


def print_places(console: Console, project: LocalProject, settings: Settings, elapsed_s: float) -> None:
    """Where everything is; a path or a command is a line of its own, however long, so that it can be copied."""
    home = project.project_dir

    def shown(path: object) -> str:
        return str(path).removeprefix(f"{home}/")

    def say(line: str) -> None:
        console.print(line, soft_wrap=True, highlight=False)

    data = shown(settings.data_dir)
    console.print(f"\nDone in {elapsed_s:.0f} s.")
    say(f"  Pictures   {shown(settings.outputs_url)}/<model>/")
    say(f"  Galleries  {data}/galleries/<prompt set>/index.html")
    say(f"  Report     {data}/usage_report.html")
    say(f"  Database   {data}/segmind.duckdb")
    say("\nRuns, contact sheets and usage in the UI, on http://127.0.0.1:3000:")
    say("  make dev")
    say("Totals by state, and the money:")
    say(f"  SEGMIND_API_URL={settings.api_url} SEGMIND_DATA_DIR={data} .venv/bin/segmind-dagster status")
    say("The last load:")
    say("  .venv/bin/dlt pipeline segmind info")
