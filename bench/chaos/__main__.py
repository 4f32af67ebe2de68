"""`make chaos`: runs that are killed at random against a sandbox that misbehaves, then many against one that lies.

The first storm: prompt sets and a faulty sandbox (`world`), runs and kills (`storm`), everybody's books (`books`), and
what must hold (`claims`). The second: a table of lies (`scenarios`), each played (`trial`) and judged (`verdict`) in
`lying_storm`. Here they are put together, and the tables are printed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.chaos import lying_storm, verdict
from bench.chaos.books import (
    FAULTS_BY_TIME,
    asked_for,
    read_ledger,
    read_outputs,
    read_provider,
    read_warehouse,
)
from bench.chaos.claims import CLAIMS, Books, broken_claims
from bench.chaos.storm import ROOT, Storm, rage
from bench.chaos.world import (
    Options,
    environment,
    read_prompt_sets,
    sandbox_settings,
    settings_of,
    write_prompt_sets,
)
from segmind_dagster.registry import MODELS
from segmind_dagster.sandbox import REQUEST_FAULTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.chaos.scenarios import Scenario

_SOON_S = 30.0
_KILLS = "kills"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a chaos run.

    Args:
        storm: what happened.
        books: what everybody has on record afterwards.
        broken: the claims that do not hold, with what differs; empty when all is well.
        elapsed_s: until everything was reported done.
    """

    storm: Storm
    books: Books
    broken: tuple[str, ...]
    elapsed_s: float


def main() -> None:
    """Run both storms, print their tables, and fail when a promise does not hold."""
    chosen = _arguments()
    say = partial(print, flush=True)
    problems: list[str] = []
    with _project(chosen.folder) as project:
        say(f"seed {chosen.options.seed}; books and logs in {project}")
        if chosen.with_kills:
            problems += _kills(chosen.options, project / "kills", say=say)
        if chosen.played:
            seed = chosen.options.seed
            verdicts = lying_storm.rage(
                chosen.played, project / "lies", seed=seed, scale=chosen.scale, at_once=chosen.at_once, say=say
            )
            say(verdict.table(verdicts))
            problems += [f"{each.scenario.name}: {broken}" for each in verdicts for broken in each.broken]
    for problem in problems:
        print(f"BROKEN  {problem}")
    if problems:
        raise SystemExit(
            f"Not everything held; repeat with --seed {chosen.options.seed}, and --folder to keep the books."
        )
    print("All held.")


def _kills(options: Options, folder: Path, *, say: Callable[[str], None]) -> list[str]:
    """The storm of faults and kills; what did not hold in it."""
    folder.mkdir()
    outcome = run(options, folder, say=say)
    say(table(options, outcome))
    problems = list(outcome.broken)
    if (undealt := outcome.books.provider.undealt) and options.generations >= Options().generations:
        problems.append(f"every kind of fault is dealt: nobody met {', '.join(undealt)}")
    if not problems:
        say(f"All held: {', '.join(CLAIMS)}.")
    return problems


def run(options: Options, folder: Path, *, say: Callable[[str], None]) -> Outcome:
    """Let runs loose on a faulty sandbox, kill some, and compare everybody's books.

    Args:
        options: how many of what.
        folder: an empty project folder.
        say: called for progress.
    """
    write_prompt_sets(folder, options.generations)
    with _sandbox(options, folder / "provider") as url:
        environ = environment(options, folder, url)
        settings = settings_of(environ)
        sets = read_prompt_sets(settings)
        asked = asked_for(sets)
        began = time.monotonic()
        storm = rage(
            options,
            [each.key for each in sets],
            folder=folder,
            environ=environ,
            accepted=lambda: int(_account(url)["submissions"]),
            say=say,
        )
        elapsed_s = time.monotonic() - began
        account = _account(url)
    books = Books(
        asked=asked,
        provider=read_provider(
            folder / "provider" / "journal.jsonl",
            account,
            images={model.slug: frozenset(parameter.name for parameter in model.image_parameters) for model in MODELS},
            faults=sandbox_settings(options, folder / "provider").faults,
        ),
        ledger=read_ledger(settings.data_dir / "ledger.sqlite"),
        warehouse=read_warehouse(settings.data_dir / "segmind.duckdb", [model.resource for model in MODELS]),
        outputs=read_outputs(Path(settings.outputs_url)),
    )
    crashes = tuple(f"no run fails by itself: {crash}" for crash in storm.crashes)
    return Outcome(storm=storm, books=books, broken=(*broken_claims(books), *crashes), elapsed_s=elapsed_s)


def table(options: Options, outcome: Outcome) -> str:
    """What happened and what was counted, for people."""
    storm, books = outcome.storm, outcome.books
    provider, states = books.provider, books.ledger.states
    asked = sum(provider.asked.values())
    spoilt = sum(kinds.total() for kinds in provider.spoilt.values())
    shared = sum(len(each.prompt_sets) > 1 for each in books.asked)
    lines = {
        "generations": f"{len(books.asked)}, of which {shared} are asked for by two prompt sets",
        "POSTs": f"{provider.posts}, and {provider.refused_by_rate} requests answered 429",
        "charges": f"{len(provider.charges)}",
        "charged by provider": f"${provider.charged_usd:.9f}",
        "            ledger": f"${books.ledger.charged_usd:.9f}",
        "            warehouse": f"${books.warehouse.charged_usd:.9f}",
        "submissions with faults": f"{provider.faulted} ({provider.faulted / max(provider.posts, 1):.1%})",
        **{
            f"  met {when}": ", ".join(f"{kind} {provider.dealt[kind]}" for kind in kinds)
            for when, kinds in FAULTS_BY_TIME.items()
        },
        "other requests with them": f"{spoilt} of {asked} ({spoilt / max(asked, 1):.1%})",
        **{
            f"  {route}": f"{sum(kinds.values())} of {provider.asked[route]}: "
            + ", ".join(f"{kind} {kinds[kind]}" for kind in REQUEST_FAULTS if kinds[kind])
            for route, kinds in sorted(provider.spoilt.items())
        },
        "not dealt": ", ".join(provider.undealt) or "-",
        "runs": f"{storm.runs}, {options.runs} at a time; {sum(storm.stopped.values())} stopped by themselves "
        f"({', '.join(f'{kind} {count}' for kind, count in sorted(storm.stopped.items())) or '-'})",
        "kills": ", ".join(f"{count} while {phase}" for phase, count in sorted(storm.kills.items())),
        "taken over": f"{storm.held} generations in the hands of killed runs",
        "plain runs at the end": f"{storm.plain_runs}",
        "unknown": f"{sum(state == 'unknown' for state in states.values())}",
        "stored": f"{len(books.outputs)}",
        "loaded": f"{sum(row.status == 'succeeded' for row in books.warehouse.rows)} rows",
        "wall time": f"{outcome.elapsed_s:.0f} s",
    }
    return "\n".join(f"{name:<24} {value}" for name, value in lines.items())


@contextmanager
def _sandbox(options: Options, folder: Path) -> Iterator[str]:
    """A sandbox in a process of its own; its journal is complete afterwards."""
    folder.mkdir()
    with (folder / "messages").open("wb") as messages:
        process = subprocess.Popen(  # noqa: S603  our own interpreter, no shell
            [sys.executable, "-m", "bench.chaos.sandbox", json.dumps(asdict(options)), str(folder)],
            stdout=subprocess.PIPE,
            # a client that is killed amid an answer is no news
            stderr=messages,
            text=True,
            cwd=ROOT,
        )
    try:
        url = process.stdout.readline().strip() if process.stdout else ""
        if not url:
            raise RuntimeError(f"The sandbox did not start: {(folder / 'messages').read_text(encoding='utf-8')}")
        yield url
    finally:
        process.terminate()
        process.wait(_SOON_S)


def _account(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/sandbox/account?jobs=false", timeout=_SOON_S) as answer:  # noqa: S310  our own
        account: dict[str, Any] = json.load(answer)
    return account


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chosen:
    """What the command line asks for."""

    options: Options
    folder: Path | None
    with_kills: bool
    played: tuple[Scenario, ...]
    scale: float
    at_once: int


def _arguments() -> _Chosen:
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    for each in fields(Options):
        parser.add_argument(f"--{each.name.replace('_', '-')}", type=type(each.default), default=each.default)
    parser.add_argument("--folder", type=Path, help="keep everything in this folder, which must not exist")
    parser.add_argument(
        "--only", action="append", default=[], metavar="SCENARIO",
        help=f"only scenarios whose names begin like this; {_KILLS} is the storm of faults and kills",
    )  # fmt: skip
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the generations of scenarios")
    parser.add_argument("--at-once", type=int, default=lying_storm.AT_ONCE, help="scenarios at the same time")
    given = vars(parser.parse_args())
    only = given.pop("only")
    named = [name for name in only if name != _KILLS]
    try:
        played = lying_storm.chosen(named, seed=given["seed"]) if named or not only else ()
    except ValueError as error:
        parser.error(str(error))
    rest = {name: given.pop(name) for name in ("folder", "scale", "at_once")}
    return _Chosen(options=Options(**given), with_kills=not only or _KILLS in only, played=played, **rest)


@contextmanager
def _project(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        folder.mkdir(parents=True)
        yield folder.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="segmind-chaos-") as temporary:
        yield Path(temporary)


if __name__ == "__main__":
    main()
