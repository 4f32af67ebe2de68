"""How the catalogue drifts: what Segmind's list says of a model now, against what was known of it before. Pure.

Known is what was seen last, and before that the bundled `registry/catalogue.csv`. What the list does not say is not
known, which is no change. What was seen is kept with dlt's state, an entry for each API and account.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from segmind_dagster.registry import bundled_catalogue

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, MutableMapping
    from datetime import datetime

# a mean time moves every day; this share of it is worth a row
_LATENCY_DRIFT: Final = Decimal("0.1")


def catalogue_changes(
    rows: Iterable[Mapping[str, Any]], state: MutableMapping[str, Any], *, api_origin: str, now: datetime
) -> Iterator[dict[str, Any]]:
    """Rows of `model_changes`; remembers what was seen.

    Args:
        rows: of the `models` table, all of them.
        state: dlt's state of the resource.
        api_origin: whose catalogue it is.
        now: the time.
    """
    seen = state.setdefault(api_origin, {})
    known = {slug: {**fields, **seen.get(slug, {})} for slug, fields in _bundled().items()}
    known |= {slug: fields for slug, fields in seen.items() if slug not in known}
    listed: dict[str, Mapping[str, str | None]] = {row["slug"]: _fields(row) for row in rows}
    if not listed:
        # an empty list is a fault of the list, not the end of every model
        return
    gone: Mapping[str, Mapping[str, str | None]] = {
        slug: {"is_listed": "false"} for slug in known if slug not in listed
    }
    for slug, fields in sorted({**listed, **gone}.items()):
        before = known.get(slug, {})
        for field, new in fields.items():
            old = before.get(field, _USUAL.get(field) if before else None)
            if new is None or not _differs(field, old, new):
                continue
            seen.setdefault(slug, {})[field] = new
            yield {
                "slug": slug,
                "field": field,
                "old_value": old,
                "new_value": new,
                "change_percent": _change(field, old, new),
                "seen_at": now,
                "api_origin": api_origin,
            }


_USUAL: Final = {"is_listed": "true", "is_deprecated": "false"}


def _bundled() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for slug, entry in bundled_catalogue().entries.items():
        found[slug] = {"is_listed": "true"}
        if entry.cost_usd is not None:
            found[slug]["mean_cost_usd"] = _plain(entry.cost_usd)
        if entry.latency_s is not None:
            found[slug]["mean_latency_ms"] = str(round(entry.latency_s * 1000))
    return found


def _fields(row: Mapping[str, Any]) -> dict[str, str | None]:
    cost, latency, deprecated = row["mean_cost_usd"], row["mean_latency_ms"], row["is_deprecated"]
    return {
        "is_listed": "true",
        "mean_cost_usd": None if cost is None else _plain(cost),
        "mean_latency_ms": None if latency is None else str(latency),
        "is_deprecated": str(deprecated).lower() if isinstance(deprecated, bool) else None,
    }


def _differs(field: str, old: str | None, new: str) -> bool:
    if old is None:
        return new != _USUAL.get(field) or field == "is_listed"
    if field == "mean_latency_ms":
        return abs(Decimal(new) - Decimal(old)) > _LATENCY_DRIFT * Decimal(old)
    return new != old


def _change(field: str, old: str | None, new: str) -> float | None:
    if old is None or not field.startswith("mean_") or not Decimal(old):
        return None
    return round(float((Decimal(new) / Decimal(old) - 1) * 100), 2)


def _plain(amount: Decimal) -> str:
    return f"{amount.normalize():f}"
