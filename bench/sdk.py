"""Segmind's own SDK in a pool of threads: one client, `run` per job, its own polling, then the file.

`run` submits, asks the status every second and returns the result; a job that meets an error is lost.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
from segmind.client import SegmindClient

from bench.contender import Meter, Task, take_part

if TYPE_CHECKING:
    from collections.abc import Mapping


def generate(task: Task, meter: Meter) -> None:
    """Generate every body once."""
    client = SegmindClient(api_key=task.key, base_url=f"{task.url}/v1")
    files = httpx.Client()

    def one(number: int, body: Mapping[str, Any]) -> None:
        output = client.run(task.slug, **body)["output"]
        answer = files.get(output).raise_for_status()
        (task.folder / f"{number}.jpg").write_bytes(answer.content)

    with meter, ThreadPoolExecutor(task.in_flight) as pool:
        jobs = [pool.submit(one, number, body) for number, body in enumerate(task.bodies)]
    meter.figures["lost"] = sum(job.exception() is not None for job in jobs)


if __name__ == "__main__":
    take_part(generate)
