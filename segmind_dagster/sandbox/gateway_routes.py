"""The gateway: run a model at once (v1) or submit it (v2), then poll and read the result.

Whether a POST becomes a job is decided in `submissions`, what a job is and costs in `jobs`, what output bytes
look like in `renderings`. The account, the history and uploads are in `account_routes`.
"""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

from aiohttp import web

from segmind_dagster.sandbox import answers, media, pages
from segmind_dagster.sandbox.fault_answers import lost_answer
from segmind_dagster.sandbox.jobs import QUEUE_SHARE
from segmind_dagster.sandbox.lying_money import stated_amount, stated_header
from segmind_dagster.sandbox.output_routes import deliver
from segmind_dagster.sandbox.submissions import accept

if TYPE_CHECKING:
    from segmind_dagster.sandbox.faults import SubmitFault
    from segmind_dagster.sandbox.jobs import Job
    from segmind_dagster.sandbox.lies import Lies
    from segmind_dagster.sandbox.state import SandboxState


class GatewayRoutes:
    """Handlers of `/v1/...` and `/v2/...`."""

    def __init__(self, state: SandboxState) -> None:
        self._state = state

    def routes(self) -> list[web.RouteDef]:
        """Where each handler is mounted."""
        return [
            web.post("/v2/{slug}", self.submit),
            web.get("/v2/requests/{request_id}/status", self.status, allow_head=False),
            web.get("/v2/requests/{request_id}", self.result, allow_head=False),
            web.post("/v1/{slug}", self.run),
            web.get("/v1/requests/{request_id}", self.result, allow_head=False),
        ]

    async def submit(self, request: web.Request) -> web.StreamResponse:
        """`POST /v2/{slug}`: take a job on and say where to look for it."""
        accepted = await accept(self._state, request, "v2")
        if isinstance(accepted, web.Response):
            return accepted
        if accepted.lost_by is not None:
            return await self._lost_answer(request, accepted.lost_by)
        job = accepted.job
        base = f"http://{request.host}"
        return answers.json_answer(
            {
                "request_id": job.stated_id,
                "status": "QUEUED",
                "poll_url": f"{base}/v1/requests/{job.stated_id}",
                **_urls(base, job),
            }
        )

    async def run(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/{slug}`: take a job on, wait for it, answer with its output."""
        accepted = await accept(self._state, request, "v1")
        if isinstance(accepted, web.Response):
            return accepted
        job, lost_by = accepted.job, accepted.lost_by
        if lost_by == "gateway_timeout":
            return await self._lost_answer(request, lost_by)
        if job.outcome == "stuck":
            return await answers.hang(request)
        await asyncio.sleep(job.latency_s)
        self._state.book.finish_ended()
        self._state.book.finish(job)
        if lost_by is not None:
            return await self._lost_answer(request, lost_by)
        if job.outcome == "failed":
            return answers.error_answer(422 if job.poll_fault == "failed_validation" else 500, job.error or "")
        return await self._v1_output(request, job)

    async def status(self, request: web.Request) -> web.StreamResponse:
        """`GET /v2/requests/{id}/status`: where a job stands, never its output."""
        self._state.requests["status"] += 1
        job = self._find(request)
        if isinstance(job, web.Response):
            return job
        if job.poll_fault in {"poll_error", "poll_reset"} and job.fault_once("poll"):
            if job.poll_fault == "poll_reset":
                return answers.reset(request)
            if job.seed % 2:
                return answers.html_answer(pages.proxy_error(502, "Bad Gateway"), 502)
            return answers.error_answer(500, "Internal server error")
        status = job.status(self._state.now())
        if status in {"QUEUED", "PROCESSING"}:
            return answers.json_answer(self._pending(request, job, status))
        body: dict[str, Any] = {"status": status, "request_id": job.stated_id}
        if status == "FAILED":
            body["error"] = job.error
        body["metrics"] = _metrics(job, self._state.lies)
        return answers.json_answer(body, 422 if status == "FAILED" else 200)

    async def result(self, request: web.Request) -> web.StreamResponse:
        """`GET /v2/requests/{id}` and its v1 twin: a job's output."""
        self._state.requests["result"] += 1
        job = self._find(request)
        if isinstance(job, web.Response):
            return job
        status = job.status(self._state.now())
        if status in {"QUEUED", "PROCESSING"}:
            return answers.json_answer(self._pending(request, job, status))
        if status == "FAILED":
            return answers.json_answer(
                {"status": status, "error": job.error, "metrics": _metrics(job, self._state.lies)}, 422
            )
        return answers.json_answer(
            {
                "status": status,
                "error": None,
                **await self._outputs(request, job),
                "seed": str(job.seed),
                "prompt": media.prompt_of(job.body),
                "timings": {},
                "metrics": _metrics(job, self._state.lies),
            }
        )

    def _find(self, request: web.Request) -> Job | web.Response:
        book, request_id = self._state.book, request.match_info["request_id"]
        book.finish_ended()
        job = book.find(request_id)
        if job is None or self._state.now() < job.created_at + self._state.lies.not_found_s:
            return answers.error_answer(404, f"Request {request_id} not found")
        return job

    async def _lost_answer(self, request: web.Request, fault: SubmitFault) -> web.Response:
        return await lost_answer(
            request, fault, reset_at=self._state.now() + self._state.faults.faults.rate_limit_reset_s
        )

    def _pending(self, request: web.Request, job: Job, status: str) -> dict[str, Any]:
        urls = _urls(f"http://{request.host}", job)
        return {"status": status, "request_id": job.stated_id, **urls, "metrics": {}}

    async def _outputs(self, request: web.Request, job: Job) -> dict[str, Any]:
        kind = job.offer.output
        if kind == "text":
            completion = media.chat_completion(job.slug, job.stated_id, job.body, created_at=job.created_at)
            return {"output": json.dumps(completion)}
        files = [
            {
                "url": f"http://{request.host}/outputs/{name}",
                "content_type": job.content_type,
                "file_name": name,
                "file_size": str(len(await self._state.renderings.content(job, index))),
            }
            for index, name in enumerate(job.output_names())
        ]
        output = {"output": files[0]["url"]}
        return output | ({"images": files} if kind == "image" else {kind: files[0]})

    async def _v1_output(self, request: web.Request, job: Job) -> web.StreamResponse:
        lies = self._state.lies
        headers = {
            "x-request-id": job.stated_id,
            **stated_header(job.cost_usd, lies.cost_in_headers, name="x-cost"),
            **stated_header(job.remaining_usd, lies.balance, name="x-remaining-credits"),
            "x-generation-time": f"{job.latency_s * (1 - QUEUE_SHARE):.3f}",
        }
        if job.offer.output == "text":
            completion = media.chat_completion(job.slug, job.stated_id, job.body, created_at=job.created_at)
            return answers.json_answer(completion, headers=headers)
        headers["x-seed-value"] = str(job.seed)
        if job.body.get("base64") is True:
            content = await self._state.renderings.content(job, 0)
            return answers.json_answer({"image": base64.b64encode(content).decode()}, headers=headers)
        return await deliver(self._state, request, job, 0, headers)


def _urls(base: str, job: Job) -> dict[str, str]:
    response_url = f"{base}/v2/requests/{job.stated_id}"
    return {"status_url": f"{response_url}/status", "response_url": response_url}


def _metrics(job: Job, lies: Lies) -> dict[str, Any]:
    queue_s = round(job.latency_s * QUEUE_SHARE, 3)
    total_s = round(job.latency_s, 3)
    metrics = {"inference_time": round(total_s - queue_s, 3), "queue_time": queue_s, "total_time": total_s}
    if job.remaining_usd is not None:
        cost = stated_amount(job.cost_usd, lies.cost_in_results, key="cost")
        return {**cost, **stated_amount(job.remaining_usd, lies.balance, key="remaining_credits"), **metrics}
    return metrics
