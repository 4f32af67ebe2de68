"""Pictures decode, have the size asked for, differ by seed, show their inputs, and are marked as simulated."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageDraw, ImageStat

from segmind_dagster.sandbox import pictures
from segmind_dagster.sandbox.pictures import draw_picture, picture_size, tiny_picture

if TYPE_CHECKING:
    from lab.sandbox import Clock, Start

SIZE = (256, 192)


def opened(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def draw(**changed: Any) -> bytes:
    return draw_picture(**{"slug": "fast-flux-schnell", "prompt": "a quiet lake", "seed": 1, "size": SIZE, **changed})


def png(colour: tuple[int, ...], mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (50, 50), colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "prompt",
    ["a boat", "city", "forest", "desert", "mountain", "a vase", "at night", "sunset", "", "x" * 400, "日本 été"],
)
def test_a_scene_is_a_jpeg_of_the_size_asked_for(prompt: str) -> None:
    image = opened(draw(prompt=prompt))
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", SIZE)


def test_the_same_arguments_give_the_same_bytes_and_another_seed_prompt_or_model_another_picture() -> None:
    assert draw() == draw()
    pictures_drawn = {draw(), draw(seed=2), draw(prompt="a loud lake"), draw(slug="flux-dev")}
    assert len(pictures_drawn) == 4


def test_a_scene_is_marked_from_corner_to_corner(monkeypatch: pytest.MonkeyPatch) -> None:
    marked = opened(draw())
    monkeypatch.setattr(pictures, "MARK", " ")
    difference = ImageChops.difference(marked, opened(draw())).convert("L")
    ink = difference.point(lambda value: 255 if value > 12 else 0)
    left, top, right, bottom = ink.getbbox()
    assert right - left > 0.6 * SIZE[0]
    assert bottom - top > 0.5 * SIZE[1]
    assert 0.02 < ImageStat.Stat(ink).mean[0] / 255 < 0.3


def test_the_prompt_is_written_in_full_over_as_many_lines_as_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long = "an old lighthouse keeper reading letters by the window while the storm outside slowly passes"
    written: list[str] = []
    write = ImageDraw.ImageDraw.text

    def noting(drawing: ImageDraw.ImageDraw, place: Any, text: str, **options: Any) -> None:
        written.append(text)
        write(drawing, place, text, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", noting)
    draw(prompt=long, size=(512, 512))
    mark, heading, *lines = written
    assert (mark, heading) == ("SANDBOX", "fast-flux-schnell  ·  seed 1")
    assert " ".join(lines) == long
    assert len(lines) > 1
    written.clear()
    draw(shape="sticker", slug="face-to-sticker")
    assert written == ["SANDBOX", "a quiet lake", "face-to-sticker"]


def test_a_sticker_is_a_transparent_png() -> None:
    image = opened(draw(shape="sticker", slug="face-to-sticker"))
    assert (image.format, image.mode, image.size) == ("PNG", "RGBA", SIZE)
    alpha = image.getchannel("A")
    assert [alpha.getpixel(corner) for corner in ((0, 0), (255, 0), (0, 191), (255, 191))] == [0, 0, 0, 0]
    assert alpha.getpixel((128, 96)) == 255


@pytest.mark.parametrize("shape", ["scene", "sticker"])
def test_an_input_picture_is_visible_in_the_output(shape: str) -> None:
    with_inset = opened(draw(shape=shape, inset=png((255, 0, 255)))).convert("RGB")
    without = opened(draw(shape=shape)).convert("RGB")

    def magenta(image: Image.Image) -> int:
        return sum(n for n, (red, green, blue) in image.getcolors(2**24) if red > 200 and green < 110 and blue > 200)

    assert magenta(with_inset) > magenta(without) + 1000


def test_a_transparent_input_gets_a_background_and_an_unreadable_one_is_left_out() -> None:
    assert opened(draw(inset=png((0, 0, 0, 0), "RGBA"))).getpixel((60, 40)) > (200, 200, 200)
    assert draw(inset=b"not a picture") == draw()


@pytest.mark.parametrize(
    ("body", "size"),
    [
        ({}, (768, 768)),
        ({"aspect_ratio": "16:9"}, (768, 432)),
        ({"aspect_ratio": "9:16"}, (432, 768)),
        ({"aspect_ratio": "0:1"}, (768, 768)),
        ({"width": 512, "height": 256}, (512, 256)),
        ({"img_width": 2048, "img_height": 1024}, (768, 384)),
        ({"width": "wide", "height": -1}, (768, 768)),
    ],
)
def test_the_size_follows_the_body_up_to_the_longest_side_allowed(body: Any, size: tuple[int, int]) -> None:
    assert picture_size(body, longest_px=768) == size


@given(width=st.integers(1, 9000), height=st.integers(1, 9000), longest=st.integers(64, 2048))
def test_no_side_is_ever_longer_than_allowed_or_too_short_to_see(width: int, height: int, longest: int) -> None:
    size = picture_size({"width": width, "height": height}, longest_px=longest)
    assert all(64 <= side <= longest for side in size)


@pytest.mark.parametrize(("extension", "kind"), [("jpeg", "JPEG"), ("png", "PNG")])
def test_tiny_pictures_have_sixteen_colours(extension: str, kind: Any) -> None:
    contents = [tiny_picture(seed, extension) for seed in range(32)]
    assert {opened(content).format for content in contents} == {kind}
    assert {opened(content).size for content in contents} == {(64, 64)}
    assert len(set(contents)) == 16
    assert contents[:16] == contents[16:]


def test_a_drawn_picture_of_a_job_is_the_same_whenever_it_is_fetched(start: Start, clock: Clock) -> None:
    client = start(picture_mode="drawn", max_picture_px=128)
    first, second = (client.submit({"prompt": "a lake", "seed": seed}) for seed in (1, 2))
    clock.advance(10)
    assert client.output(first) == client.output(first) != client.output(second)
    assert opened(client.output(first)).size == (128, 128)
