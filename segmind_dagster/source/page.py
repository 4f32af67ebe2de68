"""Reads the models page, which is made for people: whatever list of models it holds, as rows. Pure.

Its HTML is not documented: a table is looked for first, then data for the page's own scripts, then links to models.
A page without any of them gives no rows, which is for the caller to notice; the page itself is kept in any case.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bs4 import BeautifulSoup, Tag

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
_CARD_DEPTH: Final = 6
_JSON: Final = re.compile(r"^application/(ld\+)?json$")
_TIME_FIELD: Final = re.compile(r"\w*(latency|time)\w*_(?P<unit>ms|s)")
_MODEL_LINK: Final = re.compile(r"/models/(?P<slug>[A-Za-z0-9][A-Za-z0-9._-]*)/?$")
_DOLLARS: Final = re.compile(r"\$\s*\d[\d,]*(?:\.\d+)?")
_TIME_IN_TEXT: Final = re.compile(r"\b\d[\d,]*(?:\.\d+)?\s*(?:ms|milliseconds?|s|secs?|seconds?)\b", re.IGNORECASE)


def models_on_page(html: str) -> list[dict[str, Any]]:
    """The models that a page lists, each once: `slug`, and what it says of title, modality, price and latency."""
    from bs4 import BeautifulSoup as Soup

    page = Soup(html, "html.parser")
    for read in (_in_tables, _in_data, _in_links):
        found: dict[str, dict[str, Any]] = {}
        for row in read(page):
            found.setdefault(row["slug"], row)
        if found:
            return list(found.values())
    return []


def _in_tables(page: BeautifulSoup) -> Iterator[dict[str, Any]]:
    for table in page.find_all("table"):
        columns: dict[str, int] | None = None
        for line in table.find_all("tr"):
            cells = line.find_all(["td", "th"])
            if columns is None:
                columns = _columns([_text(cell) for cell in cells])
            elif (row := _row(_named(cells, columns))) is not None:
                yield row


def _in_data(page: BeautifulSoup) -> Iterator[dict[str, Any]]:
    """Objects with a slug in the JSON that a page carries for its scripts, such as `__NEXT_DATA__`."""
    for script in page.find_all("script", type=_JSON):
        try:
            waiting: list[Any] = [json.loads(script.get_text())]
        except (ValueError, RecursionError):
            continue
        while waiting:
            value = waiting.pop()
            if isinstance(value, dict):
                if (row := _row(_of_object(value))) is not None:
                    yield row
                waiting += reversed(value.values())
            elif isinstance(value, list):
                waiting += reversed(value)


def _of_object(value: Mapping[str, Any]) -> dict[str, str]:
    """An object's fields by our names; a number counts only where the name of its field tells the unit."""
    texts = {name.lower(): field for name, field in value.items() if isinstance(field, str)}
    named = {ours: next((texts[word] for word in words if word in texts), "") for ours, words in _HEADINGS.items()}
    for name, field in value.items():
        if isinstance(field, bool) or not isinstance(field, int | float):
            continue
        if name.lower().endswith("_usd"):
            named["price_usd"] = f"${field}"
        elif unit := _TIME_FIELD.fullmatch(name.lower()):
            named["latency_ms"] = f"{field} {unit['unit']}"
    return named


def _in_links(page: BeautifulSoup) -> Iterator[dict[str, Any]]:
    """Links to models, each with the amount and the time that stand beside no other one."""
    for link in page.find_all("a", href=_MODEL_LINK):
        card = link
        for around in islice(link.parents, _CARD_DEPTH):
            if len(around.find_all("a", href=_MODEL_LINK, limit=2)) > 1:
                break
            card = around
        text = _text(card)
        amounts, times = _DOLLARS.findall(text), _TIME_IN_TEXT.findall(text)
        match = _MODEL_LINK.search(str(link["href"]))
        row = _row({
            "slug": match["slug"] if match else "",
            "title": _text(link),
            "price_usd": amounts[0] if len(amounts) == 1 else "",
            "latency_ms": times[0] if len(times) == 1 else "",
        })  # fmt: skip
        if row is not None:
            yield row


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


def _named(cells: Sequence[Tag], columns: Mapping[str, int]) -> dict[str, str]:
    return {name: _text(cells[place]) if place < len(cells) else "" for name, place in columns.items()}


def _row(text: Mapping[str, str]) -> dict[str, Any] | None:
    """A row of what stands where; None when that is no model."""
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
