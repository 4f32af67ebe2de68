"""`make bench`: the same generations done by several contenders in one run, shown as ratios to the bare loop.

Every contender has a process of its own (see `contender`) and a fresh sandbox of its own (see `server`).
`python -m bench.scale` measures what a comparison cannot show: thousands in flight, large ledgers, large sets.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from bench.server import KEY, running

SLUG = "fast-flux-schnell"
CONTENDERS = ("bare", "product", "threads", "sdk")
_NOTES = """\
bare     one aiohttp loop; told the latency beforehand, keeps no record, verifies nothing: the practical limit
product  with its ledger, verification, provenance; learns the latency; the load into DuckDB comes after (load s).
         A model's very first run takes a job longer: three generations go ahead until one is stored
threads  requests, a thread a job, a poll a second; a latency of whole seconds suits it
sdk      segmind 1.3.0, a thread a job, its own polling, also once a second
CPU s is the work alone; imports and start-up are start s. server s is the sandbox's own CPU: it has a process of
its own, but a contender that is faster than it waits for it. lost: jobs without a file."""


class Size(NamedTuple):
    """v2 jobs, how many of them at once, and what one takes in seconds; None as the catalogue says."""

    jobs: int
    in_flight: int
    latency_s: float | None


PRESETS = {"small": Size(600, 64, 2.0), "large": Size(3000, 1000, 5.0)}


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--preset", choices=PRESETS, default="small")
    parser.add_argument("--contenders", default=",".join(CONTENDERS), help="some of them, separated by commas")
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--in-flight", type=int)
    parser.add_argument("--latency", type=float, help="seconds a job takes")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    names = options.contenders.split(",")
    if unknown := set(names) - set(CONTENDERS):
        parser.error(f"--contenders: {', '.join(sorted(unknown))} is none of {', '.join(CONTENDERS)}")
    given = Size(options.jobs, options.in_flight, options.latency)
    size = Size(
        *(default if value is None else value for value, default in zip(given, PRESETS[options.preset], strict=True))
    )
    print(f"{size.jobs} v2 generations of {size.latency_s:g} s, {size.in_flight} in flight, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(options.rounds):
            figures = {name: measure(name, size, Path(folder) / f"{name}-{turn}") for name in names}
            print("\n".join(table(figures)))
    print(_NOTES)


def measure(name: str, size: Size, folder: Path, *, slug: str = SLUG) -> dict[str, float]:
    """Let one contender do the work; what it tells of itself, and what the server tells of it.

    Raises:
        SystemExit: it failed, or the provider's own books hold another number of charges than there were jobs.
    """
    with running(fixed_latency_s=size.latency_s) as server:
        task = {
            "url": server.url,
            "key": KEY,
            "slug": slug,
            "bodies": [{"prompt": f"prompt number {number}", "seed": number} for number in range(size.jobs)],
            "in_flight": size.in_flight,
            "latency_s": size.latency_s,
            "folder": str(folder),
        }
        done = subprocess.run(  # noqa: S603  our own interpreter, no shell
            [sys.executable, "-m", f"bench.{name}"],
            input=json.dumps(task),
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "DLT_DATA_DIR": str(folder / "dlt")},
        )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    figures: dict[str, Any] = {"lost": 0, "load_s": None, "earlier": 0, **json.loads(done.stdout)}
    charges = server.account["charges"] - figures["earlier"]
    if charges != size.jobs and not figures["lost"]:
        raise SystemExit(f"{name}: {charges} charges for {size.jobs} jobs")
    return {**figures, "polls": server.polls / size.jobs, "server_s": server.cpu_s}


def table(figures: dict[str, dict[str, Any]]) -> list[str]:
    """The figures as lines; ratios are to the bare loop, or to the first contender when that took no part."""
    base = figures.get("bare") or next(iter(figures.values()))
    heads = f"{'':<9}{'wall s':>8}{'ratio':>7}{'CPU s':>8}{'ratio':>7}{'start s':>9}{'polls/job':>11}"
    lines = [f"{heads}{'MB':>6}{'lost':>6}{'server s':>10}{'load s':>8}"]
    for name, found in figures.items():
        load = "" if found["load_s"] is None else f"{found['load_s']:.2f}"
        lines.append(
            f"{name:<9}{found['wall_s']:>8.2f}{found['wall_s'] / base['wall_s']:>7.3f}"
            f"{found['cpu_s']:>8.2f}{found['cpu_s'] / base['cpu_s']:>7.2f}{found['start_cpu_s']:>9.2f}"
            f"{found['polls']:>11.2f}{found['resident_mb']:>6.0f}{found['lost']:>6.0f}"
            f"{found['server_s']:>10.2f}{load:>8}"
        )
    return lines


if __name__ == "__main__":
    main()
