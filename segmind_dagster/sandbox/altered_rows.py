"""What a lying history makes of one row: its model, its body, its moment. Pure.

Which rows are altered, and which lie applies, is decided in `lying_history`.
"""

from __future__ import annotations

import html
import json
import re
import struct
import unicodedata
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from segmind_dagster.sandbox.faults import unit_draw
from segmind_dagster.sandbox.times import iso_utc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from segmind_dagster.sandbox.jobs import Job
    from segmind_dagster.sandbox.lies import Alteration, Lies

Row = dict[str, Any]

_ELSEWHERE = timezone(timedelta(hours=5, minutes=30))
_HOUR_S = 3600.0
_QUOTES = re.compile(r"""(?P<open>(?:^|(?<=\s))["'])|(?P<close>["'])""")
_PICTURE = re.compile(r"https?://|data:")


def altered(row: Mapping[str, Any], job: Job, lies: Lies) -> Row:
    """A row after every alteration of `lies`, in their order; the row given stays as it is."""
    shown = dict(row)
    for kind in lies.alterations:
        shown = _altered(shown, job, kind, lies)
    return shown


def _altered(row: Row, job: Job, kind: Alteration, lies: Lies) -> Row:
    if kind in _MODELS:
        return {**row, "model_name": _MODELS[kind](job)}
    if kind in _TIMES:
        return {**row, "model_created": _TIMES[kind](job)}
    if kind == "body_missing":
        return {name: value for name, value in row.items() if name != "request_body"}
    body = row.get("request_body")
    if isinstance(body, str):
        body = json.loads(body)
        return {**row, "request_body": _as_json(_body(body, job, kind, lies))}
    if kind == "body_as_text":
        return {**row, "request_body": _as_json(body)}
    return {**row, "request_body": _body(body, job, kind, lies)} if isinstance(body, dict) else row


def _body(body: dict[str, Any], job: Job, kind: Alteration, lies: Lies) -> dict[str, Any]:
    if kind in _VALUES:
        change = _VALUES[kind]
        return {name: _each(value, lambda leaf: change(leaf, lies)) for name, value in body.items()}
    return _KEYS[kind](body, job, lies) if kind in _KEYS else body


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    """A JSON value with every leaf changed."""
    if isinstance(value, dict):
        return {name: _each(inner, change) for name, inner in value.items()}
    if isinstance(value, list):
        return [_each(inner, change) for inner in value]
    return change(value)


def _of_text(change: Callable[[str, Lies], str]) -> Callable[[Any, Lies], Any]:
    """A change of texts; other values and addresses of pictures stay."""
    return lambda value, lies: change(value, lies) if isinstance(value, str) and not _PICTURE.match(value) else value


def _cut(text: str, lies: Lies, *, mark: str = "") -> str:
    return text if len(text) <= lies.cut_at else text[: lies.cut_at] + mark


def _cut_bytes(text: str, lies: Lies) -> str:
    return text.encode()[: lies.cut_at].decode(errors="replace")


def _smart(text: str) -> str:
    def curved(match: re.Match[str]) -> str:
        return {'"': "\u201c\u201d", "'": "\u2018\u2019"}[match[0]][match.lastgroup == "close"]

    return _QUOTES.sub(curved, text)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _float32(value: Any) -> Any:
    return struct.unpack("f", struct.pack("f", value))[0] if isinstance(value, float) else value


def _other_seed(body: dict[str, Any], job: Job) -> dict[str, Any]:
    return {name: job.seed if name == "seed" and value == -1 else value for name, value in body.items()}


def _with_defaults(body: dict[str, Any], job: Job) -> dict[str, Any]:
    parameters = job.offer.model.parameters if job.offer.model else ()
    return {**{each.name: each.default for each in parameters if each.default is not None}, **body}


def _with_nulls(body: dict[str, Any], job: Job) -> dict[str, Any]:
    parameters = job.offer.model.parameters if job.offer.model else ()
    return {**{each.name: None for each in parameters}, "webhook": None, **body}


def _without_one(body: dict[str, Any], job: Job, lies: Lies) -> dict[str, Any]:
    names = sorted(body.keys() - {"prompt", "messages"}) or sorted(body)
    if not names:
        return body
    dropped = names[int(unit_draw(lies.seed, "dropped", job.slug, *sorted(body.items()), job.nth) * len(names))]
    return {name: value for name, value in body.items() if name != dropped}


def _other_pictures(body: dict[str, Any], job: Job) -> dict[str, Any]:
    return {
        name: _each(value, lambda leaf: _replaced(leaf, job)) if isinstance(value, (str, list)) else value
        for name, value in body.items()
    }


def _replaced(value: Any, job: Job) -> Any:
    is_picture = isinstance(value, str) and _PICTURE.match(value)
    return f"https://storage.example.com/inputs/{job.request_id}.png" if is_picture else value


def _as_json(body: Any) -> str:
    return json.dumps(body, ensure_ascii=False)


_MODELS: Mapping[str, Callable[[Job], str]] = MappingProxyType(
    {
        "model_title": lambda job: job.offer.title,
        "model_upper": lambda job: job.slug.upper(),
        "model_separators": lambda job: job.slug.replace("-", " ", 1).replace("-", "_"),
    }
)
_VALUES: Mapping[str, Callable[[Any, Lies], Any]] = MappingProxyType(
    {
        "cut": _of_text(_cut),
        "cut_dots": _of_text(lambda text, lies: _cut(text, lies, mark="...")),
        "cut_ellipsis": _of_text(lambda text, lies: _cut(text, lies, mark="\u2026")),
        "cut_bytes": _of_text(_cut_bytes),
        "html_escaped": _of_text(lambda text, _: html.escape(text)),
        "nfc": _of_text(lambda text, _: unicodedata.normalize("NFC", text)),
        "nfd": _of_text(lambda text, _: unicodedata.normalize("NFD", text)),
        "nfkc": _of_text(lambda text, _: unicodedata.normalize("NFKC", text)),
        "lower": _of_text(lambda text, _: text.lower()),
        "upper": _of_text(lambda text, _: text.upper()),
        "whitespace_collapsed": _of_text(lambda text, _: re.sub(r"\s+", " ", text)),
        "whitespace_trimmed": _of_text(lambda text, _: text.strip()),
        "smart_quotes": _of_text(lambda text, _: _smart(text)),
        "float32": lambda value, _: _float32(value),
        "integers_as_floats": lambda value, _: float(value) if _is_number(value) else value,
        "numbers_as_text": lambda value, _: str(value) if _is_number(value) else value,
        "booleans_as_text": lambda value, _: str(value).lower() if isinstance(value, bool) else value,
        "booleans_as_numbers": lambda value, _: int(value) if isinstance(value, bool) else value,
    }
)
_KEYS: Mapping[str, Callable[[dict[str, Any], Job, Lies], dict[str, Any]]] = MappingProxyType(
    {
        "drawn_seed": lambda body, job, _: _other_seed(body, job),
        "defaults_added": lambda body, job, _: _with_defaults(body, job),
        "nulls_added": lambda body, job, _: _with_nulls(body, job),
        "nulls_dropped": lambda body, *_: {name: value for name, value in body.items() if value is not None},
        "falses_dropped": lambda body, *_: {name: value for name, value in body.items() if value is not False},
        "key_dropped": _without_one,
        "pictures_replaced": lambda body, job, _: _other_pictures(body, job),
    }
)
_TIMES: Mapping[str, Callable[[Job], Any]] = MappingProxyType(
    {
        "time_other_zone": lambda job: datetime.fromtimestamp(job.created_at, _ELSEWHERE).isoformat(),
        "time_without_zone": lambda job: datetime.fromtimestamp(job.created_at, UTC).isoformat(" ").split("+")[0],
        "time_hour_off": lambda job: iso_utc(job.created_at - _HOUR_S),
        "time_missing": lambda _: None,
        "time_epoch_s": lambda job: int(job.created_at),
        "time_epoch_ms": lambda job: int(job.created_at * 1000),
    }
)
