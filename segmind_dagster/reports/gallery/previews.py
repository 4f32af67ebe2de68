"""Previews of outputs on a page: a thumbnail of a picture, the first words of a text.

Made once and kept beside the page under the digest of the output, because outputs may lie in a bucket, where reading
them again for every new page would take minutes and cost money.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from segmind_dagster.reports.thumbnails import stored_bytes, thumbnail

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from segmind_dagster.reports.gallery.cards import Card
    from segmind_dagster.reports.publishing import Shelf

LONGEST_PX = 256
_QUALITY = 62
_MOST_CHARS = 1500
_MOST_TEXT_BYTES = 256 * 1024
_AT_ONCE = 8
_ENDINGS = {"image": "webp", "text": "txt"}


def make_previews(cards: Sequence[Card], shelf: Shelf, folder: str) -> dict[str, bytes]:
    """The preview of each card that has one, by its file name, made now or earlier."""
    kept = shelf.names(folder)
    wanted = {name: card for card in cards if (name := preview_name(card))}

    def preview(name: str) -> bytes | None:
        if name in kept:
            return shelf.read(f"{folder}/{name}")
        made = _make(wanted[name])
        if made is not None:
            shelf.write(f"{folder}/{name}", made)
        return made

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = zip(wanted, pool.map(preview, wanted), strict=True)
        return {name: content for name, content in found if content is not None}


def preview_name(card: Card) -> str | None:
    """Name of the file a card's preview is kept in; None when there is nothing to show."""
    ending = _ENDINGS.get(card.kind)
    if not card.is_stored or ending is None or not (card.output_sha256 or "").isalnum():
        return None
    return f"{card.output_sha256}.{ending}"


def _make(card: Card) -> bytes | None:
    assert card.output_uri is not None
    if card.kind == "image":
        return thumbnail(card.output_uri, longest_px=LONGEST_PX, form="WEBP", quality=_QUALITY)
    return _first_words(card.output_uri)


def _first_words(uri: str) -> bytes | None:
    content = stored_bytes(uri, most=_MOST_TEXT_BYTES)
    if content is None:
        return None
    text = _spoken(content.decode("utf-8", errors="replace"))
    return (text if len(text) <= _MOST_CHARS else f"{text[:_MOST_CHARS]}…").encode()


def _spoken(text: str) -> str:
    """What a text model says, without the envelope it comes in."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(document, str):
        return document
    return _message(document) or text


def _message(document: Any) -> str | None:
    choices = document.get("choices") if isinstance(document, dict) else None
    first: Mapping[str, Any] = choices[0] if isinstance(choices, list) and choices else {}
    message = first.get("message") if isinstance(first, dict) else None
    content = message.get("content") if isinstance(message, dict) else None
    return content if isinstance(content, str) else None
