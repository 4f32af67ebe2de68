"""The XY contact sheet: a gallery's first layout drawn as one picture, with its axes labelled.

Bounded in pixels whatever a set holds; what does not fit is counted in the last line.
"""

from __future__ import annotations

import io
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from segmind_dagster.reports.gallery.axes import Axis, find_axes, first_layout
from segmind_dagster.reports.gallery.lettering import fitting, font_for, write
from segmind_dagster.reports.gallery.page import STATUSES
from segmind_dagster.reports.gallery.previews import preview_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

    from segmind_dagster.reports.gallery.cards import Card

MAX_PIXELS = 16_000_000
_SIDES_PX = (208, 144, 96)  # of a cell; the largest with which everything fits
_GAP_PX = 8
_MOST_ACROSS = 3  # cards side by side in a cell
_ROW_LABEL_PX, _COLUMN_LABEL_PX, _CAPTION_PX, _TITLE_PX, _FOOT_PX = 224, 40, 20, 44, 32
_WALL_PX = 1900
_FIGURES = "0123456789"
_INK, _MUTED, _PAPER, _EMPTY, _FAILED = "#1c1b1a", "#6b6863", "#ffffff", "#f1efec", "#fbe4e0"


@dataclass(frozen=True, slots=True)
class _Table:
    """What is drawn: cards by row and column, with labels; a wall has captions instead."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: Mapping[tuple[int, int], Sequence[Card]]
    is_wall: bool = False

    @property
    def caption_px(self) -> int:
        return _CAPTION_PX if self.is_wall else 0

    @property
    def left_px(self) -> int:
        return 0 if self.is_wall else _ROW_LABEL_PX

    @property
    def top_px(self) -> int:
        return _TITLE_PX + (0 if self.is_wall else _COLUMN_LABEL_PX)


def draw_sheet(cards: Sequence[Card], previews: Mapping[str, bytes], *, title: str) -> bytes | None:
    """A JPEG with everything a set asks for now, from previews by file name; None when it has no picture."""
    current = [card for card in cards if card.is_current and card.kind == "image"]
    if not any(preview_name(card) in previews for card in current):
        return None
    side = rows = 0
    table = _table(current, _SIDES_PX[0])
    for side in _SIDES_PX:
        table = _table(current, side)
        rows = _rows_that_fit(table, side)
        if rows >= len(table.rows):
            break
    return _draw(table, previews, side=side, rows=rows, title=title)


def _table(cards: Sequence[Card], side: int) -> _Table:
    axes = {axis.name: axis for axis in find_axes(cards)}
    layout = first_layout(list(axes.values()))
    cells: defaultdict[tuple[int, int], list[Card]] = defaultdict(list)
    if layout.columns is None:
        width = min(_WALL_PX // (side + _GAP_PX), math.ceil(math.sqrt(len(cards))))
        for number, card in enumerate(cards):
            cells[divmod(number, width)].append(card)
        return _Table(("",) * math.ceil(len(cards) / width), ("",) * width, cells, is_wall=True)
    across, down = axes[layout.columns], axes.get(layout.rows or "")
    for number, card in enumerate(cards):
        cells[_position(down, number), _position(across, number)].append(card)
    return _Table(_labels(down), _labels(across), cells)


def _position(axis: Axis | None, number: int) -> int:
    if axis is None:
        return 0
    position = axis.positions[number]
    return len(axis.values) if position is None else position


def _labels(axis: Axis | None) -> tuple[str, ...]:
    if axis is None:
        return ("",)
    values = tuple(value if axis.label in {"Prompt", "Model"} else f"{axis.label}: {value}" for value in axis.values)
    return (*values, f"no {axis.label}") if None in axis.positions else values


def _rows_that_fit(table: _Table, side: int) -> int:
    width = _width(table, side)
    most_high = MAX_PIXELS // width - table.top_px - _FOOT_PX
    return min(len(table.rows), max(1, most_high // (side + _GAP_PX + table.caption_px)))


def _width(table: _Table, side: int) -> int:
    return max(420, _GAP_PX + table.left_px + len(table.columns) * (side + _GAP_PX))


def _draw(table: _Table, previews: Mapping[str, bytes], *, side: int, rows: int, title: str) -> bytes:
    from PIL import Image, ImageDraw

    step_down = side + _GAP_PX + table.caption_px
    size = (_width(table, side), table.top_px + rows * step_down + _FOOT_PX)
    sheet = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((_GAP_PX, 10), fitting(title, size[0] - 2 * _GAP_PX, 22), font=font_for(title, 22), fill=_INK)
    for column, label in enumerate(table.columns):
        if label:
            left = _GAP_PX + table.left_px + column * (side + _GAP_PX)
            write(pen, label, (left, _TITLE_PX), width=side, lines=2, colour=_INK)
    drawn = 0
    for row in range(rows):
        top = table.top_px + row * step_down
        if table.rows[row]:
            write(
                pen,
                table.rows[row],
                (_GAP_PX, top),
                width=table.left_px - _GAP_PX,
                lines=max(1, side // 18),
                colour=_INK,
            )
        for column in range(len(table.columns)):
            left = _GAP_PX + table.left_px + column * (side + _GAP_PX)
            found = table.cells.get((row, column), ())
            drawn += min(len(found), _MOST_ACROSS**2)
            if found or not table.is_wall:
                _draw_cell(sheet, pen, (left, top), side, found, previews)
            if table.is_wall and found:
                write(pen, found[0].prompt, (left, top + side + 2), width=side, lines=1, colour=_MUTED)
    total = sum(map(len, table.cells.values()))
    foot = f"{drawn} generations" if drawn == total else f"{drawn} of {total} generations shown"
    pen.text((_GAP_PX, size[1] - _FOOT_PX + 8), foot, font=font_for(_FIGURES, 13), fill=_MUTED)
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=82, optimize=True)
    return buffer.getvalue()


def _draw_cell(
    sheet: Image,
    pen: ImageDraw,
    corner: tuple[int, int],
    side: int,
    cards: Sequence[Card],
    previews: Mapping[str, bytes],
) -> None:
    """The cards of a cell, smaller the more they are; what does not fit is counted."""
    left, top = corner
    if not cards:
        pen.rectangle((left, top, left + side - 1, top + side - 1), outline=_EMPTY)
        return
    across = min(_MOST_ACROSS, math.ceil(math.sqrt(len(cards))))
    part = side // across
    for number, card in enumerate(cards[: across * across]):
        down, right = divmod(number, across)
        _draw_card(sheet, pen, (left + right * part, top + down * part), part - (across > 1), card, previews)
    if len(cards) > across * across:
        more = f"+{len(cards) - across * across}"
        wide = int(pen.textlength(more, font=font_for(_FIGURES, 13))) + 10
        pen.rectangle((left + side - wide, top + side - 20, left + side - 1, top + side - 1), fill=_PAPER)
        pen.text((left + side - wide + 5, top + side - 18), more, font=font_for(_FIGURES, 13), fill=_INK)


def _draw_card(
    sheet: Image, pen: ImageDraw, corner: tuple[int, int], side: int, card: Card, previews: Mapping[str, bytes]
) -> None:
    """A picture; without one, why."""
    left, top = corner
    preview = previews.get(preview_name(card) or "")
    is_failed = preview is None and card.status == "failed"
    pen.rectangle((left, top, left + side - 1, top + side - 1), fill=_FAILED if is_failed else _EMPTY)
    if preview is not None:
        picture = _opened(preview, side)
        sheet.paste(picture, (left + (side - picture.width) // 2, top + (side - picture.height) // 2))
    else:
        said = "cannot be read" if card.is_stored else card.failure_kind or STATUSES[card.status]
        write(
            pen,
            said.replace("_", " "),
            (left + 6, top + 6),
            width=side - 12,
            lines=max(1, side // 24),
            colour=_INK,
        )


def _opened(preview: bytes, side: int) -> Image:
    from PIL import Image as Pictures

    with Pictures.open(io.BytesIO(preview)) as picture:
        picture.thumbnail((side, side))
        flat = Pictures.new("RGB", picture.size, _PAPER)
        clear = picture.convert("RGBA")
        flat.paste(clear, mask=clear.getchannel("A"))
        return flat
