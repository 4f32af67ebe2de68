"""The product doing the same work: plan, ledger, verification and provenance included; the load apart."""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path
from typing import Any

from segmind_dagster.prompts import load_prompt_set
from segmind_dagster.runner import Batch, generate
from segmind_dagster.settings import load_settings


def main(arguments: dict[str, Any]) -> dict[str, float]:
    """Run once; returns wall and CPU seconds, and those of the load."""
    folder = Path(arguments["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.jsonl").write_text(
        "".join(json.dumps({"prompt": body["prompt"], "seed": body["seed"]}) + "\n" for body in arguments["bodies"])
    )
    url = arguments["url"]
    settings = load_settings(
        environ={},
        project_dir=folder,
        api_url=url,
        platform_url=url,
        storage_url=url,
        api_key=arguments["key"],
        output_hosts=(),
        requests_per_minute=6_000_000.0,
        max_in_flight=arguments["in_flight"],
    )
    prompt_set = load_prompt_set(folder / "bench.jsonl", project_dir=folder)
    began, cpu = time.perf_counter(), time.process_time()
    report = generate(settings, [Batch(prompt_set, ("fast_flux_schnell",))])
    figures = {"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
    if report.units[0].endings["succeeded"] != len(arguments["bodies"]):
        raise SystemExit(f"not everything was generated: {report}")
    figures["resident_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    from segmind_dagster.source import build_source, load

    began = time.perf_counter()
    load(settings, build_source(settings, prompt_sets=None).with_resources("fast_flux_schnell", "attempts"))
    figures["load_s"] = time.perf_counter() - began
    return figures


if __name__ == "__main__":
    import sys

    print(json.dumps(main(json.load(sys.stdin))))
