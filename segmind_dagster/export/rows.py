"""Which generations of a prompt set are exported, and with which fields. Pure.

Only what was generated and where it came from: addresses, requests and runs stay private.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from segmind_dagster.errors import RegistryError
from segmind_dagster.registry import OutputKind, find_model
from segmind_dagster.source.rows import model_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from segmind_dagster.gateway.redaction import Redactor

# the columns of a dataset besides its files, and their types: dlt's names, as in the warehouse
COLUMNS: Final[Mapping[str, type]] = {
    "generation_id": str,
    "prompt_set": str,
    "model": str,
    "prompt": str,
    "negative_prompt": str,
    "params": str,
    "variables": str,
    "seed": int,
    "sample": int,
    "width": int,
    "height": int,
    "output_format": str,
    "output_bytes": int,
    "output_sha256": str,
    "cost_usd": Decimal,
    "completed_at": str,
    "is_current": bool,
    "api_origin": str,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A generation that is exported.

    Args:
        resource: resource name of its model.
        kind: what it is: image, video, audio or text.
        uri: where its output is.
        fields: its values, by the names of `COLUMNS`.
    """

    resource: str
    kind: OutputKind
    uri: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A generation that is not.

    Args:
        generation_id: which.
        model: slug of its model.
        prompt: what was asked for.
        why: state or failure kind, for people.
        error: what was seen.
    """

    generation_id: str
    model: str
    prompt: str
    why: str
    error: str


def choose(
    records: Iterable[Mapping[str, Any]], *, api_origin: str, redactor: Redactor, also_former: bool
) -> tuple[list[Item], list[LeftOut]]:
    """Sort a set's generations into what is exported and what is not.

    Args:
        records: as the ledger has them; see `ledger.reads.set_rows`.
        api_origin: where they came from.
        redactor: takes keys out of what is exported.
        also_former: whether what the set asked for once, and no longer does, is wanted too.
    """
    items, left_out = [], []
    for record in records:
        if not (record["is_current"] or also_former):
            continue
        row = model_row(record, api_origin=api_origin, redactor=redactor)
        if record["state"] != "succeeded" or not record["output_uri"]:
            why = record["failure_kind"] or record["state"]
            left_out.append(left(record, why, record["error"] or ""))
            continue
        item = Item(
            resource=record["resource"],
            kind=_kind(record),
            uri=record["output_uri"],
            fields={name: _plain(row[name]) for name in COLUMNS},
        )
        items.append(item)
    return items, left_out


def left(record: Mapping[str, Any], why: str, error: str) -> LeftOut:
    """A generation that cannot be exported."""
    model = record.get("model_slug") or record["model"]
    return LeftOut(generation_id=record["generation_id"], model=model, prompt=record["prompt"], why=why, error=error)


def _kind(record: Mapping[str, Any]) -> OutputKind:
    form = record["output_format"]
    try:
        return find_model(record["model_slug"]).output
    except RegistryError:  # its entry was removed: the format tells as much
        if form in {"mp4", "webm"}:
            return "video"
        if form in {"json", "txt"}:
            return "text"
        return "audio" if form in {"mp3", "wav", "ogg", "flac"} else "image"


def _plain(value: Any) -> Any:
    """A value as files hold it: documents as JSON, since their keys differ from row to row; times as ISO 8601."""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    return value.isoformat() if hasattr(value, "isoformat") else value
