"""The same backfill as plain dagster-dlt partitions, written as its documentation shows.

A dlt resource a model submits a prompt set, polls and yields rows; `DagsterDltResource.run` does the rest. It keeps
no record and verifies nothing. A code location of its own, for `bench.backfill` only.
"""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg  # noqa: TID251  a code location
import dlt
import requests
import yaml
from dagster_dlt import DagsterDltResource, dlt_assets  # noqa: TID251  a code location

from segmind_dagster.registry import find_model

RESOURCES = ("fast_flux_schnell", "sdxl_newreality", "consistent_character_neolemon_v2")
prompt_sets = dg.DynamicPartitionsDefinition(name="prompt_sets")


@dlt.source(name="plain")
def plain_source(prompt_set: str = "", run_id: str = "") -> Any:
    """A resource a model.

    Args:
        prompt_set: whose prompts; none while the definitions are loaded.
        run_id: Dagster's run, kept with its rows.
    """
    return [_resource(name, prompt_set, run_id) for name in RESOURCES]


def _resource(name: str, prompt_set: str, run_id: str) -> Any:
    @dlt.resource(name=name, primary_key=("prompt_set", "prompt"), write_disposition="merge")
    def rows() -> Iterator[dict[str, Any]]:
        document = yaml.safe_load((Path(os.environ["SEGMIND_PROMPTS_DIR"]) / f"{prompt_set}.yaml").read_text())
        with ThreadPoolExecutor(16) as pool:
            for row in pool.map(lambda prompt: _generate(find_model(name).slug, prompt), document["prompts"]):
                yield {"prompt_set": prompt_set, "run_id": run_id, **row}

    return rows


def _generate(slug: str, prompt: str) -> dict[str, Any]:
    base, headers = f"{os.environ['SEGMIND_API_URL']}/v2", {"x-api-key": os.environ["SEGMIND_API_KEY"]}
    began = datetime.now(UTC)
    answer = requests.post(f"{base}/{slug}", json={"prompt": prompt}, headers=headers, timeout=60)
    answer.raise_for_status()
    request_id = answer.json()["request_id"]
    while True:
        status = requests.get(f"{base}/requests/{request_id}/status", headers=headers, timeout=60).json()["status"]
        if status not in {"QUEUED", "PROCESSING"}:
            break
        time.sleep(0.5)
    return {"prompt": prompt, "status": status, "submitted_at": began, "completed_at": datetime.now(UTC)}


def _pipeline() -> dlt.Pipeline:
    return dlt.pipeline("plain", destination=os.environ["SEGMIND_DESTINATION"], dataset_name="plain_data")


@dlt_assets(
    name="plain",
    dlt_source=plain_source(),
    dlt_pipeline=_pipeline(),
    partitions_def=prompt_sets,
)
def plain(context: dg.AssetExecutionContext, dlt: DagsterDltResource) -> Iterator[Any]:
    """Generate while dlt extracts, for one partition."""
    yield from dlt.run(context=context, dlt_source=plain_source(context.partition_key, context.run_id))


defs = dg.Definitions(
    assets=[plain],
    resources={"dlt": DagsterDltResource()},
    # Dagster's default is a process a step
    executor=dg.in_process_executor if "BENCH_IN_PROCESS" in os.environ else dg.multiprocess_executor,
)
