"""The product doing the same work: plan, ledger, verification and provenance included; the load apart.

Its ledger has stored an output of the model before, as in every run but a model's first one: that one sends three
generations ahead and waits for an output, a whole job longer.
"""

from __future__ import annotations

import json
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

# what a run imports when it first needs it: brought here, because imports are counted apart for everybody
import aiohttp  # noqa: F401
import alembic.command  # noqa: F401
import PIL.JpegImagePlugin  # noqa: F401
import simplejpeg  # noqa: F401
import tenacity  # noqa: F401

from bench.contender import Meter, Task, take_part
from segmind_dagster.prompts import load_prompt_set
from segmind_dagster.registry import find_model
from segmind_dagster.runner import Batch, generate
from segmind_dagster.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def settings_of(task: Task) -> Settings:
    """Settings for a task: its folder, its server, no rate limit and no cap in the way."""
    return load_settings(
        environ={},
        project_dir=task.folder,
        api_url=task.url,
        api_key=task.key,
        requests_per_minute=6_000_000.0,
        max_in_flight=task.in_flight,
        run_budget_usd=Decimal(10**6),
        daily_budget_usd=Decimal(10**6),
    )


def produce(task: Task, meter: Meter) -> None:
    """Generate every body once, through the same way in as Dagster's assets; then load, not metered."""
    settings = settings_of(task)
    resource = find_model(task.slug).resource
    earlier = _written(task.folder / "earlier.jsonl", resource, [{"prompt": "the first output of the model"}])
    generate(settings, [Batch(load_prompt_set(earlier, project_dir=task.folder), (resource,))])
    meter.figures["earlier"] = 1
    file = _written(task.folder / "bench.jsonl", resource, task.bodies)
    in_flight = [0]
    with meter:
        prompt_set = load_prompt_set(file, project_dir=task.folder)
        report = generate(
            settings,
            [Batch(prompt_set, (resource,))],
            on_progress=lambda progress: in_flight.append(progress.in_flight),
        )
    meter.figures["peak_in_flight"] = max(in_flight)
    meter.figures["lost"] = len(task.bodies) - report.models[0].endings["succeeded"]

    from segmind_dagster.source import build_source, load

    began = time.perf_counter()
    load(settings, build_source(settings, prompt_sets=None).with_resources(resource, "attempts"))
    meter.figures["load_s"] = time.perf_counter() - began


def _written(file: Path, resource: str, bodies: Sequence[Mapping[str, Any]]) -> Path:
    file.write_text("\n".join(json.dumps({**body, "models": [resource]}) for body in bodies), encoding="utf-8")
    return file


if __name__ == "__main__":
    take_part(produce)
