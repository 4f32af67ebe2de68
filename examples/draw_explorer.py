"""Draws `prompts/pictures/explorer.png`, the face that the bundled portraits start from.

A cartoon explorer of plain shapes, so that no photograph of a person is needed to try the models that take one.
Run it with `python examples/draw_explorer.py`; it writes the same picture every time.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

PICTURE = Path(__file__).resolve().parent.parent / "prompts" / "pictures" / "explorer.png"
SIZE = 512
# drawn larger and scaled down, which smooths the edges
SCALE = 4

SKY = "#8fd0dc"
SUN = "#ffe6a3"
HILL, FAR_HILL = "#6fa86b", "#93c28a"
SKIN, BLUSH, SHADE = "#f2bf93", "#ee9c80", "#dda273"
HAIR, HAIR_LIGHT = "#6b3a22", "#86502f"
HAT, BRIM, BAND = "#d9b77c", "#c39b5e", "#8c4a32"
SCARF, SCARF_DARK = "#e2574c", "#bf3f38"
JACKET, JACKET_DARK = "#4f6f52", "#3d5840"
INK, WHITE, IRIS = "#3a2a20", "#fffaf2", "#3f7d74"


class Canvas:
    """Shapes in the picture's own coordinates, 0 to `SIZE`."""

    def __init__(self) -> None:
        self.image = Image.new("RGB", (SIZE * SCALE, SIZE * SCALE), SKY)
        self._draw = ImageDraw.Draw(self.image)

    def oval(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """An ellipse around a centre."""
        self._draw.ellipse([v * SCALE for v in (x - width, y - height, x + width, y + height)], fill=colour)

    def shape(self, colour: str, *points: tuple[float, float]) -> None:
        """A filled polygon."""
        self._draw.polygon([(x * SCALE, y * SCALE) for x, y in points], fill=colour)

    def box(self, left: float, top: float, right: float, bottom: float, colour: str, *, radius: float) -> None:
        """A rectangle with round corners."""
        self._draw.rounded_rectangle([v * SCALE for v in (left, top, right, bottom)], radius * SCALE, fill=colour)

    def arc(self, box: tuple[float, float, float, float], start: int, end: int, colour: str, width: float) -> None:
        """A piece of an ellipse's outline with round ends, in degrees clockwise from the right."""
        left, top, right, bottom = (v * SCALE for v in box)
        self._draw.arc([left, top, right, bottom], start, end, fill=colour, width=round(width * SCALE))

    def half(self, box: tuple[float, float, float, float], colour: str, start: int = 0, end: int = 180) -> None:
        """A piece of an ellipse cut by a straight chord."""
        self._draw.chord([v * SCALE for v in box], start, end, fill=colour)


def background(canvas: Canvas) -> None:
    """Sky, sun and hills."""
    canvas.oval(412, 104, 62, 62, SUN)
    for x, y, size in ((86, 92, 26), (116, 82, 34), (150, 94, 26)):
        canvas.oval(x, y, size * 1.25, size, WHITE)
    canvas.oval(60, 540, 300, 190, FAR_HILL)
    canvas.oval(470, 560, 290, 190, HILL)


def shoulders(canvas: Canvas) -> None:
    """Jacket, neck and scarf."""
    canvas.box(104, 424, 408, 640, JACKET, radius=84)
    canvas.shape(JACKET_DARK, (214, 424), (256, 512), (298, 424))
    canvas.box(216, 380, 296, 450, SHADE, radius=30)
    canvas.shape(SCARF_DARK, (276, 446), (338, 512), (292, 530), (256, 462))
    canvas.shape(SCARF, (262, 446), (290, 520), (240, 530), (236, 452))
    canvas.box(178, 408, 334, 456, SCARF, radius=24)
    canvas.arc((150, 352, 362, 450), 50, 130, SCARF_DARK, 4)


def head(canvas: Canvas) -> None:
    """Hair, ears and face."""
    canvas.oval(256, 276, 132, 134, HAIR)
    for x, y in ((136, 356), (376, 356), (150, 396), (362, 396)):
        canvas.oval(x, y, 30, 36, HAIR)
    for side in (-1, 1):
        canvas.oval(256 + side * 116, 312, 22, 28, SKIN)
        canvas.oval(256 + side * 118, 314, 10, 15, SHADE)
    canvas.oval(256, 304, 112, 118, SKIN)
    # fringe, in three locks
    canvas.oval(206, 206, 66, 40, HAIR)
    canvas.oval(312, 204, 62, 38, HAIR)
    canvas.oval(262, 214, 40, 32, HAIR_LIGHT)


def face(canvas: Canvas) -> None:
    """Eyes, brows, nose, cheeks and a smile."""
    for side in (-1, 1):
        x = 256 + side * 46
        canvas.oval(x, 296, 25, 28, WHITE)
        canvas.oval(x + 2, 299, 17, 20, IRIS)
        canvas.oval(x + 2, 300, 10, 13, INK)
        canvas.oval(x + 8, 291, 6, 7, WHITE)
        canvas.oval(x - 3, 308, 3, 3, WHITE)
        canvas.arc((x - 27, 264, x + 27, 324), 200, 340, INK, 5)
        canvas.arc((x - 26, 240, x + 26, 280), 205, 335, HAIR, 7)
        canvas.oval(256 + side * 76, 346, 24, 16, BLUSH)
        for dx, dy in ((-10, -4), (2, 4), (11, -5)):
            canvas.oval(256 + side * 72 + dx, 340 + dy, 2.2, 2.2, SHADE)
    canvas.oval(256, 334, 13, 10, SHADE)
    canvas.oval(254, 331, 10, 7, SKIN)
    canvas.half((210, 330, 302, 404), INK)
    canvas.half((218, 352, 294, 382), WHITE)
    canvas.oval(256, 393, 20, 8, SCARF)


def hat(canvas: Canvas) -> None:
    """A pith helmet's cousin, with goggles on the band."""
    canvas.half((150, 62, 362, 306), HAT, 180, 360)
    canvas.box(150, 158, 362, 190, BAND, radius=8)
    canvas.oval(256, 194, 176, 28, BRIM)
    canvas.oval(256, 187, 172, 22, HAT)
    canvas.oval(256, 66, 16, 12, BRIM)
    canvas.arc((186, 84, 326, 280), 200, 262, BRIM, 4)
    for side in (-1, 1):
        x = 256 + side * 40
        canvas.oval(x, 160, 38, 32, BAND)
        canvas.oval(x, 160, 29, 23, IRIS)
        canvas.oval(x, 160, 26, 20, SKY)
        canvas.shape(WHITE, (x - 14, 166), (x - 2, 146), (x + 5, 146), (x - 7, 168))


def draw() -> Image.Image:
    """The finished picture."""
    canvas = Canvas()
    for part in (background, shoulders, head, face, hat):
        part(canvas)
    return canvas.image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    draw().quantize(128, dither=Image.Dither.NONE).save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1000:.0f} kB")
