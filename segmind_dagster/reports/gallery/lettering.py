"""Words on contact sheets: a font that has their letters, lines that fit. Where they stand is `sheet`'s business."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

# looked for among the system's when Pillow's own, with which sheets look the same on every machine, lacks a letter
_ELSEWHERE = (
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "wqy-zenhei.ttc", "NotoSansArabic-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf", "Arial Unicode.ttf", "PingFang.ttc", "msyh.ttc", "malgun.ttf", "arial.ttf",
)  # fmt: skip
_NO_FONT = "(letters that no font here has)"
# the last code point there is, which stands for nothing: what a font draws of it, it draws of every letter it lacks
_NOTHING = "\U0010ffff"
_LINE_PX, _LETTER_PX = 18, 14


def write(pen: ImageDraw, text: str, corner: tuple[int, int], *, width: int, lines: int, colour: str) -> None:
    """Text in lines no wider than a width; what is too much ends in an ellipsis."""
    left, top = corner
    font = font_for(text[:1000], _LETTER_PX)
    words = legible(text[:1000]).split()
    for number in range(lines):
        if not words:
            return
        line = words.pop(0)
        while words and pen.textlength(f"{line} {words[0]}", font=font) <= width:
            line = f"{line} {words.pop(0)}"
        if words and number == lines - 1:
            line = f"{line} {' '.join(words)}"
        pen.text((left, top + number * _LINE_PX), _cut(line, width, font), font=font, fill=colour)


def fitting(text: str, width: int, size: int) -> str:
    """As much of a text as fits on one line, in letters that can be drawn."""
    return _cut(legible(text[:300]), width, font_for(text[:300], size))


def legible(text: str) -> str:
    """A text without what its font cannot draw; words to that effect when nothing would be left."""
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    name = _name_for(text)
    kept = "".join(letter if _has(name, letter) else "…" for letter in text)
    return re.sub("…+", "…", kept) if kept.strip("… ") or not text.strip() else _NO_FONT


def font_for(text: str, size: int) -> FreeTypeFont | ImageFont:
    """The first font that has every letter of a text, or else the one that has most of them."""
    return _font(_name_for(text), size)


def _cut(text: str, width: int, font: FreeTypeFont | ImageFont) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"


def _name_for(text: str) -> str | None:
    letters = {letter for letter in text if letter.isprintable()}
    lacking: dict[str | None, int] = {name: sum(not _has(name, letter) for letter in letters) for name in (None,)}
    for name in _names() if lacking[None] else ():
        lacking[name] = sum(not _has(name, letter) for letter in letters)
    return min(lacking, key=lambda name: lacking[name])


@cache
def _names() -> tuple[str, ...]:
    """The fonts of `_ELSEWHERE` that there are."""
    found = []
    for name in _ELSEWHERE:
        try:
            _font(name, _LETTER_PX)
        except OSError:
            continue
        found.append(name)
    return tuple(found)


@cache
def _has(name: str | None, letter: str) -> bool:
    if letter == " ":
        return True
    font = _font(name, _LETTER_PX)
    drawn, nothing = font.getmask(letter), font.getmask(_NOTHING)
    return drawn.size != nothing.size or bytes(drawn) != bytes(nothing)


@cache
def _font(name: str | None, size: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont as Fonts

    return Fonts.load_default(size) if name is None else Fonts.truetype(name, size)
