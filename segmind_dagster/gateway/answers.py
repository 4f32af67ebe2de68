"""What an HTTP answer says: its JSON, its request id, its rate reset, and the error it amounts to."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeGuard

import aiohttp

from segmind_dagster.gateway.errors import GatewayError, error_text, has_envelope
from segmind_dagster.lifecycle.parsing import read_instant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from segmind_dagster.gateway.redaction import Redactor

ANSWER_LIMIT_BYTES = 64 << 20
_WINDOW_S, _LONGEST_RESET_S = 60.0, 300.0
_SAME_CLOCK_S = 2.0


def get_failure(what: str, status: int, answer: bytes, headers: Mapping[str, str], redactor: Redactor) -> GatewayError:
    """The error that a GET's answer amounts to, when it is not what was asked for."""
    message = redactor.text(f"{what}: answered {status}: {redactor.short(error_text(answer)) or 'nothing'}")
    match status:
        case 429:
            return GatewayError("rate_limited", message, http_status=status, reset_s=reset_s(headers))
        case 401:
            return GatewayError("unauthorized", message, http_status=status)
        case _ if status >= 500 or not has_envelope(answer):  # noqa: PLR2004  HTTP
            return GatewayError("server_error", message, http_status=status)
        case _:
            return GatewayError("invalid_request", message, http_status=status)


def reset_s(headers: Mapping[str, str]) -> float:
    """In how many seconds the window opens: the server's reset by the server's clock, else by ours."""
    reset = read_instant(headers.get("x-rate-limit-reset-at-utc"))
    if reset is None:
        return _WINDOW_S
    ours = datetime.now(UTC)
    theirs = read_instant(headers.get("Date"))
    # the Date header has whole seconds: half of one on average
    shift_s = (ours - theirs).total_seconds() - 0.5 if theirs is not None else 0.0
    if abs(shift_s) < _SAME_CLOCK_S:
        shift_s = 0.0
    return max(min((reset - ours).total_seconds() + shift_s, _LONGEST_RESET_S), 0.0)


def request_id_of(answer: bytes) -> str | None:
    """The request id of an acceptance; None when there is none to read."""
    document = parse(answer)
    value = document.get("request_id") if isinstance(document, dict) else None
    return value if is_request_id(value) else None


def is_request_id(value: object) -> TypeGuard[str]:
    """Whether it can be one: it goes into addresses and into the ledger."""
    return isinstance(value, str) and bool(value) and value.isascii() and value.isprintable()


async def read_limited(response: aiohttp.ClientResponse) -> bytes:
    """The whole answer, within bounds."""
    answer = bytearray()
    async for chunk in response.content.iter_any():
        answer += chunk
        if len(answer) > ANSWER_LIMIT_BYTES:
            raise aiohttp.ClientPayloadError("the answer is too large")
    return bytes(answer)


def parse(answer: bytes) -> Any:
    """An answer's JSON; None when it is none."""
    try:
        return json.loads(answer)
    except (ValueError, RecursionError):
        return None


def name_of(error: BaseException) -> str:
    """An exception's type and text."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
