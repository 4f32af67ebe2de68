"""Reads what was written beside and inside an output, as far as it can be believed.

A value of the wrong type reads as not given: files are edited, copied and cut short. Without a generation and an
origin there is nothing to believe at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from segmind_dagster.lifecycle.parsing import read_instant, read_integer, read_usd
from segmind_dagster.prompts.identity import canonical_json
from segmind_dagster.prompts.keys import key_complaint

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from decimal import Decimal

_SHA256 = re.compile(r"[0-9a-f]{64}")
_LARGEST_INTEGER = 2**63
_LARGEST_ATTEMPT = 10**6
# a database cannot hold every year that text can name
_YEARS = range(2000, 2200)
_SOURCES = frozenset({"reported", "history"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """Where an output came from; None for what is not given.

    Args:
        api_origin: the API that made it.
        model_slug: the model.
        body: what was sent, local images left out and secrets taken out.
        images: digest of each local image by parameter.
        prompt_set: the set that paid.
        request_id: Segmind's id.
        attempt: number of the POST, from 1.
        seed: as Segmind reported it.
        cost_usd: what it cost.
        cost_source: who said so.
        latency_ms: from our POST to the stored output.
        stored_at: when it was stored.
        output_sha256: digest of the stored bytes.
    """

    api_origin: str
    model_slug: str | None = None
    body: Mapping[str, Any] | None = None
    images: Mapping[str, str] = field(default_factory=dict)
    prompt_set: str | None = None
    request_id: str | None = None
    attempt: int | None = None
    seed: int | None = None
    cost_usd: Decimal | None = None
    cost_source: str | None = None
    latency_ms: int | None = None
    stored_at: datetime | None = None
    output_sha256: str | None = None


def read_sidecar(document: Any, *, generation_id: str) -> Sidecar | None:
    """The sidecar of one generation; None when the document is not about it, or does not say which API made it.

    Args:
        document: what was read, any JSON value.
        generation_id: the generation whose name it bears.
    """
    if not isinstance(document, dict) or document.get("generation_id") != generation_id:
        return None
    origin = _text(document.get("api_origin"))
    if origin is None:
        return None
    images = document.get("images")
    sha256 = _text(document.get("output_sha256"))
    source = document.get("cost_source")
    prompt_set = _text(document.get("prompt_set"))
    return Sidecar(
        api_origin=origin,
        model_slug=_text(document.get("model")),
        body=_body(document.get("parameters")),
        images={
            name: digest
            for name, digest in (images.items() if isinstance(images, dict) else ())
            if isinstance(digest, str) and _SHA256.fullmatch(digest)
        },
        prompt_set=prompt_set if prompt_set and key_complaint(prompt_set) is None else None,
        request_id=_text(document.get("request_id")),
        attempt=read_integer(document.get("attempt"), least=1, below=_LARGEST_ATTEMPT),
        seed=read_integer(document.get("seed"), least=-_LARGEST_INTEGER, below=_LARGEST_INTEGER),
        cost_usd=read_usd(document.get("cost_usd")),
        cost_source=source if isinstance(source, str) and source in _SOURCES else None,
        latency_ms=read_integer(document.get("latency_ms"), least=0, below=_LARGEST_INTEGER),
        stored_at=_instant(document.get("stored_at")),
        output_sha256=sha256 if sha256 and _SHA256.fullmatch(sha256) else None,
    )


def _text(value: Any) -> str | None:
    # a database holds no NUL and no lone surrogate
    is_text = isinstance(value, str) and value.strip() and "\0" not in value and value.isprintable()
    return value if is_text else None


def _body(value: Any) -> Mapping[str, Any] | None:
    if not isinstance(value, dict):
        return None
    try:
        canonical_json(value).encode()
    except (ValueError, RecursionError):  # NaN, lone surrogates: no request ever held them
        return None
    return value


def _instant(value: Any) -> datetime | None:
    moment = read_instant(value)
    return moment if moment is not None and moment.year in _YEARS else None
