"""`make bench`: the same generations through a bare loop and through the product, each in its own process."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bench.server import serve
from segmind_dagster.sandbox import SANDBOX_API_KEY

SLUG = "fast-flux-schnell"


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=600)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--latency", type=float, default=2.0, help="seconds a job takes")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    print(f"{options.jobs} v2 generations of {options.latency:g} s, {options.in_flight} in flight")
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(options.rounds):
            figures = {name: _measure(name, options, Path(folder) / f"{name}-{turn}") for name in ("bare", "product")}
            _print(figures)


def _measure(name: str, options: argparse.Namespace, folder: Path) -> dict[str, float]:
    ours, theirs = get_context("spawn").Pipe()
    server = get_context("spawn").Process(target=serve, args=(options.latency, theirs), daemon=True)
    server.start()
    arguments: dict[str, Any] = {
        "url": ours.recv(),
        "key": SANDBOX_API_KEY,
        "slug": SLUG,
        "bodies": [{"prompt": f"prompt number {number}", "seed": number} for number in range(options.jobs)],
        "in_flight": options.in_flight,
        "latency_s": options.latency,
        "folder": str(folder),
    }
    done = subprocess.run(  # noqa: S603  our own interpreter, no shell
        [sys.executable, "-m", f"bench.{name}"],
        input=json.dumps(arguments),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "DLT_DATA_DIR": str(folder / "dlt")},
    )
    ours.send("stop")
    account = ours.recv()
    server.join()
    if account["charges"] != options.jobs:
        raise SystemExit(f"{name}: {account['charges']} charges for {options.jobs} jobs")
    figures: dict[str, float] = json.loads(done.stdout)
    figures["polls"] = account["requests"]["status"] / options.jobs
    return figures


def _print(figures: dict[str, dict[str, float]]) -> None:
    bare = figures["bare"]
    print(f"{'':<10}{'wall s':>9}{'ratio':>8}{'CPU s':>9}{'ratio':>8}{'polls/job':>11}{'load s':>9}{'MB':>7}")
    for name, found in figures.items():
        print(
            f"{name:<10}{found['wall_s']:>9.2f}{found['wall_s'] / bare['wall_s']:>8.3f}"
            f"{found['cpu_s']:>9.2f}{found['cpu_s'] / bare['cpu_s']:>8.2f}{found['polls']:>11.2f}"
            f"{found.get('load_s', float('nan')):>9.2f}{found.get('resident_mb', float('nan')):>7.0f}"
        )


if __name__ == "__main__":
    main()
