"""The practical limit: one aiohttp loop that submits, polls, fetches and writes files, and nothing else.

It is told the latency beforehand, keeps no record, verifies nothing and survives nothing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp

from bench.contender import Meter, Task, take_part

if TYPE_CHECKING:
    from collections.abc import Mapping

_SOCKETS = 200


async def _generate(task: Task) -> None:
    limit = asyncio.Semaphore(task.in_flight)

    async def one(number: int, body: Mapping[str, Any]) -> None:
        async with limit:
            async with session.post(f"{task.url}/v2/{task.slug}", json=body) as response:
                request_id = (await response.json())["request_id"]
            await asyncio.sleep(task.latency_s or 0)
            while True:
                async with session.get(f"{task.url}/v2/requests/{request_id}/status") as response:
                    status = (await response.json())["status"]
                if status == "COMPLETED":
                    break
                await asyncio.sleep(0.1)
            async with session.get(f"{task.url}/v2/requests/{request_id}") as response:
                output = (await response.json())["output"]
            async with session.get(output) as response:
                (task.folder / f"{number}.jpg").write_bytes(await response.read())

    connector = aiohttp.TCPConnector(limit=_SOCKETS)
    async with aiohttp.ClientSession(headers={"x-api-key": task.key}, connector=connector) as session:
        await asyncio.gather(*(one(number, body) for number, body in enumerate(task.bodies)))


def generate(task: Task, meter: Meter) -> None:
    """Generate every body once."""
    with meter:
        asyncio.run(_generate(task))


if __name__ == "__main__":
    take_part(generate)
