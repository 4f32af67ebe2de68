"""The page of a gallery: cards and axes as data in the page, which its script lays out as they are needed.

Only what the template and the script show is decided here; how it looks is in `templates/gallery.*`.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from segmind_dagster.reports.gallery.axes import find_axes, first_layout, offered
from segmind_dagster.reports.gallery.previews import preview_name
from segmind_dagster.reports.rendering import render

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from segmind_dagster.reports.gallery.cards import Card, Charges
    from segmind_dagster.reports.publishing import Shelf

# thumbnails stand in the page up to this, so that a page sent alone still shows them, and beside it from there on
INLINE_BYTES = 4_000_000
STATUSES = {
    "succeeded": "stored",
    "failed": "failed",
    "unknown": "unknown outcome",
    "submitting": "under way",
    "submitted": "under way",
    "planned": "not bought yet",
}


def render_page(
    prompt_set: str,
    cards: Sequence[Card],
    *,
    charges: Charges,
    previews: Mapping[str, bytes],
    shelf: Shelf,
    folder: str,
    sheet: str | None,
    omitted: int,
    api_origin: str,
    is_sandbox: bool,
    made_at: datetime,
) -> bytes:
    """A page as a file.

    Args:
        prompt_set: key of the set.
        cards: what is shown.
        charges: what the set has paid.
        previews: content of preview files by name.
        shelf: where the page goes.
        folder: the page's folder on that shelf.
        sheet: file name of the contact sheet in the same folder, if there is one.
        omitted: how many further cards the set has.
        api_origin: where the outputs come from.
        is_sandbox: whether they are simulated.
        made_at: the time.
    """
    axes = find_axes(cards)
    layout = first_layout(axes)
    statuses = Counter(STATUSES[card.status] for card in cards if card.is_current)
    data = {
        "axes": [
            {
                "name": axis.name,
                "label": axis.label,
                "values": axis.values,
                "positions": axis.positions,
                "columns": axis.can_be_columns,
            }
            for axis in axes
        ],
        "rows": layout.rows,
        "columns": layout.columns,
        "cards": _card_data(cards, previews, shelf, folder),
    }
    return render(
        "gallery",
        prompt_set=prompt_set,
        data=data,
        axes=offered(axes, layout),
        layout=layout,
        statuses=[(label, statuses[label]) for label in dict.fromkeys(STATUSES.values()) if label in statuses],
        former=sum(not card.is_current for card in cards),
        total=len(cards),
        omitted=omitted,
        spent=charges.in_words(),
        sheet=sheet,
        api_origin=api_origin,
        is_sandbox=is_sandbox,
        made_at=made_at,
    )


def _card_data(cards: Sequence[Card], previews: Mapping[str, bytes], shelf: Shelf, folder: str) -> list[dict[str, Any]]:
    inlined = 0
    shown = []
    for card in cards:
        name = preview_name(card)
        preview = previews.get(name) if name else None
        data: dict[str, Any] = {
            "prompt": card.prompt,
            "kind": card.kind,
            "status": STATUSES[card.status],
            "model": card.model.title,
            "line": _line(card),
            "details": _details(card),
        }
        if not card.is_current:
            data["former"] = True
        if card.status != "succeeded" and (card.failure_kind or card.error):
            data["failure"] = [card.failure_kind or "", card.error or ""]
        if card.is_stored and card.output_uri:
            data["link"], data["opens"] = shelf.link(card.output_uri, folder=folder)
        if preview is not None and card.kind == "image":
            inlined += len(preview)
            data["thumbnail"] = (
                f"previews/{name}"
                if inlined > INLINE_BYTES
                else f"data:image/webp;base64,{base64.b64encode(preview).decode()}"
            )
        elif preview is not None:
            data["text"] = preview.decode(errors="replace")
        if card.width and card.height:
            data["size"] = [card.width, card.height]
        shown.append(data)
    return shown


def _line(card: Card) -> str:
    """The figures below a card."""
    paid = card.charges.in_words(in_short=True) if card.charges.attempts else ""
    cost = "reused" if card.paid_by is not None else paid
    latency = f"{card.latency_ms / 1000:.1f} s" if card.latency_ms is not None else ""
    if card.is_stored and not latency:
        # found again after its answer was lost
        latency = "latency not known"
    return " · ".join(part for part in (cost, latency) if part)


def _details(card: Card) -> list[tuple[str, str]]:
    """What the viewer lists, in order, without what is unknown."""
    details: list[tuple[str, str | None]] = [
        ("Model", card.model.title),
        ("Cost", card.cost_in_words()),
        ("Latency", _seconds(card.latency_ms) or ("not known" if card.is_stored else None)),
        ("of it in the queue", _seconds(card.queue_ms)),
        ("of it the model", _seconds(card.inference_ms)),
        ("Seed", None if card.seed is None else str(card.seed)),
        ("Sample", str(card.sample + 1) if card.sample else None),
        ("Negative prompt", card.negative_prompt),
        *((f"Variable {name}", _shown(value)) for name, value in card.variables.items()),
        *((f"Parameter {name}", _shown(value)) for name, value in card.params.items()),
        ("Size", _size(card)),
        ("Stored", f"{card.completed_at:%Y-%m-%d %H:%M} UTC" if card.completed_at and card.is_stored else None),
        ("Request", card.request_id),
        ("Generation", card.generation_id),
    ]
    return [(name, value) for name, value in details if value]


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _seconds(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else f"{milliseconds / 1000:.2f} s"


def _size(card: Card) -> str | None:
    pixels = f"{card.width} x {card.height} px" if card.width and card.height else None
    stored = f"{card.output_bytes / 1000:,.0f} kB" if card.output_bytes else None
    return ", ".join(part for part in (pixels, card.output_format, stored) if part) or None
