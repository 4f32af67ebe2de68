"""What an HTTP answer says: its JSON, its request id, its rate reset, and the error it amounts to."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeGuard

import aiohttp

from segmind_dagster.gateway.errors import GatewayError, error_text, has_envelope
from segmind_dagster.lifecycle.parsing import read_instant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from segmind_dagster.gateway.redaction import Redactor

ANSWER_LIMIT_BYTES = 64 << 20


def get_failure(what: str, status: int, answer: bytes, headers: Mapping[str, str], redactor: Redactor) -> GatewayError:
    """The error that a GET's answer amounts to, when it is not what was asked for.

    Args:
        what: what was attempted.
        status: HTTP status.
        answer: the body.
        headers: for the rate reset.
        redactor: takes the key out of the message, should the answer repeat it.
    """
    message = redactor.text(f"{what}: answered {status}: {redactor.short(error_text(answer)) or 'nothing'}")
    match status:
        case 429:
            return GatewayError("rate_limited", message, http_status=status, reset_at=reset_at(headers))
        case 401:
            return GatewayError("unauthorized", message, http_status=status)
        case _ if status >= 500 or not has_envelope(answer):  # noqa: PLR2004  HTTP
            return GatewayError("server_error", message, http_status=status)
        case _:
            return GatewayError("invalid_request", message, http_status=status)


def reset_at(headers: Mapping[str, str]) -> datetime:
    """When the window opens on our clock: the server's reset, shifted by how far its clock is from ours."""
    ours = datetime.now(UTC)
    reset = read_instant(headers.get("x-rate-limit-reset-at-utc"))
    theirs = read_instant(headers.get("Date"))
    if reset is None:
        return ours + timedelta(minutes=1)  # a whole window
    # the Date header has whole seconds: half of one on average
    shift = ours - theirs - timedelta(seconds=0.5) if theirs is not None else timedelta(0)
    if abs(shift) < timedelta(seconds=2):
        shift = timedelta(0)
    farthest = timedelta(minutes=5)
    # bounded before it is added: a clock may name a year that cannot be reached
    return ours + max(min(reset - ours + shift, farthest), -farthest)


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
