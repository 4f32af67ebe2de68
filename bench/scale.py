"""`python -m bench.scale`: what a comparison cannot show, each against its aim.

Thousands of jobs in flight in one process, planning over a large finished set, and the questions that runs and
sensors ask of a large ledger.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from sqlalchemy import event, select, update

from bench.__main__ import Size, measure
from bench.ledgers import fill, finish
from segmind_dagster.ledger import Ledger, entries, open_ledger, reads, sensor_reads
from segmind_dagster.ledger.schema import GENERATIONS
from segmind_dagster.lifecycle.next_step import FIRST_LOOK, KEPT, RETRYABLE, UNCOUNTED
from segmind_dagster.prompts import load_prompt_set
from segmind_dagster.runner import Batch, generate, plan_set
from segmind_dagster.sandbox import SANDBOX_API_KEY
from segmind_dagster.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Connection

_MODEL = "wan-2.2-t2v-fast"  # 96 s by the catalogue: long enough for thousands to be in flight together
_RESOURCE = "fast_flux_schnell"
_ORIGIN = "http://127.0.0.1:1"
_ASKED = ("generation_id", "prompt", "negative_prompt", "seed", "sample")
_TIMES = 5
_IDS = 1000
_AIM_MS = 50.0
_OPENED = (20_000, 1000)


def main() -> None:
    """Run what is asked for and print it."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--in-flight", type=int, default=5000, help="jobs at once; 0 leaves this part out")
    parser.add_argument("--planned", type=int, default=100_000, help="finished generations of one set; 0 leaves it out")
    parser.add_argument("--ledger-rows", type=int, default=1_000_000, help="generations in the ledger; 0 leaves it out")
    parser.add_argument("--model", default=_MODEL, help="slug for the jobs in flight")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # first, because a new process begins with the peak of memory of the one that starts it
        if options.in_flight:
            print("\n".join(keep_in_flight(Path(folder) / "flight", options.in_flight, options.model)), flush=True)
        if options.ledger_rows:
            print("\n".join(ask_large_ledger(Path(folder) / "ledger", options.ledger_rows, _OPENED)), flush=True)
        if options.planned:
            print("\n".join(plan_large_set(Path(folder) / "set", options.planned)), flush=True)


def keep_in_flight(folder: Path, jobs: int, slug: str) -> list[str]:
    """All jobs in flight at once, with latencies spread as the sandbox spreads the catalogue's."""
    found = measure("product", Size(jobs, jobs, None), folder, slug=slug)
    return [
        f"{jobs} {slug} jobs in flight, one process, latencies of the catalogue",
        _line("resident", found["resident_mb"], "MB", 400),
        _line("polls a job", found["polls"], "", 3),
        _line("at once", found["peak_in_flight"], ""),
        _line("wall", found["wall_s"], "s", note=f"CPU {found['cpu_s']:.1f} s, not finished {found['lost']:.0f}"),
    ]


def plan_large_set(folder: Path, generations: int) -> list[str]:
    """One set whose generations are all finished: reading its file, planning it, a run that has nothing to do."""
    folder.mkdir(parents=True)
    file = folder / "large.jsonl"
    file.write_text("".join(f'{{"prompt": "prompt number {number}"}}\n' for number in range(generations)))
    settings = load_settings(environ={}, project_dir=folder, api_url=_ORIGIN, api_key=SANDBOX_API_KEY)
    with _timed() as load_s:
        prompt_set = load_prompt_set(file, project_dir=folder)
    batch = Batch(prompt_set, (_RESOURCE,))
    with _opened(settings.ledger_url) as ledger:
        rows = [
            {
                **{name: getattr(request, name) for name in _ASKED},
                "model_slug": request.model.slug,
                "body": dict(request.body),
                "images": {},
                "variables": {},
            }
            for request in prompt_set.generations_of(_RESOURCE)
        ]
        with _timed() as register_s:
            ledger.write(
                entries.register_set, prompt_set="large", resource=_RESOURCE, generations=rows, now=datetime.now(UTC)
            )
        ledger.write(lambda connection: connection.execute(update(GENERATIONS).values(state="succeeded", attempts=1)))
        with _timed() as plan_s:
            (plan,) = plan_set(ledger, settings, batch)
    with _timed() as run_s:
        generate(settings, [batch])
    return [
        f"planning over {generations} finished generations of one set ({plan.counts['reuse']} reused)",
        _line("load and expand the file", load_s[0], "s", note=f"CPU {load_s[1]:.1f} s"),
        _line("plan", plan_s[0], "s", 3, f"CPU {plan_s[1]:.1f} s"),
        _line("load and plan", load_s[0] + plan_s[0], "s"),
        _line("register in an empty ledger", register_s[0], "s"),
        _line("a run with nothing to do", run_s[0], "s", note=f"CPU {run_s[1]:.1f} s"),
        _line("resident", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "MB"),
    ]


def ask_large_ledger(folder: Path, rows: int, opened: Sequence[int]) -> list[str]:
    """The questions of sensors and of a run's start, each with the plan SQLite has for it when it is slow.

    Args:
        folder: where the ledger is made.
        rows: generations.
        opened: how many of them are in flight, and how many failed; fewer each time.
    """
    folder.mkdir(parents=True)
    lines: list[str] = []
    with _opened(f"sqlite:///{folder / 'ledger.sqlite'}") as ledger, _timed() as fill_s:
        ledger.write(fill, rows, opened[0])
    with _timed() as open_s, _opened(f"sqlite:///{folder / 'ledger.sqlite'}"):
        pass
    lines.append(f"a ledger of {rows} generations (made in {fill_s[0]:.0f} s)")
    lines.append(_line("open", open_s[0] * 1000, "ms", _AIM_MS))
    for count in opened:
        with _opened(f"sqlite:///{folder / 'ledger.sqlite'}") as ledger:
            ledger.write(finish, leaving=count)
            lines.append(f"  {count} in flight, of which no run has a quarter, and {count} failed in two runs each")
            for name, aim_ms, question in questions(ledger):
                took_ms, cpu_ms = zip(*(_ask(ledger, question) for _ in range(_TIMES)), strict=True)
                # the work alone: it is all done in this process, and whoever else is busy does not count
                note = f"by the clock {median(took_ms):.0f}, first {took_ms[0]:.0f}"
                lines.append(_line(name, median(cpu_ms), "ms", aim_ms, note))
                if aim_ms is not None and median(cpu_ms) > aim_ms:
                    lines += [f"      {step}" for step in query_plans(ledger, question)]
    return lines


Question = tuple[str, float | None, "Callable[[Connection], Any]"]


def questions(ledger: Ledger) -> list[Question]:
    """What is asked of a filled ledger: name, aim in ms, and how."""
    some = select(GENERATIONS.c.generation_id).limit(_IDS)
    ids = ledger.read(lambda connection: connection.execute(some).scalars().all())
    now = datetime.now(UTC)
    long_ago = now - timedelta(days=365 * 5)
    slugs = ["fast-flux-schnell", "instantid", "a", "b"]
    look: dict[str, Any] = {"first_look": FIRST_LOOK, "kept": KEPT}
    open_work: dict[str, Any] = {"failed_kinds": RETRYABLE, "uncounted_kinds": UNCOUNTED}
    failed_runs: dict[str, Any] = {"is_alive": lambda *_: False, "uncounted_kinds": UNCOUNTED}
    ask: list[Question] = [
        ("sensors: open_work", _AIM_MS, lambda c: sensor_reads.open_work(c, **open_work)),
        ("sensors: held", _AIM_MS, sensor_reads.held),
        ("sensors: loose", _AIM_MS, lambda c: sensor_reads.loose(c, now=now, **look)),
        ("sensors: leases", _AIM_MS, lambda c: sensor_reads.leases(c, now=now, run_ids=["run00001"])),
        ("sensors: asked_for", _AIM_MS, lambda c: sensor_reads.asked_for(c, "set_001")),
        ("sensors: last_success", _AIM_MS, lambda c: sensor_reads.last_success(c, slugs)),
        ("sensors: balance", _AIM_MS, sensor_reads.balance),
        ("sensors: spent", _AIM_MS, lambda c: reads.spent(c, run_id="run00001", day="2026-01-01", prompt_set="s")),
        ("collect: sets_out_of_hand", None, lambda c: sensor_reads.sets_out_of_hand(c, since=long_ago)),
        ("collect: standing", None, lambda c: sensor_reads.standing(c, "set_001")),
        ("runs: observed, 4 models", _AIM_MS, lambda c: reads.observed(c, slugs)),
        ("runs: unfinished, the loose", None, lambda c: reads.unfinished(c, is_alive=lambda *_: True)),
        ("runs: unfinished, held by none", None, lambda c: reads.unfinished(c, is_alive=lambda *_: False)),
        ("runs: owners", _AIM_MS, reads.owners),
        (f"runs: snapshot of {_IDS}", _AIM_MS, lambda c: reads.snapshot(c, ids, is_alive=lambda *_: False)),
        (f"runs: snapshot of {_IDS} with failed runs", _AIM_MS, lambda c: reads.snapshot(c, ids, **failed_runs)),
        ("runs: owned_requests of 100", _AIM_MS, lambda c: reads.owned_requests(c, ids[:100])),
        ("status: totals", None, reads.totals),
        ("status: charged", None, reads.charged),
    ]  # fmt: skip
    return ask


def query_plans(ledger: Ledger, question: Callable[[Connection], Any]) -> list[str]:
    """How SQLite carries out each statement of a question."""
    seen: list[tuple[str, Any]] = []

    def remember(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        seen.append((statement, parameters))

    event.listen(ledger.engine, "before_cursor_execute", remember)
    try:
        ledger.read(question)
    finally:
        event.remove(ledger.engine, "before_cursor_execute", remember)
    with ledger.reading() as connection:
        return [
            str(row[-1])
            for statement, parameters in dict.fromkeys((s, p) for s, p in seen if s.startswith("SELECT"))
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]


def _ask(ledger: Ledger, question: Callable[[Connection], Any]) -> tuple[float, float]:
    """Milliseconds an answer takes, and how many of them are work."""
    began, cpu = time.perf_counter(), time.process_time()
    ledger.read(question)
    return (time.perf_counter() - began) * 1000, (time.process_time() - cpu) * 1000


@contextmanager
def _opened(url: str) -> Iterator[Ledger]:
    ledger = open_ledger(url, api_origin=_ORIGIN, holds_outputs=lambda: None)
    try:
        yield ledger
    finally:
        ledger.close()


@contextmanager
def _timed() -> Iterator[list[float]]:
    """Wall and CPU seconds of a block, once it is over."""
    taken: list[float] = []
    began, cpu = time.perf_counter(), time.process_time()
    yield taken
    taken += [time.perf_counter() - began, time.process_time() - cpu]


def _line(name: str, value: float, unit: str, aim: float | None = None, note: str = "") -> str:
    verdict = "" if aim is None else f"  aim {aim:g} {unit}: {'met' if value <= aim else 'MISSED'}"
    shown = f"{value:.0f}" if unit in {"MB", "ms"} and value >= 10 else f"{value:.2f}"
    return f"  {name:<30}{shown:>9} {unit:<3}{verdict}{f'  ({note})' if note else ''}"


if __name__ == "__main__":
    main()
