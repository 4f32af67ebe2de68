"""The practical limit: one aiohttp loop that submits, polls, fetches and writes files, and nothing else.

It is told the latency beforehand, keeps no record and verifies nothing.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Sequence


async def run(
    url: str, key: str, slug: str, bodies: Sequence[dict[str, Any]], *, in_flight: int, latency_s: float, folder: Path
) -> None:
    """Generate every body once."""
    room = asyncio.Semaphore(in_flight)
    headers = {"x-api-key": key}
    connector = aiohttp.TCPConnector(limit=200)

    async def one(number: int, body: dict[str, Any]) -> None:
        async with room:
            async with session.post(f"{url}/v2/{slug}", json=body) as response:
                request_id = (await response.json())["request_id"]
            await asyncio.sleep(latency_s)
            while True:
                async with session.get(f"{url}/v2/requests/{request_id}/status") as response:
                    status = (await response.json())["status"]
                if status == "COMPLETED":
                    break
                await asyncio.sleep(0.1)
            async with session.get(f"{url}/v2/requests/{request_id}") as response:
                output = (await response.json())["output"]
            async with session.get(output) as response:
                (folder / f"{number}.jpg").write_bytes(await response.read())

    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
        await asyncio.gather(*(one(number, body) for number, body in enumerate(bodies)))


def main(arguments: dict[str, Any]) -> dict[str, float]:
    """Run once; returns wall and CPU seconds."""
    bodies = arguments["bodies"]
    Path(arguments["folder"]).mkdir(parents=True)
    began, cpu = time.perf_counter(), time.process_time()
    asyncio.run(
        run(
            arguments["url"],
            arguments["key"],
            arguments["slug"],
            bodies,
            in_flight=arguments["in_flight"],
            latency_s=arguments["latency_s"],
            folder=Path(arguments["folder"]),
        )
    )
    return {"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}


if __name__ == "__main__":
    import sys

    print(json.dumps(main(json.load(sys.stdin))))
