"""Makes ledger rows of what the sources say about one generation; the best source of each value wins. Pure.

Inputs come from the prompt file, which is exact, else from the output's sidecar, else from the warehouse. Money
and times come from what was reported at the time, else from Segmind's history, else they are estimated.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from segmind_dagster.lifecycle.parsing import FREE
from segmind_dagster.lifecycle.states import IN_PROGRESS
from segmind_dagster.recovery.inputs import inputs_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from decimal import Decimal

    from segmind_dagster.ledger import State
    from segmind_dagster.lifecycle.generation import Generation
    from segmind_dagster.lifecycle.matching import HistoryRow
    from segmind_dagster.recovery.files import OnDisk

OWNER: Final = "rebuild"
"""The run of restored attempts that name none."""

UNKNOWN_SET: Final = "(unknown)"
"""The prompt set of generations of unknown origin; no prompt file can have this key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that is said about one generation.

    Args:
        generation_id: the generation.
        asked: how a prompt file asks for it now.
        disk: what the outputs folder holds of it, of this origin.
        row: what the warehouse remembers of it.
        attempts: what the warehouse remembers of its POSTs.
        request: what Segmind's history says of its latest request.
        doubt: a request of the history that may or may not be its own.
        estimate_usd: what it is likely to have cost; None when unknown.
    """

    generation_id: str
    asked: Generation | None = None
    disk: OnDisk | None = None
    row: Mapping[str, Any] | None = None
    attempts: Sequence[Mapping[str, Any]] = ()
    request: HistoryRow | None = None
    doubt: HistoryRow | None = None
    estimate_usd: Decimal | None = None

    @property
    def request_id(self) -> str | None:
        """Its latest accepted request: of its output, else as the warehouse or the history know it."""
        if self.disk is not None and self.disk.sidecar is not None and self.disk.sidecar.request_id:
            return self.disk.sidecar.request_id
        if self.row is not None and self.row["state"] in {"succeeded", "submitted"} and self.row["request_id"]:
            return str(self.row["request_id"])
        return self.request.request_id if self.request else None


class Restored(NamedTuple):
    """Rows for the ledger: one of `generations`, and those of `attempts`."""

    generation: dict[str, Any]
    attempts: list[dict[str, Any]]


def join(evidence: Evidence, *, now: datetime) -> Restored | None:
    """The rows of one generation; None when there is nothing to restore.

    Args:
        evidence: what is said about it.
        now: the time.
    """
    state = _state(evidence)
    if state is None:
        return None
    inputs = inputs_of(evidence.generation_id, asked=evidence.asked, disk=evidence.disk, row=evidence.row)
    earlier = {row["attempt"]: _remembered(row, inputs, now) for row in evidence.attempts if row["attempt"]}
    if state in {"succeeded", "submitted"}:
        number = _number(evidence, earlier)
        latest = _latest(evidence, state, number, earlier.pop(number, None), inputs, now)
        attempts = [*map(_closed, earlier.values()), latest]
    else:
        attempts = list(earlier.values())
        if evidence.doubt is not None and state == "unknown":
            attempts = [
                *map(_closed, attempts),
                _doubted(evidence, evidence.doubt, max(earlier, default=0), inputs, now),
            ]
        elif state == "unknown" and attempts:
            attempts[-1]["state"] = "unknown"
    attempts.sort(key=lambda attempt: attempt["attempt"])
    return Restored(_generation(evidence, state, inputs, attempts, now), attempts)


def _state(evidence: Evidence) -> State | None:
    if evidence.disk is not None and evidence.disk.is_owned:
        return "succeeded"
    if evidence.request_id:
        return "submitted"
    if evidence.doubt is not None:
        return "unknown"
    remembered = evidence.row["state"] if evidence.row else None
    if remembered == "failed":
        return "failed"
    if remembered in IN_PROGRESS and evidence.attempts:
        return "unknown"
    return "planned" if evidence.attempts else None


def _number(evidence: Evidence, earlier: Mapping[int, Mapping[str, Any]]) -> int:
    """Which attempt the latest request was."""
    same = next((number for number, row in earlier.items() if row["request_id"] == evidence.request_id), None)
    if same is not None:
        return same
    sidecar = evidence.disk.sidecar if evidence.disk else None
    last = max(earlier, default=0)
    if sidecar is not None and sidecar.attempt is not None and sidecar.attempt >= last:
        return sidecar.attempt
    # remembered while it was under way, before its request id was loaded
    is_open = last > 0 and earlier[last]["state"] in IN_PROGRESS and not earlier[last]["request_id"]
    return last if is_open else last + 1


def _latest(
    evidence: Evidence,
    state: State,
    number: int,
    remembered: Mapping[str, Any] | None,
    inputs: Mapping[str, Any],
    now: datetime,
) -> dict[str, Any]:
    before = remembered or dict.fromkeys(_ATTEMPT_COLUMNS)
    sidecar = evidence.disk.sidecar if evidence.disk else None
    row = evidence.row or {}
    is_stored = state == "succeeded" and evidence.disk is not None
    stored_at = (sidecar and sidecar.stored_at) or (evidence.disk.written_at if evidence.disk else None)
    latency_ms = before["latency_ms"] if before["latency_ms"] is not None else sidecar and sidecar.latency_ms
    created_at = evidence.request.created_at if evidence.request else None
    began = created_at or (now if stored_at is None else _earlier(stored_at, latency_ms or 0))
    cost_usd, source = _cost(evidence, before, is_stored=is_stored)
    return {
        "generation_id": evidence.generation_id,
        "attempt": number,
        "model_slug": inputs["model_slug"],
        "resource": inputs["resource"],
        "prompt_set": before["prompt_set"]
        or (sidecar and sidecar.prompt_set)
        or row.get("prompt_set")
        or (evidence.asked.prompt_set if evidence.asked else UNKNOWN_SET),
        "state": state,
        "owner": OWNER,
        "run_id": before["run_id"] or row.get("run_id"),
        "request_id": evidence.request_id,
        "http_status": before["http_status"],
        "failure_kind": None,
        "error": None,
        "reserved_usd": before["reserved_usd"] or cost_usd or evidence.estimate_usd or FREE,
        "cost_usd": cost_usd,
        "cost_source": source,
        "rate_wait_ms": before["rate_wait_ms"] or 0,
        "queue_ms": before["queue_ms"],
        "inference_ms": before["inference_ms"],
        "latency_ms": latency_ms,
        "intent_at": before["intent_at"] or began,
        "submitted_at": before["submitted_at"] or began,
        "completed_at": (before["completed_at"] or stored_at or now) if is_stored else None,
    }


def _doubted(
    evidence: Evidence, row: HistoryRow, last: int, inputs: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """An attempt for a request that may be this generation's: nothing is bought until a person has decided."""
    return {
        **dict.fromkeys(_ATTEMPT_COLUMNS),
        "generation_id": evidence.generation_id,
        "attempt": last + 1,
        "model_slug": inputs["model_slug"],
        "resource": inputs["resource"],
        "prompt_set": evidence.asked.prompt_set if evidence.asked else UNKNOWN_SET,
        "state": "unknown",
        "owner": OWNER,
        "failure_kind": "unknown_outcome",
        "error": f"Request {row.request_id} of Segmind's history may be this one; nobody can tell.",
        "reserved_usd": row.cost_usd or evidence.estimate_usd or FREE,
        "rate_wait_ms": 0,
        "intent_at": row.created_at or now,
    }


def _cost(evidence: Evidence, before: Mapping[str, Any], *, is_stored: bool) -> tuple[Decimal, str] | tuple[None, None]:
    """What it cost and who said so; nothing while only a reservation can be known."""
    sidecar = evidence.disk.sidecar if evidence.disk else None
    is_reported = before["cost_usd"] is not None and before["cost_source"] in {"reported", "history"}
    # a failure remembered as free was paid for after all, when its output is there
    if is_reported and (before["cost_usd"] or not is_stored):
        return before["cost_usd"], before["cost_source"]
    if sidecar is not None and sidecar.cost_usd is not None:
        return sidecar.cost_usd, sidecar.cost_source or "reported"
    request = evidence.request
    if request is not None and request.cost_usd is not None and request.is_completed:
        return request.cost_usd, "history"
    if not is_stored:
        return None, None
    estimate = before["cost_usd"] if before["cost_usd"] is not None else evidence.estimate_usd
    return (None, None) if estimate is None else (estimate, "estimated")


def _generation(
    evidence: Evidence, state: State, inputs: Mapping[str, Any], attempts: Sequence[Mapping[str, Any]], now: datetime
) -> dict[str, Any]:
    row = evidence.row or {}
    last = attempts[-1] if attempts else dict.fromkeys(_ATTEMPT_COLUMNS)
    stored = evidence.disk.stored if evidence.disk else None
    is_failed = state == "failed"
    provider_sha256 = row.get("provider_sha256") if stored and row.get("output_sha256") == stored.sha256 else None
    has_request = state in {"succeeded", "submitted"}
    return {
        **inputs,
        "generation_id": evidence.generation_id,
        "prompt_set": last["prompt_set"] or row.get("prompt_set") or UNKNOWN_SET,
        "state": state,
        "owner": None,
        "attempts": last["attempt"] or 0,
        "failure_kind": row.get("failure_kind") if is_failed else None,
        "error": row.get("error") if is_failed else None,
        "request_id": last["request_id"],
        "intent_at": last["intent_at"],
        "submitted_at": last["submitted_at"],
        "completed_at": last["completed_at"] if state == "succeeded" else None,
        "cost_usd": last["cost_usd"] if has_request else row.get("cost_usd") or None,
        "cost_source": last["cost_source"] if has_request else row.get("cost_source"),
        "queue_ms": last["queue_ms"],
        "inference_ms": last["inference_ms"],
        "latency_ms": last["latency_ms"],
        "output_uri": stored and stored.uri,
        "output_sha256": stored and stored.sha256,
        "provider_sha256": provider_sha256,
        "output_bytes": stored and stored.size_bytes,
        "output_format": stored and stored.format,
        "width": stored and stored.width,
        "height": stored and stored.height,
        "run_id": last["run_id"],
        "updated_at": now,
    }


_ATTEMPT_COLUMNS = (
    "attempt", "prompt_set", "state", "run_id", "request_id", "http_status", "failure_kind", "error", "reserved_usd",
    "cost_usd", "cost_source", "rate_wait_ms", "queue_ms", "inference_ms", "latency_ms", "intent_at", "submitted_at",
    "completed_at",
)  # fmt: skip


def _remembered(row: Mapping[str, Any], inputs: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """An attempt as the warehouse remembers it, whole enough for the ledger."""
    return {
        "generation_id": row["generation_id"],
        "model_slug": inputs["model_slug"],
        "resource": inputs["resource"],
        "owner": OWNER,
        **{name: row[name] for name in _ATTEMPT_COLUMNS},
        "prompt_set": row["prompt_set"] or UNKNOWN_SET,
        "state": row["state"] or "failed",
        "reserved_usd": row["reserved_usd"] or FREE,
        "rate_wait_ms": row["rate_wait_ms"] or 0,
        "intent_at": row["intent_at"] or row["submitted_at"] or row["completed_at"] or now,
    }


def _closed(attempt: dict[str, Any]) -> dict[str, Any]:
    """An earlier attempt: another one followed, so it came to nothing and nothing is reserved for it."""
    if attempt["state"] not in IN_PROGRESS:
        return attempt
    return {**attempt, "state": "failed", "failure_kind": "unknown_outcome", "cost_usd": attempt["cost_usd"] or FREE}


def _earlier(moment: datetime, by_ms: int) -> datetime:
    try:
        return moment - timedelta(milliseconds=by_ms)
    except OverflowError:
        return moment
