"""Whether a POST to a model becomes a job: its body, the model, faults, parameters, the balance, in this order.

Ends with a job in the book or a refusal. How an accepted job is answered is in `gateway_routes`.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

from segmind_dagster.sandbox import answers, pages
from segmind_dagster.sandbox.fault_answers import refusal
from segmind_dagster.sandbox.jobs import canonical, usual_price_usd
from segmind_dagster.sandbox.offers import offers
from segmind_dagster.sandbox.validation import complaints

if TYPE_CHECKING:
    from segmind_dagster.registry import ApiVersion
    from segmind_dagster.sandbox.faults import SubmitFault
    from segmind_dagster.sandbox.jobs import Job
    from segmind_dagster.sandbox.offers import Offer
    from segmind_dagster.sandbox.state import SandboxState

_JSON_TYPE, _FORM_TYPE = "application/json", "multipart/form-data"
_READ_ONLY_NAMES = frozenset({"get-user-credits", "models"})


@dataclass(frozen=True, slots=True)
class Accepted:
    """A job taken on, and the fault by which its answer gets lost, if one does."""

    job: Job
    lost_by: SubmitFault | None


async def accept(state: SandboxState, request: web.Request, version: ApiVersion) -> Accepted | web.Response:
    """Check a submission as the gateway would: a job, or the refusal.

    Args:
        state: the sandbox.
        request: `POST /{version}/{slug}`.
        version: v1 refuses every bad parameter beforehand; v2 only declared enums, the rest fails as a job.
    """
    state.requests["submit"] += 1
    slug = request.match_info["slug"]
    body = await _read_body(request)
    if isinstance(body, web.Response):
        return body
    offer = offers().get(slug)
    if offer is None or slug in state.settings.forbidden_slugs or slug in state.settings.retired_slugs:
        return _no_such_model(state, slug)
    key = canonical(body)
    nth = state.book.next_attempt(slug, key)
    drawn = state.faults.draw(slug, key, nth)
    if drawn.submit is not None and (refused := _refused_by_fault(state, request, drawn.submit, offer, body)):
        return refused
    checked = _check_parameters(state, version, offer, body)
    if isinstance(checked, web.Response):
        return checked
    state.book.finish_ended()
    if state.book.balance_usd < usual_price_usd(offer, body):
        return _insufficient(state, offer, body)
    job = state.book.accept(offer, body, key=key, nth=nth, drawn=drawn, error=checked, lies=state.lies)
    return Accepted(job, drawn.submit)


async def _read_body(request: web.Request) -> dict[str, Any] | web.Response:
    if request.content_type == _FORM_TYPE:
        return await _form_body(request)
    if request.content_type != _JSON_TYPE:
        return web.Response(text="Invalid content type", status=406)
    try:
        body = json.loads(await request.read())
    except ValueError:
        return answers.error_answer(400, "Malformed JSON in request body")
    return body if isinstance(body, dict) else answers.error_answer(400, "Request body must be a JSON object")


async def _form_body(request: web.Request) -> dict[str, Any]:
    """A multipart body as the JSON it stands for: numbers by the model's declaration, files as data URLs."""
    offer = offers().get(request.match_info["slug"])
    body: dict[str, Any] = {}
    for name, value in (await request.post()).items():
        parameter = offer.model.parameter(name) if offer and offer.model else None
        body[name] = value
        if isinstance(value, web.FileField):
            body[name] = f"data:{value.content_type};base64,{base64.b64encode(value.file.read()).decode()}"
        elif name == "base64" or (parameter and parameter.kind in {"integer", "number", "boolean"}):
            try:
                body[name] = json.loads(str(value))
            except ValueError:
                continue
    return body


def _no_such_model(state: SandboxState, slug: str) -> web.Response:
    if slug in state.settings.forbidden_slugs:
        return answers.error_answer(403, f"Access to model {slug} is restricted for this account")
    if slug in state.settings.retired_slugs:
        return answers.error_answer(410, f"Model {slug} has been deprecated and is no longer available")
    if slug in _READ_ONLY_NAMES:
        return answers.html_answer(pages.METHOD_NOT_ALLOWED, 405)
    return answers.error_answer(404, "model not found")


def _refused_by_fault(
    state: SandboxState, request: web.Request, fault: SubmitFault, offer: Offer, body: dict[str, Any]
) -> web.Response | None:
    if fault == "rate_limited":
        state.rate.refused += 1
    return refusal(
        request,
        fault,
        reset_at=state.now() + state.faults.faults.rate_limit_reset_s,
        insufficient=lambda: _insufficient(state, offer, body),
    )


def _check_parameters(
    state: SandboxState, version: ApiVersion, offer: Offer, body: dict[str, Any]
) -> str | web.Response | None:
    """Why the job will fail, or the refusal where the gateway sees that beforehand; None when all is well."""
    error: str | None = None
    for complaint in complaints(offer, body, is_readable=state.assets.is_readable):
        if complaint.kind == "choice" or (version == "v1" and complaint.kind == "range"):
            return answers.error_answer(406, complaint.message)
        if version == "v1":
            return answers.error_answer(400, complaint.message)
        error = error or complaint.message
    return error


def _insufficient(state: SandboxState, offer: Offer, body: dict[str, Any]) -> web.Response:
    needed_usd, left_usd = usual_price_usd(offer, body), max(state.book.balance_usd, 0)
    return answers.error_answer(
        406, f"Insufficient credits. This model needs {needed_usd:f} credits and {left_usd:f} are left"
    )
