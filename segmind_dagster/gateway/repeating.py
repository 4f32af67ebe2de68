"""How often a question that is free is put again, and when: the gateway's own layer of retries.

What may follow a failure after that is in `failures`; POSTs that may cost money never come here.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from segmind_dagster.errors import OutputError
from segmind_dagster.gateway import fetching
from segmind_dagster.gateway.errors import GatewayError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_Answer = TypeVar("_Answer")
_ATTEMPTS = 6
# nobody there at the first knock may be somebody who is just starting; after these, and no later, it is said
_KNOCKS, _KNOCK_S = 4, 3.0
_BACK_OFF = wait_random_exponential(multiplier=0.3, max=20)


async def repeated(
    once: Callable[[], Awaitable[_Answer]],
    *,
    on_rate_limited: Callable[[datetime], Awaitable[None]] | None = None,
    is_knock: bool = False,
) -> _Answer:
    """What asking brings, asked again a few times where that can help.

    Args:
        once: asks.
        on_rate_limited: told when the rate window ends, should it be refused for the rate.
        is_knock: whether an answer that does not come within seconds is done without.
    """
    began = time.monotonic()
    try:
        # nearly every request succeeds at once, and the machinery of a retry costs as much as the request
        return await once()
    except (GatewayError, OutputError) as error:
        # an output that drips is given up for this run after one time-out, not after six
        if time.monotonic() - began >= fetching.FETCH_TIMEOUT_S:
            raise
        made = [error]

    async def again() -> _Answer:
        if made:
            raise made.pop()
        return await once()

    def is_enough(state: RetryCallState) -> bool:
        attempts, most_s = _ATTEMPTS, _KNOCK_S if is_knock else fetching.FETCH_TIMEOUT_S
        error = _error_of(state)
        if is_knock and isinstance(error, UnreachableError):
            attempts = _KNOCKS
        if is_knock and isinstance(error, GatewayError) and error.kind == "rate_limited":
            return True
        return state.attempt_number >= attempts or time.monotonic() - began >= most_s

    async def note_refusal(state: RetryCallState) -> None:
        error = _error_of(state)
        if on_rate_limited is not None and isinstance(error, GatewayError) and error.reset_at is not None:
            await on_rate_limited(error.reset_at)

    retrying = AsyncRetrying(
        retry=retry_if_exception(_may_ask_again),
        stop=is_enough,
        wait=_wait_s,
        before_sleep=note_refusal,
        reraise=True,
    )
    return await retrying(again)


def _error_of(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _wait_s(state: RetryCallState) -> float:
    error = _error_of(state)
    if isinstance(error, GatewayError) and error.reset_at is not None:
        return min(max((error.reset_at - datetime.now(UTC)).total_seconds(), 0.1), 120.0)
    return _BACK_OFF(state)


def _may_ask_again(error: BaseException) -> bool:
    if isinstance(error, OutputError):
        return not error.is_permanent
    return isinstance(error, GatewayError) and error.kind in {"connect_error", "server_error", "rate_limited"}
