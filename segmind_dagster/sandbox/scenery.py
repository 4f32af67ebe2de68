"""Landscapes to look at while nothing is being paid for: sky, light, and what stands in front of it.

Pure drawing from a seeded generator. What is written on a picture, its size and its format are in `pictures`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFilter

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

Colour = tuple[int, int, int]
_SMOOTHING = 2  # drawn this many times too large, then scaled down: smooth edges


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours that go together: the sky from top to horizon, the light, and land from far to near."""

    zenith: Colour
    horizon: Colour
    light: Colour
    far: Colour
    near: Colour
    is_night: bool = False


_PALETTES = (
    Palette((255, 126, 95), (254, 214, 160), (255, 246, 213), (214, 120, 116), (74, 36, 72)),  # sunset
    Palette((84, 58, 122), (248, 158, 135), (255, 224, 180), (150, 92, 132), (40, 26, 66)),  # dusk
    Palette((88, 164, 224), (222, 240, 247), (255, 253, 232), (140, 184, 196), (38, 92, 88)),  # noon
    Palette((14, 20, 52), (66, 78, 138), (240, 240, 220), (50, 62, 112), (10, 16, 36), is_night=True),
    Palette((246, 196, 168), (255, 238, 214), (255, 255, 244), (226, 160, 126), (124, 62, 44)),  # autumn
    Palette((126, 206, 190), (232, 247, 222), (255, 255, 236), (128, 190, 164), (24, 84, 92)),  # mint
    Palette((160, 152, 220), (250, 212, 226), (255, 246, 240), (178, 146, 204), (72, 50, 112)),  # lavender
    Palette((22, 44, 66), (42, 128, 132), (224, 255, 238), (34, 92, 104), (8, 28, 40), is_night=True),  # aurora
)

_WORDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "sea",
        ("sea", "ocean", "water", "lake", "boat", "ship", "beach", "rain", "fish", "harbour", "harbor", "river"),
    ),
    ("city", ("city", "street", "neon", "robot", "cyber", "tower", "bicycle", "car", "cafe", "shop", "train")),
    ("forest", ("forest", "tree", "wood", "fox", "bear", "cabin", "pine", "winter", "snow", "garden")),
    ("dunes", ("desert", "dune", "sand", "camel", "mars", "planet", "pyramid")),
    ("hills", ("mountain", "hill", "castle", "valley", "field", "dragon", "village", "landscape")),
    ("still", ("still", "bowl", "vase", "cup", "fruit", "pear", "lemon", "product", "bottle", "chair", "abstract")),
)
_NIGHT_WORDS = frozenset({"night", "moon", "moonlit", "star", "midnight", "aurora", "neon", "space"})
_EVENING_WORDS = frozenset({"sunset", "dusk", "evening", "sunrise", "dawn"})


def draw_scene(rng: Random, size: tuple[int, int], prompt: str) -> Image.Image:
    """A picture of that size; the words of the prompt choose the subject, the generator all else."""
    width, height = (side * _SMOOTHING for side in size)
    words = _words_of(prompt)
    palette = rng.choice(_palettes_of(words))
    subject = _subject_of(words) or rng.choice(tuple(_SUBJECTS))
    image = _sky(rng, (width, height), palette)
    _SUBJECTS[subject](rng, image, palette)
    return image.resize(size, Image.Resampling.BOX)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """The colour that share of the way from the first to the second."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def gradient(size: tuple[int, int], top: Colour, bottom: Colour) -> Image.Image:
    """A vertical blend."""
    column = Image.new("RGB", (1, 64))
    column.putdata([mix(top, bottom, (row / 63) ** 1.2) for row in range(64)])
    return column.resize(size, Image.Resampling.BICUBIC)


def _words_of(prompt: str) -> list[str]:
    words = (word.strip(".,:;!?'\"()") for word in prompt.lower().split())
    return [form for word in words for form in (word, word.removesuffix("s"))]


def _subject_of(words: list[str]) -> str | None:
    """What the first telling word is about; None when no word tells."""
    return next((subject for word in words for subject, known in _WORDS if word in known), None)


def _palettes_of(words: list[str]) -> tuple[Palette, ...]:
    if _NIGHT_WORDS.intersection(words):
        return tuple(palette for palette in _PALETTES if palette.is_night)
    return _PALETTES[:2] if _EVENING_WORDS.intersection(words) else _PALETTES


def _sky(rng: Random, size: tuple[int, int], palette: Palette) -> Image.Image:
    width, height = size
    image = gradient(size, palette.zenith, palette.horizon)
    draw = ImageDraw.Draw(image)
    if palette.is_night:
        for _ in range(140):
            x, y, r = (
                rng.random() * width,
                rng.random() ** 1.5 * height * 0.7,
                rng.choice((1, 1, 1.5, 2.5)) * width / 900,
            )
            draw.ellipse((x - r, y - r, x + r, y + r), fill=mix(palette.zenith, (255, 255, 255), rng.uniform(0.4, 1)))
    radius = min(size) * rng.uniform(0.07, 0.13)
    x, y = width * rng.uniform(0.18, 0.82), height * rng.uniform(0.16, 0.42)
    _glow(image, (x, y), radius * 4.2, palette.light)
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=palette.light)
    if palette.is_night:  # a moon is seldom full
        shift = radius * rng.uniform(0.35, 0.6)
        shade = mix(image.getpixel((2, int(y))), palette.light, 0.12)  # type: ignore[arg-type]  # RGB gives three
        draw.ellipse(
            (x - radius + shift, y - radius - shift / 3, x + radius + shift, y + radius - shift / 3), fill=shade
        )
    else:
        _clouds(rng, image, palette)
    return image


def _glow(image: Image.Image, centre: tuple[float, float], radius: float, colour: Colour) -> None:
    side = int(radius * 2)
    strength = Image.radial_gradient("L").point(lambda value: int(max(0, 180 - value) ** 2 / 210))
    corner = (int(centre[0] - radius), int(centre[1] - radius))
    image.paste(Image.new("RGB", (side, side), colour), corner, strength.resize((side, side)))


def _clouds(rng: Random, image: Image.Image, palette: Palette) -> None:
    width, height = image.size
    small = (width // 8, height // 8)
    mask = Image.new("L", small)
    draw = ImageDraw.Draw(mask)
    for _ in range(rng.randint(2, 5)):
        x, y = rng.random() * small[0], small[1] * rng.uniform(0.05, 0.4)
        for _ in range(7):
            length, thick = small[0] * rng.uniform(0.06, 0.2), small[1] * rng.uniform(0.012, 0.03)
            x0, y0 = x + rng.gauss(0, small[0] * 0.07), y + rng.gauss(0, small[1] * 0.014)
            draw.ellipse((x0 - length, y0 - thick, x0 + length, y0 + thick), fill=rng.randint(70, 150))
    mask = mask.filter(ImageFilter.GaussianBlur(small[0] / 110)).resize(image.size, Image.Resampling.BICUBIC)
    image.paste(Image.new("RGB", image.size, mix(palette.horizon, (255, 255, 255), 0.65)), (0, 0), mask)


def _ridge(rng: Random, width: int, base: float, swing: float, roughness: int) -> list[tuple[float, float]]:
    waves = [(rng.uniform(0.6, 1.4) * (1.9**octave), rng.random() * math.tau) for octave in range(roughness)]
    step = max(4, width // 240)
    return [
        (
            x,
            base
            + swing
            * sum(
                math.sin(math.tau * pace * x / width + phase) / 1.8**octave
                for octave, (pace, phase) in enumerate(waves)
            ),
        )
        for x in range(0, width + step, step)
    ]


def _fill_below(draw: ImageDraw.ImageDraw, ridge: list[tuple[float, float]], height: int, colour: Colour) -> None:
    draw.polygon([(ridge[0][0], height), *ridge, (ridge[-1][0], height)], fill=colour)


def _hills(rng: Random, image: Image.Image, palette: Palette) -> None:
    width, height = image.size
    draw = ImageDraw.Draw(image)
    layers = rng.randint(4, 6)
    for layer in range(layers):
        share = layer / (layers - 1)
        base = height * (0.48 + 0.4 * share)
        ridge = _ridge(rng, width, base, height * (0.075 - 0.035 * share), 5 if share < 0.5 else 3)  # noqa: PLR2004
        _fill_below(draw, ridge, height, mix(mix(palette.far, palette.horizon, 0.45), palette.near, share**1.2))
    for _ in range(rng.randint(2, 6)):
        x, y, span = (
            width * rng.uniform(0.1, 0.9),
            height * rng.uniform(0.1, 0.35),
            width * rng.uniform(0.008, 0.016),
        )
        for side in (-1, 1):
            box = sorted((x, x + side * 2 * span))
            draw.arc((box[0], y - span, box[1], y + span), 200, 340, fill=palette.near, width=max(2, width // 420))


def _forest(rng: Random, image: Image.Image, palette: Palette) -> None:
    width, height = image.size
    draw = ImageDraw.Draw(image)
    _fill_below(
        draw, _ridge(rng, width, height * 0.5, height * 0.08, 5), height, mix(palette.far, palette.horizon, 0.5)
    )
    for layer in range(4):
        share = layer / 3
        colour = mix(palette.far, palette.near, 0.15 + 0.85 * share)
        ridge = _ridge(rng, width, height * (0.6 + 0.28 * share), height * 0.03, 3)
        _fill_below(draw, ridge, height, colour)
        for x, y in ridge[:: 5 + 2 * layer]:
            tall = height * (0.06 + 0.12 * share) * rng.uniform(0.6, 1.3)
            for tier in range(3):
                half, top = tall * (0.12 + 0.07 * tier), y - tall * (1 - 0.25 * tier)
                draw.polygon([(x, top), (x - half, top + tall * 0.42), (x + half, top + tall * 0.42)], fill=colour)


def _sea(rng: Random, image: Image.Image, palette: Palette) -> None:
    width, height = image.size
    line = int(height * rng.uniform(0.54, 0.62))
    draw = ImageDraw.Draw(image)
    ridge = _ridge(rng, width, line - height * 0.03, height * 0.03, 4)
    _fill_below(draw, ridge, line, mix(palette.far, palette.horizon, 0.4))
    water = gradient((width, height - line), mix(palette.horizon, palette.far, 0.35), palette.near)
    image.paste(water, (0, line))
    for _ in range(170):
        depth = rng.random() ** 1.6
        y, x = line + depth * (height - line), width * rng.random()
        length, thick = (
            width * (0.01 + 0.05 * depth) * rng.uniform(0.5, 1.5),
            max(1.0, height * 0.0035 * (0.3 + depth)),
        )
        draw.ellipse((x, y, x + length, y + thick), fill=mix(palette.near, palette.light, 0.6 - 0.45 * depth))
    _boat(draw, width * rng.uniform(0.2, 0.75), line + height * 0.1, height * rng.uniform(0.14, 0.2), palette)


def _boat(draw: ImageDraw.ImageDraw, x: float, y: float, tall: float, palette: Palette) -> None:
    hull = mix(palette.near, (0, 0, 0), 0.25)
    draw.polygon(
        [
            (x - tall * 0.42, y - tall * 0.12),
            (x + tall * 0.46, y - tall * 0.12),
            (x + tall * 0.3, y),
            (x - tall * 0.3, y),
        ],
        fill=hull,
    )
    draw.polygon([(x, y - tall), (x, y - tall * 0.18), (x + tall * 0.4, y - tall * 0.18)], fill=(252, 248, 238))
    draw.polygon(
        [
            (x - tall * 0.04, y - tall * 0.86),
            (x - tall * 0.04, y - tall * 0.18),
            (x - tall * 0.32, y - tall * 0.18),
        ],
        fill=mix(palette.zenith, (255, 255, 255), 0.55),
    )


def _city(rng: Random, image: Image.Image, palette: Palette) -> None:
    width, height = image.size
    draw = ImageDraw.Draw(image)
    lamp = mix(palette.light, (255, 214, 120), 0.6)
    for layer in range(3):
        share = layer / 2
        colour = mix(mix(palette.far, palette.horizon, 0.35), palette.near, share)
        x = -width * 0.03
        while x < width:
            wide, tall = width * rng.uniform(0.05, 0.12), height * rng.uniform(0.16, 0.46 - 0.1 * share)
            top = height * (0.74 + 0.12 * share) - tall
            draw.rectangle((x, top, x + wide, height), fill=colour)
            if rng.random() < 0.3:  # noqa: PLR2004  now and then a spire
                draw.polygon(
                    [(x + wide * 0.35, top), (x + wide / 2, top - tall * 0.25), (x + wide * 0.65, top)], fill=colour
                )
            pane = width * 0.012
            for row in range(int((height - top) / (pane * 2.2))):
                for column in range(int((wide - pane) / (pane * 1.8))):
                    if rng.random() < 0.1 + 0.3 * share:
                        x0, y0 = x + pane * (0.8 + 1.8 * column), top + pane * (1 + 2.2 * row)
                        draw.rectangle(
                            (x0, y0, x0 + pane * 0.8, y0 + pane * 1.1), fill=mix(colour, lamp, 0.35 + 0.6 * share)
                        )
            x += wide * rng.uniform(0.95, 1.25)


def _dunes(rng: Random, image: Image.Image, palette: Palette) -> None:
    width, height = image.size
    sand, shade = mix(palette.light, (236, 178, 112), 0.75), mix(palette.near, (150, 82, 52), 0.55)
    for layer in range(4):
        share = layer / 3
        ridge = _ridge(rng, width, height * (0.56 + 0.3 * share), height * (0.05 - 0.02 * share), 2)
        top = min(y for _, y in ridge)
        mask = Image.new("L", image.size)
        _fill_below(ImageDraw.Draw(mask), ridge, height, 255)  # type: ignore[arg-type]  # one channel
        light = mix(mix(sand, palette.horizon, 0.5 - 0.5 * share), shade, 0.15 * share)
        slope = gradient((width, height), light, mix(light, shade, 0.75))
        shifted = Image.new("RGB", image.size, light)
        shifted.paste(slope.resize((width, max(1, int((height - top) * 1.1)))), (0, int(top)))
        image.paste(shifted, (0, 0), mask)


def _still(rng: Random, image: Image.Image, palette: Palette) -> None:
    width, height = image.size
    short = min(width, height)
    draw = ImageDraw.Draw(image)
    table = int(height * 0.66)
    image.paste(gradient((width, height - table), mix(palette.far, palette.light, 0.35), palette.near), (0, table))
    tones = (
        palette.near,
        mix(palette.far, (255, 120, 70), 0.5),
        mix(palette.light, (255, 196, 60), 0.5),
        palette.far,
    )
    for index in range(rng.randint(4, 6)):
        radius = short * rng.uniform(0.07, 0.15)
        x, y = width * rng.uniform(0.15, 0.85), table + short * rng.uniform(0.02, 0.1)
        colour = tones[index % len(tones)]
        draw.ellipse(
            (x - radius, y - radius * 0.2, x + radius * 1.5, y + radius * 0.22),
            fill=mix(palette.near, (0, 0, 0), 0.3),
        )
        if rng.random() < 0.4:  # noqa: PLR2004  some vases among the fruit
            neck = radius * 0.3
            draw.rectangle((x - neck, y - radius * 2.7, x + neck, y - radius), fill=colour)
            draw.ellipse(
                (x - neck * 1.5, y - radius * 2.85, x + neck * 1.5, y - radius * 2.6),
                fill=mix(colour, (0, 0, 0), 0.25),
            )
        draw.ellipse((x - radius, y - radius * 2, x + radius, y), fill=colour)
        shine = radius * 0.45
        _glow(image, (x - radius * 0.35, y - radius * 1.35), shine, mix(colour, (255, 255, 255), 0.8))


_SUBJECTS: dict[str, Callable[[Random, Image.Image, Palette], None]] = {
    "hills": _hills,
    "forest": _forest,
    "sea": _sea,
    "city": _city,
    "dunes": _dunes,
    "still": _still,
}
