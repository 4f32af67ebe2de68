"""`python -m bench.backfill_startup`: what one run costs before and after its work, beside plain dagster-dlt.

One partition of one model with one generation of a second, by `dagster asset materialize`; and the time a fresh
interpreter needs to load the definitions. Contenders take turns, so that whoever else uses the machine disturbs all
of them alike; CPU seconds are disturbed least.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

import dagster as dg  # noqa: TID251  puts partitions into a Dagster home

from bench.backfill_books import read_rows
from bench.server import KEY, running

_RESOURCE: Final = "fast_flux_schnell"
_CONTENDERS: Final = ("plain", "plain in process", "product")


class Cost(NamedTuple):
    """Seconds of one run: all of it, its CPU, and up to its first submission."""

    wall_s: float
    cpu_s: float
    submit_s: float


def main() -> None:
    """Run the contenders in turn and print medians."""
    parser = argparse.ArgumentParser(prog="python -m bench.backfill_startup", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--contenders", default=",".join(_CONTENDERS))
    options = parser.parse_args()
    names = options.contenders.split(",")
    runs: dict[str, list[Cost]] = {name: [] for name in names}
    loads: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder, running(fixed_latency_s=1.0) as server:
        for turn in range(options.rounds):
            for name in names:
                place = Path(folder) / f"{name.replace(' ', '-')}"
                environ = _prepared(place, server.url, name, turn)
                runs[name].append(_materialize(place, environ, name, turn))
                loads[name].append(_timed([sys.executable, "-c", f"import {_module(name)}"], environ, place))
    print(f"{'':<18}{'run: wall s':>12}{'CPU s':>8}{'first submission s':>20}{'definitions: wall s':>21}{'CPU s':>8}")
    for name in names:
        wall, cpu, submit = (statistics.median(column) for column in zip(*runs[name], strict=True))
        load_wall, load_cpu = (statistics.median(column) for column in zip(*loads[name], strict=True))
        print(f"{name:<18}{wall:>12.2f}{cpu:>8.2f}{submit:>20.2f}{load_wall:>21.2f}{load_cpu:>8.2f}")


def _module(name: str) -> str:
    return "segmind_dagster.definitions" if name == "product" else "bench.backfill_plain"


def _prepared(folder: Path, url: str, name: str, turn: int) -> dict[str, str]:
    """A project, a Dagster home that has been used before, and the variables that point there."""
    prompts, home = folder / "prompts", folder / "dagster_home"
    prompts.mkdir(parents=True, exist_ok=True)
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    # contenders share a provider: the product buys nothing that its history lists and its ledger does not know
    document = {"models": [_RESOURCE], "prompts": [f"number {turn} for {name}"]}
    (prompts / f"set_{turn}.yaml").write_text(json.dumps(document), encoding="utf-8")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.add_dynamic_partitions("prompt_sets", [f"set_{turn}"])
    return {
        **os.environ,
        "DAGSTER_HOME": str(home),
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        "DLT_DATA_DIR": str(folder / "dlt"),
        "SEGMIND_PROJECT_DIR": str(folder),
        "SEGMIND_PROMPTS_DIR": str(prompts),
        "SEGMIND_API_URL": url,
        "SEGMIND_API_KEY": KEY,
        "SEGMIND_DESTINATION": "duckdb",
        "DESTINATION__DUCKDB__CREDENTIALS": str(folder / "warehouse.duckdb"),
        **({"BENCH_IN_PROCESS": "1"} if name == "plain in process" else {}),
    }


def _materialize(folder: Path, environ: dict[str, str], name: str, turn: int) -> Cost:
    asset = f"segmind/{_RESOURCE}" if name == "product" else f"dlt_plain_{_RESOURCE}"
    command = ["-m", "dagster", "asset", "materialize", "-m", _module(name), "--select", asset]
    began = time.time()
    wall_s, cpu_s = _timed([sys.executable, *command, "--partition", f"set_{turn}"], environ, folder)
    dataset = "segmind_data" if name == "product" else "plain_data"
    rows = read_rows(str(folder / "warehouse.duckdb"), dataset, [_RESOURCE])
    return Cost(wall_s, cpu_s, max(begin for _, begin, _ in rows.generations) - began)


def _timed(command: list[str], environ: dict[str, str], folder: Path) -> tuple[float, float]:
    """Wall and CPU seconds of a command and its children.

    Raises:
        SystemExit: it failed.
    """
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, env=environ, cwd=Path.cwd(), capture_output=True, text=True, check=False)  # noqa: S603  our own interpreter
    wall_s, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        (folder / "error.log").write_text(done.stderr, encoding="utf-8")
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
