"""Makes warehouse rows of ledger records. Pure; the columns are described in `tables`."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any

from segmind_dagster.lifecycle.failures import policy_of
from segmind_dagster.lifecycle.parsing import FREE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime
    from decimal import Decimal

    from segmind_dagster.gateway.redaction import Redactor

_NOT_PARAMETERS = frozenset({"prompt", "negative_prompt", "seed", "messages"})

_SAME_NAME = (
    "generation_id",
    "prompt",
    "negative_prompt",
    "variables",
    "seed",
    "sample",
    "failure_kind",
    "error",
    "attempts",
    "request_id",
    "is_reused",
    "is_current",
    "asked_at",
    "cost_source",
    "queue_ms",
    "inference_ms",
    "latency_ms",
    "submitted_at",
    "completed_at",
    "output_uri",
    "output_sha256",
    "provider_sha256",
    "output_bytes",
    "output_format",
    "width",
    "height",
    "run_id",
)
_ATTEMPT_SAME_NAME = (
    "generation_id",
    "attempt",
    "prompt_set",
    "failure_kind",
    "error",
    "http_status",
    "request_id",
    "cost_usd",
    "reserved_usd",
    "cost_source",
    "rate_wait_ms",
    "queue_ms",
    "inference_ms",
    "latency_ms",
    "submitted_at",
    "completed_at",
    "intent_at",
    "run_id",
)


def model_row(record: Mapping[str, Any], *, api_origin: str, redactor: Redactor) -> dict[str, Any]:
    """A row of a model table, from one of `ledger.reads.set_rows`."""
    cost = _cost(record)
    is_reused = record["is_reused"] and record["state"] == "succeeded"
    params = redactor.values({name: value for name, value in record["body"].items() if name not in _NOT_PARAMETERS})
    params |= {name: f"sha256:{digest}" for name, digest in record["images"].items()}
    return {
        **{name: record[name] for name in _SAME_NAME},
        "prompt_set": record["set_key"],
        "params": params,
        "model": record["model_slug"],
        "status": record["state"],
        "asked_day": _utc_day(record["asked_at"]),
        "cost_usd": FREE if record["is_reused"] else cost,
        "saved_usd": cost if is_reused else FREE,
        "api_origin": api_origin,
    }


def _cost(record: Mapping[str, Any]) -> Decimal | None:
    """What it cost so far; None while unknown: its outcome is open, or it was paid for at an unknown price."""
    kind = record["failure_kind"]
    is_open = record["state"] not in {"planned", "failed"} or (kind is not None and policy_of(kind).may_be_paid)
    cost: Decimal | None = record["cost_usd"]
    return FREE if cost is None and not is_open else cost


def attempt_row(record: Mapping[str, Any], *, api_origin: str) -> dict[str, Any]:
    """A row of the `attempts` table, from one of `ledger.reads.attempt_rows`."""
    return {
        **{name: record[name] for name in _ATTEMPT_SAME_NAME},
        "model": record["model_slug"],
        "status": record["state"],
        "day": _utc_day(record["intent_at"]),
        "api_origin": api_origin,
    }


def _utc_day(moment: datetime | None) -> date | None:
    """The day of a moment; a database's own idea of it depends on its time zone."""
    return None if moment is None else moment.astimezone(UTC).date()
