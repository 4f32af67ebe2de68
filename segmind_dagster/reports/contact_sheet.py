"""A small contact sheet in Markdown: thumbnails as data URIs, which Dagster's UI renders, with their prompts."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

from segmind_dagster.reports.thumbnails import thumbnail

if TYPE_CHECKING:
    from collections.abc import Sequence

_COLUMNS = 4
_THUMBNAIL_PX = 112
_QUALITY = 60
# a run's page shows many of them; beyond this the UI becomes slow
MAX_BYTES = 90_000


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of a contact sheet.

    Args:
        uri: path or fsspec URL of the stored picture.
        caption: shown below it.
    """

    uri: str
    caption: str


def contact_sheet(pictures: Sequence[Picture], *, limit: int = 12) -> str | None:
    """Markdown with a table of thumbnails; None when there is nothing to show.

    Args:
        pictures: what to show, first come first.
        limit: how many at most; fewer if they get too large together.
    """
    cells: list[tuple[str, str]] = []
    size = 0
    for picture in pictures[:limit]:
        thumbnail = _thumbnail(picture.uri)
        if thumbnail is None:
            continue
        cell = (f"![]({thumbnail})", _plain(picture.caption))
        size += sum(map(len, cell))
        if size > MAX_BYTES:
            break
        cells.append(cell)
    if not cells:
        return None
    width = min(_COLUMNS, len(cells))
    rows = [cells[start : start + width] for start in range(0, len(cells), width)]
    lines = ["|" + " |" * width, "|" + "---|" * width]
    for row in rows:
        padding = [""] * (width - len(row))
        # the UI renders no HTML, so a caption takes a row of its own
        lines += ["| " + " | ".join([*texts, *padding]) + " |" for texts in zip(*row, strict=True)]
    if len(pictures) > len(cells):
        lines += ["", f"{len(cells)} of {len(pictures)} shown."]
    return "\n".join(lines)


def _thumbnail(uri: str) -> str | None:
    small = thumbnail(uri, longest_px=_THUMBNAIL_PX, form="JPEG", quality=_QUALITY)
    return None if small is None else f"data:image/jpeg;base64,{base64.b64encode(small).decode()}"


def _plain(text: str, limit: int = 60) -> str:
    short = text if len(text) <= limit else text[: limit - 1] + "…"
    for character in "\\`*_{}[]<>|#!":
        short = short.replace(character, f"\\{character}" if character not in "<>" else "")
    return " ".join(short.split())
