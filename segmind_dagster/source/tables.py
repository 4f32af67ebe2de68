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
    "cost_usd": _usd("paid for it by this prompt set, US dollars; 0 when reused, empty when not known"),
    "saved_usd": _usd("what reusing it saved, US dollars; empty when not known"),
    "is_reused": _column("bool", "whether another prompt set paid for it"),
    "is_current": _column("bool", "whether the prompt set still asks for it"),
    "asked_at": _column("timestamp", "when the prompt set first asked for it, UTC"),
    "asked_day": _column("date", "UTC day of that"),
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
    "reserved_usd": _usd("reserved before the POST, US dollars"),
    "cost_source": _column("text", "reported, history or estimated"),
    "rate_wait_ms": _column("bigint", "waited for the request rate before the POST, ms"),
    **_TIMES,
    "intent_at": _column("timestamp", "when the intent was recorded, just before the POST, UTC"),
    "day": _column("date", "UTC day of the intent"),
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
_SPEND: Columns = {
    "cost_usd": _usd("charged, US dollars, as Segmind said: reported and from its history together"),
    "reported_cost_usd": _usd("of it, as reported with the result, US dollars"),
    "history_cost_usd": _usd("of it, as the request history reported later, US dollars"),
    "estimated_cost_usd": _usd(
        "charged without a report, or reserved for what is in progress, US dollars; empty when a part is not known"
    ),
}
_PER_OUTPUT: Columns = {
    "cost_per_output_usd": _usd("charged and estimated, per stored output, US dollars; empty when not known")
}
_SAVED: Columns = {"saved_usd": _usd("saved by reuse, US dollars; empty when a part is not known")}
_TIMED: Mapping[str, str] = {
    "queue": "time in Segmind's queue",
    "inference": "time of the model",
    "latency": "time from our POST to the stored output",
}
_PERCENTILES: Columns = {
    f"{name}_p{percent}_ms": _column("double", f"{percent}th percentile of the {of}, ms")
    for name, of in _TIMED.items()
    for percent in (50, 95, 99)
}
_ATTEMPTS: Columns = {"attempts": _column("bigint", "POSTs sent")}
_WAITS: Columns = {
    "rate_limited": _column("bigint", "of the POSTs, refused because of the request rate"),
    "rate_wait_ms": _column("bigint", "waited for the request rate before POSTs, all together, ms"),
}
_SENT: Columns = {**_ATTEMPTS, **_WAITS, **_SPEND}

USAGE_COLUMNS: Mapping[str, Columns] = {
    "usage_by_model": {
        "model": _key("text", "model slug"), **_COUNTS, **_SENT, **_SAVED, **_PER_OUTPUT, **_PERCENTILES,
    },
    "usage_by_prompt_set": {
        "prompt_set": _key("text", "prompt set"), **_COUNTS, **_SENT, **_SAVED, **_PER_OUTPUT, **_PERCENTILES,
    },
    "usage_by_day": {
        "day": _key("date", "UTC day"),
        "generations": _column("bigint", "generations that a prompt set first asked for on that day"),
        "reused": _COUNTS["reused"],
        "stored": _column("bigint", "of these generations, stored now"),
        "still_failed": _column("bigint", "of these generations, failed now"),
        **_SAVED,
        "attempts": _column("bigint", "POSTs sent on that day, which the rest is about"),
        "succeeded": _column("bigint", "attempts that brought a stored output"),
        "failed": _column("bigint", "attempts that failed"),
        **_WAITS,
        **_SPEND,
        **_PER_OUTPUT,
        **_PERCENTILES,
    },
    "usage_by_failure": {
        "failure_kind": _key("text", "why attempts failed"),
        "model": _key("text", "model slug"),
        **_ATTEMPTS,
        "still_failed": _column("bigint", "generations that are failed for this reason now"),
        "rate_wait_ms": _WAITS["rate_wait_ms"],
        **_SPEND,
        "example": _column("text", "one of the messages"),
    },
    "usage_by_variable": {
        "prompt_set": _key("text", "prompt set"),
        "model": _key("text", "model slug"),
        "variable": _key("text", "placeholder"),
        "value": _key("text", "value that stood in for it"),
        **{name: _COUNTS[name] for name in ("generations", "succeeded", "failed")},
        "failure_rate": _column("double", "failed, as a share of those that succeeded or failed, 0 to 1"),
        **_ATTEMPTS,
        **_SPEND,
        **_PER_OUTPUT,
    },
}  # fmt: skip

_SCOPE: Columns = {"api_origin": _column("text", "API and account it is about")}

SPEND_COLUMNS: Mapping[str, Columns] = {
    "spend_unexplained": {
        "request_id": _key("text", "Segmind's id of a request that is not in our ledger"),
        "model": _column("text", "model, as the history names it"),
        "status": _column("text", "COMPLETED, FAILED or PENDING"),
        "cost_usd": _usd("charged for it, US dollars; empty when the history does not say"),
        "created_at": _column("timestamp", "when it was made, UTC"),
        "may_be_ours": _column("bool", "whether a submission of ours with an unseen outcome asked for the same"),
        **_SCOPE,
    },
    "spend_paid_twice": {
        "generation_id": _key("text", "generation that was charged more than once"),
        "model": _column("text", "model slug"),
        "prompt_set": _column("text", "prompt set that paid"),
        "charges": _column("bigint", "charges"),
        "cost_usd": _usd("all of them together, US dollars"),
        "excess_usd": _usd("of it, charged again by accident, US dollars"),
        "decided_usd": _usd("of it, bought again because a person decided so, US dollars"),
        "request_ids": _column("text", "Segmind's ids of the requests, first to last"),
        "last_at": _column("timestamp", "when the last of them was sent, UTC"),
        **_SCOPE,
    },
    "spend_not_held": {
        "generation_id": _key("text", "generation that was paid for and is not stored"),
        "attempt": _key("bigint", "number of the POST that was charged"),
        "model": _column("text", "model slug"),
        "prompt_set": _column("text", "prompt set that paid"),
        "request_id": _column("text", "Segmind's id of the request"),
        "status": _column("text", "how the attempt stands here"),
        "failure_kind": _column("text", "why it failed; written_off: to be bought again by a person's decision"),
        "cost_usd": _usd("charged, US dollars"),
        "submitted_at": _column("timestamp", "when Segmind accepted it, UTC"),
        "expires_at": _column("timestamp", "when Segmind deletes the output, UTC"),
        "can_be_fetched": _column("bool", "whether it was still to be had when this was written"),
        **_SCOPE,
    },
    "spend_cost_differences": {
        "generation_id": _key("text", "generation"),
        "attempt": _key("bigint", "number of the POST"),
        "model": _column("text", "model slug"),
        "prompt_set": _column("text", "prompt set that paid"),
        "request_id": _column("text", "Segmind's id of the request"),
        "what": _column("text", "different, or absent from the history"),
        "ledger_cost_usd": _usd("charged according to our ledger, US dollars"),
        "cost_source": _column("text", "reported, history or estimated"),
        "history_cost_usd": _usd("charged according to the history, US dollars; empty when it does not say"),
        "difference_usd": _usd("history less ledger, US dollars; empty when not known"),
        "submitted_at": _column("timestamp", "when Segmind accepted it, UTC"),
        **_SCOPE,
    },
    "spend_balance": {
        "from_at": _key("timestamp", "when the balance was read before, UTC"),
        "to_at": _key("timestamp", "when it was read next, UTC"),
        "before_usd": _usd("balance before, US dollars"),
        "after_usd": _usd("balance after, US dollars"),
        "decrease_usd": _usd("by how much it fell, US dollars; negative when it rose"),
        "history_usd": _usd("charged in between according to the history, US dollars; empty when not known"),
        "ledger_usd": _usd("of these requests, charged according to our ledger, US dollars; empty when not known"),
        "in_flight_usd": _usd("of it, for requests under way at either moment, US dollars"),
        "difference_usd": _usd("history less decrease, US dollars: positive after a top-up; empty when not known"),
        "verdict": _column("text", "agrees, topped up, fell too far, too early to tell, or not known"),
        **_SCOPE,
    },
    "spend_runway": {
        "observed_at": _key("timestamp", "when the balance was read, UTC"),
        "balance_usd": _usd("balance, US dollars"),
        "spent_usd": _usd("by how much it fell in the days before, top-ups left out, US dollars"),
        "days": _column("double", "how many days that is"),
        "spent_per_day_usd": _usd("a day, US dollars; empty when there is too little to tell"),
        "runway_days": _column("double", "days until the balance is used up; empty when not known or nothing is spent"),
        **_SCOPE,
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
    "html": _column("text", "the page as it came; as zlib+base64 where the destination holds no text that long"),
    "api_origin": _column("text", "API it was read from"),
}

MODELS_PAGE_ROWS_COLUMNS: Columns = {
    "html_sha256": _key("text", "digest of the page; `models_page` has it whole"),
    "slug": _key("text", "model slug"),
    "title": _column("text", "name for people"),
    "modality": _column("text", "what goes in and comes out, in the page's words"),
    "price_usd": _usd("price of a request, US dollars, where the page gives one"),
    "latency_ms": _column("bigint", "time of a request, ms, where the page gives one"),
    "fetched_at": _column("timestamp", "when the page was read, UTC"),
    "api_origin": _column("text", "API it was read from"),
}

MODEL_CHANGES_COLUMNS: Columns = {
    "slug": _key("text", "model slug"),
    "field": _key("text", "mean_cost_usd, mean_latency_ms (from a tenth on), is_listed or is_deprecated"),
    "old_value": _column("text", "what was known before: seen last, or bundled; empty when nothing was"),
    "new_value": _column("text", "what the list says now"),
    "change_percent": _column("double", "by how much a price or a time rose, %"),
    "seen_at": _key("timestamp", "when the change was seen, UTC"),
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
    "ended_at": _column("timestamp", "when it had ended, by its time, UTC; empty while it is under way"),
    "api_origin": _key("text", "API and account it was read from"),
}
