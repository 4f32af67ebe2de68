"""The sandbox's pictures: a scene or a sticker, the prompt to read, and a mark that no one can overlook.

Same arguments, same bytes. The scenes themselves are in `scenery`; when a picture is made, and whether it is
kept, is decided in `renderings`.
"""

from __future__ import annotations

import colorsys
import io
import math
import re
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont, ImageOps, UnidentifiedImageError

from segmind_dagster.sandbox.scenery import Colour, draw_scene

if TYPE_CHECKING:
    from collections.abc import Mapping

MARK = "SANDBOX"
_TINY_PX = 64
_TINY_COLOURS = 16
_SHORTEST_PX = 64
_DEFAULT_PX = 1024
_MARK_ALPHA = 96
_PANEL_ALPHA = 200
_MAX_LINES = 4
_LEGIBLE_PX = 13
_ASPECT = re.compile(r"(\d{1,3}):(\d{1,3})")
_INK: Colour = (38, 34, 48)


def picture_size(body: Mapping[str, Any], *, longest_px: int) -> tuple[int, int]:
    """Width and height a body asks for, in pixels, scaled down so that the longer side is `longest_px` at most."""
    sides = [body.get("width") or body.get("img_width"), body.get("height") or body.get("img_height")]
    width, height = (side if isinstance(side, int) and side > 0 else _DEFAULT_PX for side in sides)
    ratio = _ASPECT.fullmatch(str(body.get("aspect_ratio", "")))
    if ratio and int(ratio[1]) and int(ratio[2]):
        width, height = (_DEFAULT_PX * int(part) // max(int(ratio[1]), int(ratio[2])) for part in ratio.groups())
    scale = min(1.0, longest_px / max(width, height))
    return max(_SHORTEST_PX, round(width * scale)), max(_SHORTEST_PX, round(height * scale))


def tiny_picture(seed: int, extension: str) -> bytes:
    """64 x 64 pixels of one of 16 colours, as JPEG or (extension `png`) PNG."""
    return _tiny(seed % _TINY_COLOURS, extension)


@lru_cache(maxsize=2 * _TINY_COLOURS)
def _tiny(shade: int, extension: str) -> bytes:
    colour = tuple(round(255 * part) for part in colorsys.hsv_to_rgb(shade / _TINY_COLOURS, 0.6, 0.9))
    image = Image.new("RGB", (_TINY_PX, _TINY_PX), colour)
    ImageDraw.Draw(image).text((_TINY_PX / 2, _TINY_PX / 2), MARK, font=_font(13), anchor="mm", fill=_INK)
    return _encode(image, "PNG" if extension == "png" else "JPEG")


def draw_picture(
    *,
    slug: str,
    prompt: str,
    seed: int,
    size: tuple[int, int],
    shape: Literal["scene", "sticker"] = "scene",
    inset: bytes | None = None,
) -> bytes:
    """A picture as bytes: a JPEG scene, or a PNG sticker with a transparent background.

    Args:
        slug: the model that would have made it.
        prompt: written on it, and for scenes the choice of subject.
        seed: the choice of everything else.
        size: width and height in pixels.
        shape: what is drawn.
        inset: an input picture to show: pinned onto the scene, or as the sticker's face.
    """
    rng = Random(f"{seed}|{slug}|{prompt}")  # noqa: S311  a palette, not a secret
    photo = _opened(inset)
    if shape == "sticker":
        return _encode(_sticker(rng, size, slug, prompt, photo), "PNG")
    image = draw_scene(rng, size, prompt)
    if photo is not None:
        _pin(rng, image, photo)
    image.paste((255, 255, 255), (0, 0), _mark_mask(size))
    _caption(image, slug, prompt, seed)
    return _encode(image, "JPEG")


def _mark_mask(size: tuple[int, int]) -> Image.Image:
    """The word SANDBOX from corner to corner, as strength per pixel."""
    width, height = size
    font = _font(max(10, int(math.hypot(width, height) / 7)))
    left, top, right, bottom = (int(side) for side in font.getbbox(MARK))
    word = Image.new("L", (right - left + 8, bottom - top + 8))
    ImageDraw.Draw(word).text((4 - left, 4 - top), MARK, font=font, fill=_MARK_ALPHA)
    word = word.rotate(math.degrees(math.atan2(height, width)), Image.Resampling.BICUBIC, expand=True)
    mask = Image.new("L", size)
    mask.paste(word, ((width - word.width) // 2, (height - word.height) // 2))
    return mask


def _caption(image: Image.Image, slug: str, prompt: str, seed: int) -> None:
    width, height = image.size
    margin = max(4, min(width, height) // 32)
    text_px = max(_LEGIBLE_PX, min(width, height) // 26)
    font, small = _font(text_px), _font(max(_LEGIBLE_PX - 2, int(text_px * 0.68)))
    lines = _wrapped(prompt, font, width - 4 * margin)
    line_px = int(text_px * 1.3)
    panel_px = line_px * len(lines) + int(text_px * 1.1) + 2 * margin
    box = (margin, height - margin - panel_px, width - margin, height - margin)
    mask = Image.new("L", image.size)
    ImageDraw.Draw(mask).rounded_rectangle(box, radius=margin, fill=_PANEL_ALPHA)
    image.paste(_INK, (0, 0), mask)
    draw = ImageDraw.Draw(image)
    draw.text((box[0] + margin, box[1] + margin), f"{slug}  ·  seed {seed}", font=small, fill=(255, 214, 140))
    for number, line in enumerate(lines):
        y = box[1] + margin + text_px * 1.1 + number * line_px
        draw.text((box[0] + margin, y), line, font=font, fill=(255, 255, 255))


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width_px: float) -> list[str]:
    lines = [""]
    for word in text.split() or ["(no prompt)"]:
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width_px:
            lines[-1] = longer
        else:
            lines.append(word)
    lines = [line for line in lines if line]
    shown = lines[:_MAX_LINES]
    if len(lines) > _MAX_LINES:
        shown[-1] += " …"
    for number, line in enumerate(shown):
        while len(line) > 1 and font.getlength(line) > width_px:
            line = line[:-2].rstrip() + "…"  # noqa: PLW2901  shortened until it fits
        shown[number] = line
    return shown


def _pin(rng: Random, image: Image.Image, photo: Image.Image) -> None:
    """Lay an input picture onto a scene like a print: white border, slight turn, soft shadow."""
    side = int(min(image.size) * 0.36)
    border = max(3, side // 16)
    print_ = Image.new("RGBA", (side + 2 * border, side + 4 * border), (252, 250, 244, 255))
    print_.paste(ImageOps.fit(photo, (side, side)), (border, border))
    print_ = print_.rotate(rng.uniform(-7, 7), Image.Resampling.BICUBIC, expand=True)
    corner = (int(image.width * 0.05), int(image.height * 0.05))
    shadow = print_.getchannel("A").point(lambda alpha: alpha // 3).filter(ImageFilter.GaussianBlur(border * 0.6))
    image.paste((0, 0, 0), (corner[0] + border // 2, corner[1] + border // 2), shadow)
    image.paste(print_, corner, print_)


def _sticker(rng: Random, size: tuple[int, int], slug: str, prompt: str, photo: Image.Image | None) -> Image.Image:
    """A round character with a white die-cut edge on nothing."""
    side = min(size) * 2
    hue = rng.random()
    skin = _hsv(hue, 0.42, 1.0)
    image = Image.new("RGBA", (side, side))
    draw = ImageDraw.Draw(image)
    middle, radius = side / 2, side * 0.34
    face = (middle - radius, middle - radius, middle + radius, middle + radius)
    _ears(rng, draw, (middle, radius), _hsv(hue, 0.6, 0.86))
    draw.ellipse(face, fill=skin)
    if photo is None:
        _expression(rng, draw, (middle, radius), _hsv(hue - 0.06, 0.6, 0.95))
    else:
        whole = int(radius * 1.84)
        disc = Image.new("L", (whole, whole))
        ImageDraw.Draw(disc).ellipse((0, 0, whole - 1, whole - 1), fill=255)
        offset = int(middle - whole / 2)
        image.paste(ImageOps.fit(photo, (whole, whole)), (offset, offset), disc)
    whole_mark = Image.new("L", image.size)
    head = int(radius * 2.1)
    whole_mark.paste(_mark_mask((head, head)), (int(middle - head / 2), int(middle - head / 2)))
    mark = ImageChops.multiply(whole_mark, image.getchannel("A"))
    image.paste((*_INK, 255), (0, 0), mark)  # white would drown in a pale face
    _ribbon(draw, side, slug, prompt, _hsv(hue + 0.5, 0.55, 0.62))
    edge = image.getchannel("A").resize((side // 4, side // 4)).filter(ImageFilter.GaussianBlur(side / 170))
    edge = edge.point(lambda alpha: min(255, max(0, alpha * 14 - 200))).resize((side, side), Image.Resampling.BICUBIC)
    cut = Image.new("RGBA", image.size)
    cut.paste((255, 255, 255, 255), (0, 0), edge)
    cut.alpha_composite(image)
    cut = cut.resize((side // 2, side // 2), Image.Resampling.LANCZOS)
    sheet = Image.new("RGBA", size)
    sheet.paste(cut, ((size[0] - cut.width) // 2, (size[1] - cut.height) // 2))
    return sheet


def _ears(rng: Random, draw: ImageDraw.ImageDraw, head: tuple[float, float], colour: Colour) -> None:
    middle, radius = head
    style = rng.choice(("round", "pointed", "hat"))
    if style == "hat":
        brim, top = middle - radius * 0.72, middle - radius * 1.34
        draw.rounded_rectangle((middle - radius * 0.55, top, middle + radius * 0.55, brim), radius * 0.16, fill=colour)
        draw.rounded_rectangle(
            (middle - radius * 0.95, brim - radius * 0.1, middle + radius * 0.95, brim + radius * 0.08),
            radius * 0.1,
            fill=colour,
        )
        return
    for way in (-1, 1):
        x, y = middle + way * radius * 0.66, middle - radius * 0.8
        if style == "round":
            draw.ellipse((x - radius * 0.32, y - radius * 0.32, x + radius * 0.32, y + radius * 0.32), fill=colour)
        else:
            tip = (middle + way * radius * 0.88, middle - radius * 1.28)
            draw.polygon(
                [tip, (x - way * radius * 0.42, y - radius * 0.06), (x + way * radius * 0.3, y + radius * 0.45)],
                fill=colour,
            )


def _expression(rng: Random, draw: ImageDraw.ImageDraw, head: tuple[float, float], blush: Colour) -> None:
    middle, radius = head
    smile = rng.uniform(0.3, 0.55) * radius
    for way in (-1, 1):
        x, y, eye = middle + way * radius * 0.36, middle - radius * 0.12, radius * 0.13
        cheek_x, cheek_y = middle + way * radius * 0.56, middle + radius * 0.2
        draw.ellipse((cheek_x - eye * 1.2, cheek_y - eye * 0.8, cheek_x + eye * 1.2, cheek_y + eye * 0.8), fill=blush)
        draw.ellipse((x - eye, y - eye * 1.2, x + eye, y + eye * 1.2), fill=_INK)
        draw.ellipse((x - eye * 0.1, y - eye * 0.8, x + eye * 0.6, y - eye * 0.1), fill=(255, 255, 255))
    box = (middle - smile, middle - radius * 0.1, middle + smile, middle + radius * 0.46)
    draw.chord(box, 15, 165, fill=_INK)


def _ribbon(draw: ImageDraw.ImageDraw, side: int, slug: str, prompt: str, colour: Colour) -> None:
    font, small = _font(max(10, side // 22)), _font(max(9, side // 38))
    lines = _wrapped(prompt, font, side * 0.72)[:2]
    wide = max(small.getlength(slug), *(font.getlength(line) for line in lines)) / 2 + side * 0.04
    line_px = side / 18
    top = side * 0.76
    box = (side / 2 - wide, top, side / 2 + wide, top + line_px * (len(lines) + 1.3))
    draw.rounded_rectangle(box, radius=side // 40, fill=colour)
    for number, line in enumerate(lines):
        draw.text((side / 2, top + line_px * (number + 0.8)), line, font=font, anchor="mm", fill=(255, 255, 255))
    below = (side / 2, top + line_px * (len(lines) + 0.75))
    draw.text(below, slug, font=small, anchor="mm", fill=(255, 236, 200))


def _opened(content: bytes | None) -> Image.Image | None:
    if content is None:
        return None
    try:
        photo = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGBA")
    except (UnidentifiedImageError, OSError, ValueError):
        return None  # an input that is not a picture spoils nothing
    paper = Image.new("RGBA", photo.size, (250, 248, 242, 255))
    paper.alpha_composite(photo)
    return paper.convert("RGB")


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue % 1, saturation, value))
    return red, green, blue


@lru_cache(maxsize=64)
def _font(px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=px)


def _encode(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 88} if kind == "JPEG" else {"compress_level": 4}))
    return buffer.getvalue()
