"""Writes a prompt set's gallery: reads its cards, makes what is missing, puts page and sheet in place.

Galleries lie beside the outputs, so that the links between them are relative and hold wherever both are served
or copied together: `data/galleries` beside `data/outputs`, `s3://bucket/galleries` beside `s3://bucket/outputs`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from segmind_dagster.errors import SegmindDagsterError
from segmind_dagster.gateway.redaction import redactor_of
from segmind_dagster.ledger import reads
from segmind_dagster.prompts.keys import key_complaint
from segmind_dagster.reports.gallery.cards import Charges, read_cards
from segmind_dagster.reports.gallery.page import STATUSES, render_page
from segmind_dagster.reports.gallery.previews import make_previews, preview_name
from segmind_dagster.reports.gallery.sheet import draw_sheet
from segmind_dagster.reports.publishing import Shelf

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from segmind_dagster.ledger import Ledger
    from segmind_dagster.settings import Settings

_FOLDER = "galleries"
_PAGE, _SHEET, _PREVIEWS = "index.html", "contact_sheet.jpg", "previews"
# a page of more becomes slow to open; what a set asks for now comes first
MOST_CARDS = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """A gallery in its place.

    Args:
        prompt_set: key of the set.
        uri: path or URL of the page.
        sheet_uri: path or URL of the contact sheet; None when there is no picture.
        generations: number of cards.
        by_status: the same by status, in words.
        pictures: address and prompt of the stored pictures.
        charges: what the set has paid.
        page_bytes: size of the page.
    """

    prompt_set: str
    uri: str
    sheet_uri: str | None
    generations: int
    by_status: Mapping[str, int]
    pictures: tuple[tuple[str, str], ...]
    charges: Charges
    page_bytes: int


def gallery_keys(ledger: Ledger) -> list[str]:
    """Keys of the prompt sets that the ledger knows."""
    return ledger.read(reads.set_keys)


def write_gallery(ledger: Ledger, settings: Settings, prompt_set: str, *, output: Path | None = None) -> Gallery:
    """Write a set's gallery as the ledger has the set now, over an earlier one; an empty set has an empty page.

    Args:
        ledger: an open ledger.
        settings: where outputs are.
        prompt_set: key of the set.
        output: folder for the set's folder; beside the outputs when omitted.

    Raises:
        SegmindDagsterError: no set can have that key, or the page cannot be written.
    """
    if complaint := key_complaint(prompt_set):
        raise SegmindDagsterError(f"No gallery was written: {complaint}.")
    shelf, folder = _place(settings, prompt_set, output)
    found, charges = read_cards(
        ledger, prompt_set=prompt_set, api_origin=settings.api_origin, redactor=redactor_of(settings)
    )
    cards = sorted(found, key=lambda card: not card.is_current)[:MOST_CARDS]
    previews = make_previews(cards, shelf, f"{folder}/{_PREVIEWS}")
    sheet = draw_sheet(cards, previews, title=prompt_set)
    sheet_uri = None if sheet is None else shelf.write(f"{folder}/{_SHEET}", sheet)
    page = render_page(
        prompt_set,
        cards,
        charges=charges,
        previews=previews,
        shelf=shelf,
        folder=folder,
        sheet=None if sheet is None else _SHEET,
        omitted=len(found) - len(cards),
        api_origin=settings.api_origin,
        is_sandbox=settings.is_sandbox,
        made_at=datetime.now(UTC),
    )
    return Gallery(
        prompt_set=prompt_set,
        # the page last: what it refers to is there before it
        uri=shelf.write(f"{folder}/{_PAGE}", page),
        sheet_uri=sheet_uri,
        generations=len(found),
        by_status=Counter(STATUSES[card.status] for card in found if card.is_current),
        pictures=tuple(
            (str(card.output_uri), card.prompt)
            for card in cards
            if card.kind == "image" and preview_name(card) in previews
        ),
        charges=charges,
        page_bytes=len(page),
    )


def _place(settings: Settings, prompt_set: str, output: Path | None) -> tuple[Shelf, str]:
    """The shelf that holds outputs and galleries together, and the set's folder on it."""
    if output is not None:
        return Shelf.at(str(output.absolute())), prompt_set
    outputs = Shelf.at(settings.outputs_url).url
    root, _, name = outputs.rpartition("/")
    # a bucket by itself has nothing beside it, and inside it a page would count as an output
    if not name or not root or root.endswith("/"):
        root = str(settings.data_dir)
    return Shelf(root), f"{_FOLDER}/{prompt_set}"
