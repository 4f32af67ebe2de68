"""`python -m bench.rate`: several runs of several processes under one rate limit, by the provider's own count.

Two cases: the limit is configured as it is, and twice as high as it is. Told are the requests that each window of
the provider took, how much of the limit that is while all runs are under way, and the answers 429.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from segmind_dagster.prompts import load_prompt_set
from segmind_dagster.runner import Batch, generate
from segmind_dagster.sandbox import SandboxServer, SandboxSettings
from segmind_dagster.settings import load_settings

_RESOURCE = "fast_flux_schnell"
_WINDOW_S = 60


def main() -> None:
    """Run both cases and print them."""
    parser = argparse.ArgumentParser(prog="python -m bench.rate", description=__doc__)
    parser.add_argument("--limit", type=int, default=600, help="requests a minute that the provider takes")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--windows", type=int, default=3, help="whole windows to fill")
    parser.add_argument("--one-run", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one_run:
        _run(options.one_run)
        return
    for factor in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            print(measure(Path(folder), options.limit, factor, options.runs, options.windows), flush=True)


def measure(folder: Path, limit: int, factor: int, runs: int, windows: int) -> str:
    """One case, as a paragraph."""
    jobs = limit * (windows + 1)
    for number in range(runs):
        lines = (json.dumps({"prompt": f"{number} {n}", "models": [_RESOURCE]}) for n in range(jobs // runs))
        (folder / f"run_{number}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    sandbox = SandboxSettings(
        requests_per_minute=limit, picture_mode="tiny", fixed_latency_s=1.0, initial_credits=Decimal(10**6)
    )
    with SandboxServer(sandbox) as server:
        environ = {
            **os.environ,
            "SEGMIND_PROJECT_DIR": str(folder),
            "SEGMIND_API_URL": server.url,
            "SEGMIND_API_KEY": server.api_key,
            "SEGMIND_REQUESTS_PER_MINUTE": str(limit * factor),
            "SEGMIND_RUN_BUDGET_USD": "1000000",
            "SEGMIND_DAILY_BUDGET_USD": "1000000",
        }
        # from the beginning of a window on, so that whole windows are filled
        time.sleep(_WINDOW_S - time.time() % _WINDOW_S)
        began = time.time()
        command = [sys.executable, "-m", "bench.rate", "--one-run"]
        processes = [
            subprocess.Popen([*command, str(folder / f"run_{number}.jsonl")], env=environ)  # noqa: S603  ourselves
            for number in range(runs)
        ]
        if any(process.wait() for process in processes):
            raise SystemExit("a run failed")
        took_s = time.time() - began
        account = server.account()
    taken = Counter(
        int(datetime.fromisoformat(job["created_at"]).timestamp() // _WINDOW_S - began // _WINDOW_S)
        for job in account["jobs"]
    )
    if account["charges"] != len(account["jobs"]) or len(account["jobs"]) != jobs // runs * runs:
        raise SystemExit(f"{account['charges']} charges, {len(account['jobs'])} jobs, {jobs} asked for")
    # neither the window in which the runs were starting nor the one in which they ended
    whole = [taken[number] for number in range(1, max(taken))]
    return (
        f"{runs} runs, limit {limit} a minute, configured {limit * factor}: windows took "
        f"{', '.join(str(taken[number]) for number in sorted(taken))}; whole ones used "
        f"{', '.join(f'{count / limit:.1%}' for count in whole)} of the limit; {account['rate_limited']} answers 429; "
        f"{account['charges']} charges for {jobs // runs * runs} generations; {took_s:.0f} s"
    )


def _run(file: Path) -> None:
    settings = load_settings()
    prompt_set = load_prompt_set(file, project_dir=settings.project_dir)
    report = generate(settings, [Batch(prompt_set, (_RESOURCE,))])
    if report.models[0].endings.keys() != {"succeeded"}:
        raise SystemExit(str(report.models[0].endings))


if __name__ == "__main__":
    main()
