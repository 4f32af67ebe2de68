"""What most people write first: `requests` in a pool of threads, one thread a job from its POST to its file.

A connection is kept per thread, the status is asked every second as the API's documentation advises. A job
that meets an error is lost, as it would be there.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import requests

from bench.contender import Meter, Task, take_part

if TYPE_CHECKING:
    from collections.abc import Mapping

_POLL_EVERY_S = 1.0
_TIMEOUT_S = 60.0


def generate(task: Task, meter: Meter) -> None:
    """Generate every body once."""
    own = threading.local()

    def session() -> requests.Session:
        if not hasattr(own, "session"):
            own.session = requests.Session()
            own.session.headers["x-api-key"] = task.key
        kept: requests.Session = own.session
        return kept

    def asked(url: str, body: Mapping[str, Any] | None = None) -> requests.Response:
        response = session().request("GET" if body is None else "POST", url, json=body, timeout=_TIMEOUT_S)
        response.raise_for_status()
        return response

    def one(number: int, body: Mapping[str, Any]) -> None:
        request_id = asked(f"{task.url}/v2/{task.slug}", body).json()["request_id"]
        while asked(f"{task.url}/v2/requests/{request_id}/status").json()["status"] != "COMPLETED":
            time.sleep(_POLL_EVERY_S)
        output = asked(f"{task.url}/v2/requests/{request_id}").json()["output"]
        (task.folder / f"{number}.jpg").write_bytes(asked(output).content)

    with meter, ThreadPoolExecutor(task.in_flight) as pool:
        jobs = [pool.submit(one, number, body) for number, body in enumerate(task.bodies)]
    meter.figures["lost"] = sum(job.exception() is not None for job in jobs)


if __name__ == "__main__":
    take_part(generate)
