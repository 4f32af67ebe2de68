"""Files anyone may fetch without a key: generated outputs and uploads, and the faults an output can have."""

from __future__ import annotations

import asyncio
import mimetypes
import random
from typing import TYPE_CHECKING

from aiohttp import web

from segmind_dagster.sandbox import answers, pages

if TYPE_CHECKING:
    from collections.abc import Mapping

    from segmind_dagster.sandbox.jobs import Job
    from segmind_dagster.sandbox.state import SandboxState

_REQUEST_ID_LENGTH = 36


class OutputRoutes:
    """Handlers of `/outputs/...` and `/assets/...`."""

    def __init__(self, state: SandboxState) -> None:
        self._state = state

    def routes(self) -> list[web.RouteDef]:
        """Where each handler is mounted."""
        return [
            web.get("/outputs/{name}", self.output, allow_head=False),
            web.get("/assets/{name}", self.asset, allow_head=False),
        ]

    async def output(self, request: web.Request) -> web.StreamResponse:
        """`GET /outputs/{name}`: one generated file, until it expires."""
        state, name = self._state, request.match_info["name"]
        state.requests["output"] += 1
        job = state.book.jobs.get(name[:_REQUEST_ID_LENGTH])
        now = state.now()
        names = job.output_names() if job else []
        if job is None or name not in names or now >= job.created_at + state.settings.file_ttl_s:
            return answers.html_answer(pages.proxy_error(404, "Not Found"), 404)
        if job.status(now) != "COMPLETED":
            return answers.html_answer(pages.proxy_error(404, "Not Found"), 404)
        return await deliver(state, request, job, names.index(name))

    async def asset(self, request: web.Request) -> web.StreamResponse:
        """`GET /assets/{name}`: one uploaded file."""
        name = request.match_info["name"]
        content = self._state.assets.get(name)
        if content is None:
            return answers.html_answer(pages.proxy_error(404, "Not Found"), 404)
        return web.Response(body=content, content_type=mimetypes.guess_type(name)[0] or "application/octet-stream")


async def deliver(
    state: SandboxState, request: web.Request, job: Job, index: int, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """Send one output, or what a fault makes of it.

    Args:
        state: the sandbox.
        request: what is being answered.
        job: a completed job.
        index: which of its outputs, from 0.
        headers: those of a v1 answer; None when a file is fetched.
    """
    content = await state.renderings.content(job, index)
    fault = job.output_fault
    if fault == "undecodable" and _is_noise(job, index, state.faults.faults.noisy_fetches):
        content = random.Random(job.request_id).randbytes(len(content))  # noqa: S311  noise, not a secret
    elif fault not in {None, "undecodable"} and job.fault_once(f"output {index}"):
        match fault:
            case "html_as_image":
                return answers.html_answer(pages.proxy_error(200, "Temporarily Unavailable"))
            case "truncated" | "slow":
                return await _in_halves(state, request, job, content, headers)
            case "output_missing" if headers is None:  # a v1 answer cannot be missing
                return answers.html_answer(pages.proxy_error(404, "Not Found"), 404)
    return web.Response(body=content, headers=headers, content_type=job.content_type)


def _is_noise(job: Job, index: int, noisy_fetches: int | None) -> bool:
    """Whether this fetch of an `undecodable` output still gives noise; counts it."""
    return noisy_fetches is None or any(job.fault_once(f"noise {index} {nth}") for nth in range(noisy_fetches))


async def _in_halves(
    state: SandboxState, request: web.Request, job: Job, content: bytes, headers: Mapping[str, str] | None
) -> web.StreamResponse:
    """Half of the bytes; then a pause and the rest (`slow`), or the end of the connection (`truncated`)."""
    response = web.StreamResponse(headers={**(headers or {}), "Content-Type": job.content_type})
    response.content_length = len(content)
    await response.prepare(request)
    half = len(content) // 2
    await response.write(content[:half])
    if job.output_fault == "slow":
        await asyncio.sleep(state.faults.faults.slow_s)
        await response.write(content[half:])
    elif request.transport is not None:
        request.transport.close()
    return response
