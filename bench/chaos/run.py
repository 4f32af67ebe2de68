"""One run, as the body of the model assets does it: generate what prompt sets ask for, then load. May be killed.

Prints a JSON line when it enters a phase, the last of them with how everything ended.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from functools import partial
from typing import Any

from bench.chaos.quick_time import expect_quick_jobs
from segmind_dagster.gateway import client
from segmind_dagster.prompts import find_prompt_set
from segmind_dagster.registry import MODELS
from segmind_dagster.runner import Batch, generate
from segmind_dagster.settings import load_settings
from segmind_dagster.source import build_source, load


def main(client_timeout_s: float, time_scale: float, run_id: str, keys: list[str]) -> None:
    """Run once over these prompt sets."""
    expect_quick_jobs(time_scale)
    # no setting says how long a v2 submission may take; v1 has one
    client.Gateway = partial(client.Gateway, submit_timeout_s=client_timeout_s)
    settings = load_settings()
    resources = tuple(model.resource for model in MODELS)
    sets = [find_prompt_set(key, prompts_dir=settings.prompts_dir, project_dir=settings.project_dir) for key in keys]
    _say("generating")
    report = generate(settings, [Batch(each, resources) for each in sets], run_id=run_id)
    _say("loading")
    source = build_source(settings, prompt_sets=[*keys, *sorted(report.also_collected)])
    load(settings, source.with_resources(*resources, "attempts"), purpose=run_id)
    endings = sum((result.endings for result in report.models), Counter())
    _say("done", endings=dict(endings), stopped_by=report.stopped_by)


def _say(phase: str, **fields: Any) -> None:
    print(json.dumps({"phase": phase, **fields}), flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]), float(sys.argv[2]), sys.argv[3], sys.argv[4:])
