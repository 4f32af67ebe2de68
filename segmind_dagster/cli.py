"""The console script `segmind-dagster`: reads arguments, calls one function, prints its answer.

Those of its commands that say more than that are in `commands`.

Imports are inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from segmind_dagster.commands.export import export
from segmind_dagster.commands.pages import gallery, report
from segmind_dagster.commands.resolve import resolve
from segmind_dagster.errors import Problem, PromptSetError, SegmindDagsterError
from segmind_dagster.gateway.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from segmind_dagster.planning import Plan
    from segmind_dagster.prompts import PromptSet
    from segmind_dagster.settings import Settings


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="segmind-dagster")
def cli() -> None:
    """Media in bulk through Segmind, with Dagster and dlt: pay once, lose nothing, know the cost."""


cli.add_command(gallery)
cli.add_command(report)
cli.add_command(resolve)
cli.add_command(export)


def main() -> None:
    """Run the command line; our own errors print one message instead of a stack trace."""
    try:
        cli(prog_name="segmind-dagster")
    except SegmindDagsterError as error:
        click.secho(redact(str(error)), fg="red", err=True)
        sys.exit(1)


@cli.command()
def demo() -> None:
    """Materialize the bundled prompt sets against the sandbox: no key, no cost."""
    from segmind_dagster.orchestration.demo import run_demo

    sys.exit(0 if run_demo() else 1)


@cli.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of the UI.")
@click.option("--port", default=3000, show_default=True, help="Port of the UI.")
def dev(host: str, port: int) -> None:
    """Open the Dagster UI; without a key, with the sandbox and the demo's data."""
    from contextlib import nullcontext

    from segmind_dagster.orchestration.local import find_project, prepare_dagster_home, run_dagster_dev, running_sandbox

    project = find_project()
    prepare_dagster_home(project)
    with running_sandbox(project) if project.is_sandboxed else nullcontext():
        what = "the sandbox (no API key is set)" if project.is_sandboxed else "Segmind, with your key"
        click.echo(f"Dagster UI: http://{host}:{port}, generating with {what}; data in {project.data_dir}")
        sys.exit(run_dagster_dev(project, host=host, port=port))


@cli.command()
@click.option(
    "--port",
    default=8473,
    type=click.IntRange(0, 65535),
    show_default=True,
    help="Port on 127.0.0.1; 0 lets the system choose.",
)
@click.option("--speed", default=1.0, show_default=True, help="How many times faster than Segmind jobs finish.")
@click.option("--fault", "faults", multiple=True, metavar="KIND=RATE", help="Misbehave, e.g. server_error=0.1.")
@click.option("--seed", default=0, show_default=True, help="Decides which requests the faults hit.")
@click.option("--requests-per-minute", type=int, help="Rate limit; none when omitted.")
@click.option(
    "--credits",
    "credits_usd",
    default=100.0,
    type=click.FloatRange(min=0),
    show_default=True,
    help="Balance at the first start, USD.",
)
@click.option("--state", type=click.Path(path_type=Path), help="Folder that keeps jobs and money over a restart.")
def sandbox(
    port: int,
    speed: float,
    faults: tuple[str, ...],
    seed: int,
    requests_per_minute: int | None,
    credits_usd: float,
    state: Path | None,
) -> None:
    """Run a local Segmind on loopback until it is stopped."""
    from segmind_dagster.sandbox import SANDBOX_API_KEY, Faults, SandboxSettings, serve

    if speed <= 0:
        raise click.BadParameter("must be above 0", param_hint="--speed")
    rates = {}
    for fault in faults:
        kind, separator, rate = fault.partition("=")
        if not separator or not rate.replace(".", "", 1).isdigit():
            raise click.BadParameter(f"{fault!r} is not KIND=RATE", param_hint="--fault")
        rates[kind] = float(rate)

    def announce(url: str) -> None:
        click.echo(
            f"Sandbox at {url}\n  export SEGMIND_API_URL={url} SEGMIND_API_KEY={SANDBOX_API_KEY} "
            "SEGMIND_DATA_DIR=sandbox_data"
        )

    serve(
        SandboxSettings(
            port=port,
            time_scale=1 / speed,
            faults=Faults.from_json({"rates": rates, "seed": seed}),
            requests_per_minute=requests_per_minute,
            initial_credits=Decimal(str(credits_usd)),
            state_dir=state,
        ),
        announce,
    )


@cli.command()
def sync() -> None:
    """Bring Dagster's partitions in step with the prompt files."""
    from segmind_dagster.orchestration.local import find_project, prepare_dagster_home
    from segmind_dagster.orchestration.sync import sync_partitions

    if not os.environ.get("DAGSTER_HOME"):
        prepare_dagster_home(find_project())
    added, removed, problems = sync_partitions()
    click.echo(f"Added: {', '.join(added) or 'none'}. Removed: {', '.join(removed) or 'none'}.")
    for problem in problems:
        click.secho(problem, fg="red", err=True)
    sys.exit(1 if problems else 0)


@cli.command()
@click.argument("prompt_sets", nargs=-1)
@click.option("--all", "is_all", is_flag=True, help="Plan every prompt set.")
def plan(prompt_sets: tuple[str, ...], *, is_all: bool) -> None:
    """Estimate what prompt sets would cost; nothing is submitted. Exits with 1 when a cap refuses some."""
    from datetime import UTC, datetime

    from segmind_dagster.data_folder import as_found
    from segmind_dagster.ledger import reads
    from segmind_dagster.runner import Batch, plan_set
    from segmind_dagster.settings import load_settings

    settings = load_settings()
    sets = _named_sets(settings, prompt_sets, is_all=is_all)
    plans: list[Plan] = []
    with as_found(settings) as (ledger, _):
        for found in sets:
            batch = Batch(found, tuple(model.resource for model in found.models))
            # a backfill starts a run for each set, so the cap of a run holds for each by itself
            plans += plan_set(ledger, settings, batch)
        today = datetime.now(UTC).date().isoformat()
        used_usd = ledger.read(reads.spent, run_id=None, day=today, prompt_set="").day_usd
    click.echo(_plan_table(plans))
    most_usd = sum((plan.estimate.high_usd for plan in plans if not plan.refusal), Decimal(0))
    if used_usd + most_usd > settings.daily_budget_usd:
        click.secho(
            f"That may be more than today's cap: ${used_usd:.4f} of ${settings.daily_budget_usd} is used. What does "
            "not fit is held back and resumes tomorrow; SEGMIND_DAILY_BUDGET_USD raises the cap.",
            fg="yellow",
            err=True,
        )
    refusals = [plan.refusal for plan in plans if plan.refusal]
    for refusal in dict.fromkeys(refusals):
        click.secho(refusal, fg="yellow", err=True)
    sys.exit(1 if refusals else 0)


@cli.command()
def status() -> None:
    """Totals of the ledger by state, and the money."""
    from datetime import UTC, datetime

    from segmind_dagster.data_folder import as_found
    from segmind_dagster.ledger import reads
    from segmind_dagster.lifecycle.matching import ABSENT_REVIEW
    from segmind_dagster.settings import load_settings

    settings = load_settings()
    with as_found(settings) as (ledger, outputs):
        quarantined = outputs.quarantine.found()
        quarantined_usd = ledger.read(reads.paid_for, {(each.generation_id, each.attempt) for each in quarantined})
        totals = ledger.read(reads.totals)
        unknown = ledger.read(reads.unknown_costs)
        charged = ledger.read(reads.charged)
        reserved = ledger.read(reads.reserved)
        inferred = ledger.read(reads.inferred_absent, since=datetime.now(UTC) - ABSENT_REVIEW)
    click.echo(f"{settings.api_origin}, data in {settings.data_dir}")
    if not totals and not charged:
        click.echo(
            "  Nothing here yet: `segmind-dagster plan --all` says what your prompt sets would cost, and\n"
            "  `segmind-dagster dev` opens the UI where they are materialized."
        )
        return
    for state, (count, usd) in sorted(totals.items()):
        open_ones = unknown.get(state, 0)
        more = f", and {open_ones} of unknown cost" if open_ones else ""
        click.echo(f"  {state:<12}{count:>8}  {'cost not known' if open_ones == count else f'${usd:.4f}{more}'}")
    click.echo(f"  charged over all attempts: ${charged:.6f}")
    if reserved:
        click.echo(
            f"  sent, outcome not known yet: may have been charged as well, up to ${reserved:.6f}; "
            "`segmind-dagster collect` finds out and fetches it, free of charge"
        )
    if inferred.attempts:
        click.echo(
            f"  inferred never to have arrived: {inferred.attempts}, which would have cost up to "
            f"${inferred.reserved_usd:.6f}; looked for in the history for {ABSENT_REVIEW.days} days"
        )
    if quarantined:
        size_kb = sum(each.size_bytes for each in quarantined) / 1000
        files = "1 refused file" if len(quarantined) == 1 else f"{len(quarantined)} refused files"
        click.echo(
            f"  quarantine: {files}, {size_kb:.1f} kB, paid for with ${quarantined_usd:.6f}, in "
            f"{outputs.quarantine.url}\n"
            "    look at them; `segmind-dagster collect` fetches them again, free of charge;\n"
            "    `segmind-dagster resolve GENERATION --buy-again` buys one once more"
        )


@cli.command()
def collect() -> None:
    """Fetch what was paid for and is not stored, whatever set it is for; buy nothing."""
    from collections import Counter

    from segmind_dagster.runner import collect as collect_all
    from segmind_dagster.settings import load_settings

    endings = collect_all(load_settings(), on_progress=lambda progress: click.echo(progress.line()))
    counts = Counter(ended.ending for ended in endings.values())
    worth_usd = sum((ended.cost_usd for ended in endings.values()), Decimal(0))
    said = {
        "succeeded": f"fetched, worth ${worth_usd:.4f}, charged when sent; load with `segmind-dagster reload`",
        "reused": "stored by another run meanwhile",
        "running": "not done at Segmind yet, or not reachable now; collect again later",
        "unknown": "of unknown outcome; collect again later, or decide with `segmind-dagster resolve`",
        "held_back": "not in Segmind's history, so they count as never sent: the next run of their sets buys them",
        "failed": "failed",
    }
    for name, count in counts.items():
        click.echo(f"{count} {said.get(name, name)}.")
    click.echo("Nothing was bought." if counts else "Nothing to collect.")


@cli.command()
@click.option("--despite-gaps", is_flag=True, help="Though the history leaves out requests that are known.")
def rebuild(*, despite_gaps: bool) -> None:
    """Restore a lost ledger from outputs, Segmind's history and the warehouse; nothing is bought."""
    from segmind_dagster.recovery import rebuild as restore
    from segmind_dagster.settings import load_settings

    for line in restore(load_settings(), say=click.echo, despite_gaps=despite_gaps).lines():
        click.echo(line)


@cli.command()
def reload() -> None:
    """Load everything the ledger holds into the configured destination; nothing is bought."""
    from segmind_dagster.registry import MODELS
    from segmind_dagster.settings import load_settings
    from segmind_dagster.source import build_source, load

    names = [model.resource for model in MODELS]
    settings = load_settings()
    info, _ = load(settings, build_source(settings, prompt_sets=None).with_resources(*names, "attempts"))
    click.echo(str(info))


def _named_sets(settings: Settings, names: Sequence[str], *, is_all: bool) -> list[PromptSet]:
    """The prompt sets that a command is about, with all their problems in one error."""
    from segmind_dagster.prompts import find_prompt_set, scan_prompts

    keys = list(names)
    if is_all:
        folder = scan_prompts(settings.prompts_dir)
        if folder.problems:
            raise PromptSetError(folder.problems)
        keys = sorted(folder.files)
    if is_all and not keys:
        raise click.UsageError(f"There are no prompt files in {settings.prompts_dir}.")
    if not keys:
        raise click.UsageError("Name prompt sets, or give --all.")
    sets = []
    found_problems: list[Problem] = []
    for key in keys:
        try:
            sets.append(find_prompt_set(key, prompts_dir=settings.prompts_dir, project_dir=settings.project_dir))
        except PromptSetError as error:
            found_problems += error.problems
    if found_problems:
        raise PromptSetError(found_problems)
    return sets


def _plan_table(plans: list[Plan]) -> str:
    """One line a model under its prompt set, of 80 characters at most; a long name has a line of its own."""
    from segmind_dagster.planning import Total

    headings = f"{'buy':>6}{'owned':>7}{'busy':>6}{'low':>10}{'expected':>10}{'high':>10}{'time':>8}"
    wide = 80 - len(headings)
    lines = [f"{'prompt set, model':<{wide}}{headings}"]
    for number, plan in enumerate(plans):
        if number == 0 or plans[number - 1].prompt_set != plan.prompt_set:
            lines.append(plan.prompt_set)
        counts, estimate = plan.counts, plan.estimate
        busy = counts["collect"] + counts["look_up"] + counts["wait"]
        # what a set allows for one generation is no price
        is_known = not (estimate.capped or estimate.unpriced)
        usd = (estimate.low_usd, estimate.expected_usd, estimate.high_usd)
        prices = "".join(f"{f'${amount:.4f}' if is_known else 'unknown':>10}" for amount in usd)
        time = "unknown" if estimate.duration_s is None else f"{estimate.duration_s:.0f} s"
        name = f"  {plan.resource}"
        if len(name) > wide:
            lines.append(name)
            name = ""
        lines.append(f"{name:<{wide}}{counts['submit']:>6}{counts['reuse']:>7}{busy:>6}{prices}{time:>8}")
    lines += Total.of(plans).sentences()
    return "\n".join(lines)
