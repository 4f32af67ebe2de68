"""How often a question that is free is put again, and when: the gateway's own layer of retries.

What may follow a failure after that is in `failures`; POSTs that may cost money never come here.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from segmind_dagster.errors import OutputError
from segmind_dagster.gateway import fetching
from segmind_dagster.gateway.errors import GatewayError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from segmind_dagster.gateway.pace import Pace

_Answer = TypeVar("_Answer")
_ATTEMPTS = 6
# a server that refuses the first connection may be starting; after these attempts the failure is reported
_KNOCKS, _KNOCK_S = 4, 3.0
_BACK_OFF = wait_random_exponential(multiplier=0.3, max=20)


async def repeated(
    once: Callable[[], Awaitable[_Answer]],
    *,
    pace: Pace | None = None,
    is_knock: bool = False,
) -> _Answer:
    """What asking brings, asked again a few times where that can help.

    Args:
        once: asks.
        pace: the pace of such questions, which a refusal for the rate slows down.
        is_knock: whether an answer that does not come within seconds is done without.
    """
    began = time.monotonic()

    try:
        # nearly every request succeeds at once, and the machinery of a retry costs as much as the request
        return await _at_pace(once, pace)
    except (GatewayError, OutputError) as error:
        # an output that drips is given up for this run after one time-out, not after six
        if time.monotonic() - began >= fetching.FETCH_TIMEOUT_S:
            raise
        made = [error]

    async def again() -> _Answer:
        if made:
            raise made.pop()
        return await _at_pace(once, pace)

    def is_enough(state: RetryCallState) -> bool:
        attempts, most_s = _ATTEMPTS, _KNOCK_S if is_knock else fetching.FETCH_TIMEOUT_S
        error = _error_of(state)
        if is_knock and isinstance(error, UnreachableError):
            attempts = _KNOCKS
        if is_knock and isinstance(error, GatewayError) and error.kind == "rate_limited":
            return True
        return state.attempt_number >= attempts or time.monotonic() - began >= most_s

    retrying = AsyncRetrying(
        retry=retry_if_exception(_may_ask_again),
        stop=is_enough,
        wait=_wait_s,
        reraise=True,
    )
    return await retrying(again)


async def _at_pace(once: Callable[[], Awaitable[_Answer]], pace: Pace | None) -> _Answer:
    if pace is None:
        return await once()
    sent_at = await pace.turn()
    try:
        answer = await once()
    except GatewayError as error:
        if error.kind == "rate_limited":
            pace.refuse(sent_at, _until_reset_s(error))
        raise
    pace.accept()
    return answer


def _error_of(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _wait_s(state: RetryCallState) -> float:
    error = _error_of(state)
    if isinstance(error, GatewayError) and error.reset_s is not None:
        return _until_reset_s(error)
    return _BACK_OFF(state)


def _until_reset_s(error: GatewayError) -> float:
    return min(max(error.reset_s or 0.0, 0.1), 120.0)


def _may_ask_again(error: BaseException) -> bool:
    if isinstance(error, OutputError):
        return not error.is_permanent
    return isinstance(error, GatewayError) and error.kind in {"connect_error", "server_error", "rate_limited"}
