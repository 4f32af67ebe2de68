"""Reads the models page, which is made for people: whatever table of models it holds, as rows. Pure.

Its HTML is nobody's promise. A page without such a table gives no rows, which is for the caller to notice; the page
itself is kept in any case.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bs4 import Tag

# what a column may be called; the first word that fits wins
_HEADINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "slug": ("slug", "model id", "model_id", "endpoint"),
    "title": ("title", "name"),
    "modality": ("modality", "type", "category", "task"),
    "price_usd": ("price", "cost"),
    "latency_ms": ("latency", "time"),
}
_SLUG: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_USD: Final = re.compile(r"\$?\s*(\d[\d,]*(?:\.\d+)?)")
_DURATION: Final = re.compile(
    r"(\d[\d,]*(?:\.\d+)?)\s*(ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?)?\b", re.IGNORECASE
)
_LONGEST: Final = 300


def models_on_page(html: str) -> list[dict[str, Any]]:
    """The models that a page lists, each once: `slug`, and what it says of title, modality, price and latency.

    Args:
        html: the page.
    """
    from bs4 import BeautifulSoup

    found: dict[str, dict[str, Any]] = {}
    for table in BeautifulSoup(html, "html.parser").find_all("table"):
        columns: dict[str, int] | None = None
        for line in table.find_all("tr"):
            cells = line.find_all(["td", "th"])
            if columns is None:
                columns = _columns([_text(cell) for cell in cells])
            elif (row := _row(cells, columns)) is not None:
                found.setdefault(row["slug"], row)
    return list(found.values())


def _columns(headings: Sequence[str]) -> dict[str, int] | None:
    """Which column holds what; None when no column can be the slug, so that this is no heading of ours."""
    places: dict[str, int] = {}
    for name, words in _HEADINGS.items():
        fitting = (
            place
            for word in words
            for place, heading in enumerate(headings)
            if word in heading.lower() and place not in places.values()
        )
        if (place := next(fitting, None)) is not None:
            places[name] = place
    return places if "slug" in places else None


def _row(cells: Sequence[Tag], columns: Mapping[str, int]) -> dict[str, Any] | None:
    text = {name: _text(cells[place]) if place < len(cells) else "" for name, place in columns.items()}
    if not _SLUG.fullmatch(text["slug"]) or len(text["slug"]) > _LONGEST:
        return None
    return {
        "slug": text["slug"],
        "title": text.get("title", "")[:_LONGEST] or None,
        "modality": text.get("modality", "")[:_LONGEST] or None,
        "price_usd": _price(text.get("price_usd", "")),
        "latency_ms": _latency(text.get("latency_ms", "")),
    }


def _text(cell: Tag) -> str:
    return " ".join(cell.get_text(" ").split())


def _price(text: str) -> Decimal | None:
    # more than one amount is a range or a tariff: no price of a request
    amounts = _USD.findall(text)
    return Decimal(amounts[0].replace(",", "")) if len(amounts) == 1 and len(amounts[0]) < 12 else None  # noqa: PLR2004


def _latency(text: str) -> int | None:
    durations = _DURATION.findall(text)
    if len(durations) != 1 or len(durations[0][0]) >= 12:  # noqa: PLR2004  no time is that long
        return None
    number, unit = durations[0]
    unit = unit.lower()
    factor = 1 if unit == "ms" or unit.startswith("milli") else 60_000 if unit.startswith("m") else 1000
    return round(Decimal(number.replace(",", "")) * factor)
