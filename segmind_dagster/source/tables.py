"""The columns of the warehouse tables: names with units, types and descriptions, in one place.

A quantity has the same name in every table. Money is decimal US dollars, time is UTC.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

PIPELINE_NAME = "segmind"
DATASET_NAME = "segmind_data"

Columns = dict[str, Any]


def _column(data_type: str, description: str, **hints: Any) -> dict[str, Any]:
    return {"data_type": data_type, "description": description, **hints}


def _key(data_type: str, description: str) -> dict[str, Any]:
    return _column(data_type, description, nullable=False)


def _usd(description: str) -> dict[str, Any]:
    return _column("decimal", description, precision=38, scale=9)


_TIMES: Mapping[str, Any] = {
    "queue_ms": _column("bigint", "time in Segmind's queue, ms"),
    "inference_ms": _column("bigint", "time of the model, ms"),
    "latency_ms": _column("bigint", "from our POST to the stored output, ms"),
    "submitted_at": _column("timestamp", "when Segmind accepted it, UTC"),
    "completed_at": _column("timestamp", "when the output was stored, UTC"),
}

MODEL_COLUMNS: Columns = {
    "prompt_set": _key("text", "prompt set that asks for it: the partition key"),
    "generation_id": _key("text", "identity of what was asked for"),
    "prompt": _column("text", "the prompt, placeholders filled in"),
    "negative_prompt": _column("text", "what to avoid"),
    "params": _column("json", "parameters sent, besides prompt and seed; local images by digest"),
    "variables": _column("json", "placeholder values of this prompt"),
    "seed": _column("bigint", "seed sent, or the one Segmind reports"),
    "sample": _column("bigint", "number of the sample, from 0"),
    "model": _column("text", "model slug"),
    "status": _column("text", "planned, submitting, submitted, unknown, succeeded or failed"),
    "failure_kind": _column("text", "why it failed"),
    "error": _column("text", "what was seen, for people"),
    "attempts": _column("bigint", "POSTs sent"),
    "request_id": _column("text", "Segmind's id of the last accepted POST"),
    "cost_usd": _usd("paid for it by this prompt set, US dollars; 0 when reused"),
    "saved_usd": _usd("what reusing it saved, US dollars"),
    "is_reused": _column("bool", "whether another prompt set paid for it"),
    "is_current": _column("bool", "whether the prompt set still asks for it"),
    "cost_source": _column("text", "reported, history or estimated"),
    **_TIMES,
    "output_uri": _column("text", "where the output is stored"),
    "output_sha256": _column("text", "digest of the stored bytes"),
    "provider_sha256": _column("text", "digest of the bytes as Segmind sent them"),
    "output_bytes": _column("bigint", "size of the stored output, bytes"),
    "output_format": _column("text", "jpeg, png, mp4, json, ..."),
    "width": _column("bigint", "width, pixels"),
    "height": _column("bigint", "height, pixels"),
    "api_origin": _column("text", "API that produced it; a sandbox is never mistaken for Segmind"),
    "run_id": _column("text", "Dagster run that sent the last attempt"),
}

ATTEMPT_COLUMNS: Columns = {
    "generation_id": _key("text", "identity of what was asked for"),
    "attempt": _key("bigint", "number of the POST for this generation, from 1"),
    "prompt_set": _column("text", "prompt set that paid for it"),
    "model": _column("text", "model slug"),
    "status": _column("text", "submitting, submitted, unknown, succeeded or failed"),
    "failure_kind": _column("text", "why it failed"),
    "error": _column("text", "what was seen, for people"),
    "http_status": _column("bigint", "status of the answer to the POST"),
    "request_id": _column("text", "Segmind's id of the request"),
    "cost_usd": _usd("charged, US dollars; spend is the sum of this column"),
    "reserved_usd": _usd("put aside before the POST, US dollars"),
    "cost_source": _column("text", "reported, history or estimated"),
    "rate_wait_ms": _column("bigint", "waited for the request rate before the POST, ms"),
    **_TIMES,
    "intent_at": _column("timestamp", "when the intent was recorded, just before the POST, UTC"),
    "api_origin": _column("text", "API it was sent to"),
    "run_id": _column("text", "Dagster run that sent it"),
}

_COUNTS: Columns = {
    "generations": _column("bigint", "generations asked for"),
    "succeeded": _column("bigint", "of these, stored"),
    "failed": _column("bigint", "of these, failed"),
    "unknown": _column("bigint", "of these, with an outcome not known yet"),
    "unfinished": _column("bigint", "of these, not finished yet"),
    "reused": _column("bigint", "of these, paid for by another prompt set"),
}
_MONEY: Columns = {
    "cost_usd": _usd("charged, US dollars, as Segmind reported it"),
    "estimated_cost_usd": _usd("charged without a report, or reserved for what is in progress, US dollars"),
    "cost_per_output_usd": _usd("charged and estimated, per stored output, US dollars"),
    "saved_usd": _usd("saved by reuse, US dollars"),
}
_LATENCY: Columns = {
    "latency_p50_ms": _column("double", "median time from our POST to the stored output, ms"),
    "latency_p95_ms": _column("double", "95th percentile of that time, ms"),
}
_ATTEMPTS: Columns = {"attempts": _column("bigint", "POSTs sent")}

USAGE_COLUMNS: Mapping[str, Columns] = {
    "usage_by_model": {"model": _key("text", "model slug"), **_COUNTS, **_ATTEMPTS, **_MONEY, **_LATENCY},
    "usage_by_prompt_set": {"prompt_set": _key("text", "prompt set"), **_COUNTS, **_ATTEMPTS, **_MONEY, **_LATENCY},
    "usage_by_day": {
        "day": _key("date", "UTC day of the POST"),
        **_ATTEMPTS,
        "succeeded": _column("bigint", "attempts that brought a stored output"),
        "failed": _column("bigint", "attempts that failed"),
        **{name: _MONEY[name] for name in ("cost_usd", "estimated_cost_usd", "cost_per_output_usd")},
        **_LATENCY,
    },
    "usage_by_failure": {
        "failure_kind": _key("text", "why attempts failed"),
        "model": _key("text", "model slug"),
        **_ATTEMPTS,
        "still_failed": _column("bigint", "generations that are failed for this reason now"),
        **{name: _MONEY[name] for name in ("cost_usd", "estimated_cost_usd")},
        "example": _column("text", "one of the messages"),
    },
}

CREDITS_COLUMNS: Columns = {
    "observed_at": _key("timestamp", "when the balance was read, UTC"),
    "credits_usd": _usd("paid credits left, US dollars"),
    "free_credits_usd": _usd("free credits left, US dollars"),
    "balance_usd": _usd("both together, US dollars"),
    "api_origin": _column("text", "API it was read from"),
}

MODELS_COLUMNS: Columns = {
    "slug": _key("text", "model slug"),
    "title": _column("text", "name for people"),
    "type": _column("text", "modality, in Segmind's words"),
    "description": _column("text", "description"),
    "parameters": _column("json", "parameters by name, as Segmind publishes them"),
    "mean_cost_usd": _usd("mean cost of a request, US dollars, where Segmind's list says so"),
    "mean_latency_ms": _column("bigint", "mean time of a request, ms, where Segmind's list says so"),
    "is_visible": _column("bool", "whether Segmind lists it"),
    "is_deprecated": _column("bool", "whether Segmind has retired it"),
    "is_new": _column("bool", "whether Segmind marks it as new"),
    "api_origin": _column("text", "API it was read from"),
}

MODELS_PAGE_COLUMNS: Columns = {
    "html_sha256": _key("text", "digest of the page"),
    "fetched_at": _column("timestamp", "when it was read, UTC"),
    "html": _column("text", "the page as it came"),
    "api_origin": _column("text", "API it was read from"),
}

HISTORY_COLUMNS: Columns = {
    "request_id": _key("text", "Segmind's id of the request"),
    "model": _column("text", "model, as the history names it"),
    "status": _column("text", "COMPLETED, FAILED or PENDING"),
    "cost_usd": _usd("charged for the request, US dollars, once however many outputs it has"),
    "latency_ms": _column("bigint", "time of the request, ms"),
    "request_body": _column("json", "inputs as they were sent"),
    "error": _column("text", "why it failed"),
    "created_at": _column("timestamp", "when the request was made, UTC"),
    "api_origin": _column("text", "API it was read from"),
}
