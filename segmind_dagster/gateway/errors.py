"""Errors of an HTTP exchange with Segmind, and what the body of an error answer says.

What may follow each kind of failure is decided in `lifecycle.failures`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from segmind_dagster.errors import SegmindDagsterError
from segmind_dagster.gateway.wire import storable
from segmind_dagster.lifecycle.failures import classify_submit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from segmind_dagster.lifecycle.failures import FailureKind
    from segmind_dagster.lifecycle.matching import HistoryRow


_WHOLE = 4000


class GatewayError(SegmindDagsterError):
    """An HTTP exchange with Segmind that did not give what it should.

    Args:
        kind: what it means; see `POLICIES`.
        message: what was attempted and seen, with keys and signed URLs taken out.
        http_status: of the answer; None when there was none.
        reset_s: in how many seconds the rate window opens again, for `rate_limited`.
    """

    def __init__(
        self,
        kind: FailureKind,
        message: str,
        *,
        http_status: int | None = None,
        reset_s: float | None = None,
    ) -> None:
        self.kind = kind
        self.http_status = http_status
        self.reset_s = reset_s
        # it goes into the ledger, and may quote anything
        super().__init__(storable(message))


class UnreachableError(GatewayError):
    """Nobody is there to ask: no address, no connection, or none that can be trusted."""


class NotSentError(GatewayError):
    """A POST was held back at the last moment: the provider has seen nothing of it."""


class UnnamedAnswerError(GatewayError):
    """A call that answers with its output (v1) did so, and named no request: what came is in the sink.

    Args:
        message: what was attempted and seen.
        is_cut: whether there was more of it than is accepted.
    """

    def __init__(self, message: str, *, is_cut: bool) -> None:
        self.is_cut = is_cut
        super().__init__("unknown_outcome", message, http_status=200)


class BrokenOffError(GatewayError):
    """A reading of the history that came to no good end.

    Args:
        cause: what stopped it.
        rows: what had come until then; what is missing among them says nothing.
    """

    def __init__(self, cause: GatewayError, rows: Sequence[HistoryRow]) -> None:
        self.rows = rows
        super().__init__(cause.kind, str(cause), http_status=cause.http_status, reset_s=cause.reset_s)


def kind_of(status: int, body: bytes) -> FailureKind:
    """What an answer to a POST means, when it is not a readable acceptance."""
    # whole: the verdict may stand behind a prompt that the answer repeats
    return classify_submit(status, error_text(body), is_envelope=has_envelope(body))


def has_envelope(body: bytes) -> bool:
    """Whether an answer is Segmind's own JSON error envelope."""
    document = _json(body)
    return isinstance(document, dict) and ("error" in document or "status" in document)


def error_text(body: bytes, *, limit: int = _WHOLE) -> str:
    """The readable part of an error answer: the envelope's `error`, else the first characters."""
    document = _json(body)
    if isinstance(document, dict):
        for key in ("error", "error_description", "message", "detail"):
            if document.get(key):
                return storable(str(document[key])[:limit])
    text = body[: limit * 4].decode("utf-8", errors="replace")
    return storable(" ".join(text.split())[:limit])


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
