"""How a fault looks on the wire: error answers, and answers that get lost.

Which request meets which fault is decided in `faults`; what befalls an output is in `output_routes`.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from aiohttp import web

from segmind_dagster.sandbox import answers, pages
from segmind_dagster.sandbox.times import iso_utc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from segmind_dagster.sandbox.faults import RequestFault, SubmitFault

_PLAIN_REFUSALS: Mapping[str, Callable[[], web.Response]] = MappingProxyType(
    {
        "server_error": lambda: answers.error_answer(500, "Internal server error"),
        "unavailable": lambda: answers.error_answer(503, "Service temporarily unavailable"),
        "bad_gateway": lambda: answers.html_answer(pages.proxy_error(502, "Bad Gateway"), 502),
        "teapot": lambda: answers.error_answer(418, "I'm a teapot"),
        "unauthorized": answers.unauthorized,
        "team_limit": lambda: answers.error_answer(
            406, "Team spending limit reached. Please contact your team administrator."
        ),
        "invalid": lambda: answers.error_answer(406, "Invalid value for parameter steps: 0 is below the minimum of 1"),
    }
)

_LATE_ERRORS: Mapping[str, tuple[int, str | None]] = MappingProxyType(
    {
        "accepted_then_500": (500, "Internal server error"),
        "accepted_then_503": (503, "Service temporarily unavailable"),
        "accepted_then_429": (429, None),
        "accepted_then_400": (400, "Malformed request"),
        "accepted_then_406": (406, "Invalid value for parameter steps"),
        "accepted_then_422": (422, "Validation Error"),
    }
)


def refusal(
    request: web.Request, fault: SubmitFault, *, reset_at: float, insufficient: Callable[[], web.Response]
) -> web.Response | None:
    """The answer to a submission that a fault keeps from being accepted; None when it is accepted all the same.

    Args:
        request: the submission.
        fault: what it meets.
        reset_at: when a made-up rate limit ends, UTC epoch seconds.
        insufficient: makes the answer to an account without credits.
    """
    match fault:
        case "rate_limited":
            return rate_limited(reset_at)
        case "reset_before_accept":
            return answers.reset(request)
        case "no_credits":
            return insufficient()
        case _:
            refuse = _PLAIN_REFUSALS.get(fault)
            return refuse() if refuse else None


async def lost_answer(request: web.Request, fault: SubmitFault, *, reset_at: float) -> web.Response:
    """What comes back although the job is accepted: nothing that tells so, or an error.

    Args:
        request: the submission.
        fault: what it meets.
        reset_at: when a made-up rate limit ends, UTC epoch seconds.
    """
    if fault in _LATE_ERRORS:
        status, message = _LATE_ERRORS[fault]
        return rate_limited(reset_at) if message is None else answers.error_answer(status, message)
    match fault:
        case "gateway_timeout":
            return answers.html_answer(pages.proxy_error(504, "Gateway Time-out"), 504)
        case "accepted_then_hang":
            return await answers.hang(request)
        case "accepted_unreadable":
            return web.Response(text='{"request_id": "', content_type="application/json")
        case "accepted_202":
            return answers.json_answer({}, 202)
        case _:
            return answers.reset(request)


_SPOILING: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"get_error": ("server_error", "unavailable"), "get_bad_gateway": ("bad_gateway",)}
)
# the requests that submit nothing, as they are counted
ROUTES: Mapping[str, str] = MappingProxyType(
    {
        "/v2/requests/{request_id}/status": "status",
        "/v2/requests/{request_id}": "result",
        "/v1/requests/{request_id}": "result",
        "/outputs/{name}": "output",
        "/inference-request/request-history": "history",
        "/inference-request/request-history/{request_id}": "history",
        "/v1/get-user-credits": "credits",
        "/inference-model-information/list": "models",
        "/upload-asset": "upload",
    }
)


def spoilt(request: web.Request, fault: RequestFault, *, route: str, nth: int, reset_at: float) -> web.Response:
    """The answer to a request that submits nothing.

    Args:
        request: what is asked.
        fault: what it meets.
        route: of `ROUTES`.
        nth: its number.
        reset_at: when a made-up rate limit ends, UTC epoch seconds.
    """
    if fault in _SPOILING:
        return _PLAIN_REFUSALS[_SPOILING[fault][nth % len(_SPOILING[fault])]]()
    match fault:
        case "get_rate_limited":
            return rate_limited(reset_at)
        case "get_reset":
            return answers.reset(request)
        case "get_unreadable" if route == "output":
            return answers.html_answer(pages.proxy_error(200, "Temporarily Unavailable"))
        case _:
            return web.Response(text='{"request_id": "', content_type="application/json")


def rate_limited(reset_at: float) -> web.Response:
    """The 429; only its header tells when to come back."""
    headers = {"x-rate-limit-reset-at-utc": iso_utc(reset_at)}
    return answers.error_answer(429, "Rate limit exceeded. Please try again later.", headers)
