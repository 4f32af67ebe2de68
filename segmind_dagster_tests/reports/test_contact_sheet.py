"""A contact sheet is small, safe Markdown whatever the pictures and prompts are; it never stands in a run's way."""

from __future__ import annotations

import base64
import io
import random
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from segmind_dagster.reports.contact_sheet import Picture, contact_sheet

if TYPE_CHECKING:
    from pathlib import Path

DATA_URI = re.compile(r"(?<!\\)!\[\]\(data:image/jpeg;base64,([A-Za-z0-9+/]+=*)\)")
HOSTILE = (
    "a | b `c` <script>alert(1)</script> ! [x](javascript:alert(1)) ![y](http://evil) \\ # *b* _i_ {z}\r\n\r\n|---|"
)


def save(
    folder: Path, name: str = "pear.png", *, mode: str = "RGB", size: tuple[int, int] = (64, 48), **save: Any
) -> str:
    path = folder / name
    Image.new(mode, size).save(path, **save)
    return str(path)


def noise(folder: Path, n: int) -> str:
    """A picture that compresses as badly as a picture can."""
    path = folder / f"noise{n}.png"
    Image.frombytes("RGB", (160, 160), random.Random(n).randbytes(160 * 160 * 3)).save(path)
    return str(path)


def thumbnails(sheet: str) -> list[Image.Image]:
    return [Image.open(io.BytesIO(base64.b64decode(data, validate=True))) for data in DATA_URI.findall(sheet)]


def cells(line: str) -> list[str]:
    """The cells of a table's line, split where Markdown splits it."""
    parts = re.split(r"(?<!\\)(?:\\\\)*\|", line.strip())
    assert (parts[0], parts[-1]) == ("", "")
    return [part.strip() for part in parts[1:-1]]


def test_without_pictures_there_is_no_sheet(tmp_path: Path) -> None:
    assert contact_sheet([]) is None
    assert contact_sheet([Picture(str(tmp_path / "missing.png"), "a pear")]) is None


@pytest.mark.parametrize(("count", "columns", "lines"), [(1, 1, 4), (3, 3, 4), (4, 4, 4), (5, 4, 6), (12, 4, 8)])
def test_pictures_stand_in_rows_of_four_over_their_captions(
    tmp_path: Path, count: int, columns: int, lines: int
) -> None:
    uri = save(tmp_path)
    sheet = contact_sheet([Picture(uri, f"pear {n}") for n in range(count)])
    assert sheet is not None
    table = sheet.splitlines()
    assert len(table) == lines
    assert {len(cells(line)) for line in table} == {columns}
    assert set(cells(table[1])) == {"---"}
    pictures = [cell for line in table[2::2] for cell in cells(line)]
    captions = [cell for line in table[3::2] for cell in cells(line)]
    padding = [""] * (len(captions) - count)
    assert captions == [f"pear {n}" for n in range(count)] + padding
    assert [bool(DATA_URI.fullmatch(cell)) for cell in pictures] == [True] * count + [False] * len(padding)


def test_thumbnails_are_small_and_keep_their_shape(tmp_path: Path) -> None:
    sheet = contact_sheet([Picture(save(tmp_path, size=(2000, 1000)), "wide")])
    (thumbnail,) = thumbnails(sheet or "")
    assert thumbnail.size == (112, 56)


def test_a_missing_picture_is_left_out_and_counted(tmp_path: Path) -> None:
    here = Picture(save(tmp_path), "here")
    sheet = contact_sheet([Picture(str(tmp_path / "gone.png"), "gone"), here]) or ""
    assert len(thumbnails(sheet)) == 1
    assert "gone" not in sheet
    assert sheet.endswith("\n\n1 of 2 shown.")


def test_only_the_first_are_shown_and_the_rest_counted(tmp_path: Path) -> None:
    sheet = contact_sheet([Picture(save(tmp_path), f"pear {n}") for n in range(30)]) or ""
    assert len(thumbnails(sheet)) == 12
    assert "pear 11" in sheet
    assert "pear 12" not in sheet
    assert sheet.endswith("12 of 30 shown.")


def test_transparency_is_shown_on_white(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    picture.paste((0, 0, 255, 255), (20, 0, 40, 40))
    picture.save(tmp_path / "sticker.png")
    (thumbnail,) = thumbnails(contact_sheet([Picture(str(tmp_path / "sticker.png"), "a sticker")]) or "")
    assert min(thumbnail.getpixel((4, 20))) > 240
    red, _, blue = thumbnail.getpixel((35, 20))
    assert blue > 200
    assert red < 60


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("1", "a.png"), ("L", "a.png"), ("LA", "a.png"), ("P", "a.png"), ("P", "a.gif"), ("RGBA", "a.png"),
        ("CMYK", "a.jpg"), ("L", "a.jpg"), ("RGB", "a.webp"), ("RGBA", "a.webp"), ("RGB", "a.jpg"),
    ],
)  # fmt: skip
def test_every_kind_of_picture_becomes_a_thumbnail(tmp_path: Path, mode: str, name: str) -> None:
    sheet = contact_sheet([Picture(save(tmp_path, name, mode=mode), "a pear")])
    assert [thumbnail.format for thumbnail in thumbnails(sheet or "")] == ["JPEG"]


def test_a_picture_behind_a_url_is_shown() -> None:
    import fsspec

    with fsspec.open("memory://sheets/pear.png", "wb") as file:
        Image.new("RGB", (20, 20), "green").save(file, "PNG")
    sheet = contact_sheet([Picture("memory://sheets/pear.png", "a pear"), Picture("memory://sheets/gone.png", "x")])
    assert len(thumbnails(sheet or "")) == 1


@given(st.binary(max_size=400), st.integers(0, 400), st.sampled_from(["PNG", "JPEG", "WEBP", "GIF"]))
def test_a_damaged_picture_never_fails_the_run(tmp_path_factory: Any, damage: bytes, at: int, kind: str) -> None:
    buffer = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((32, 32)).save(buffer, kind)
    content = bytearray(buffer.getvalue())
    content[at : at + len(damage)] = damage
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content)
    contact_sheet([Picture(str(path), "a pear")])


@pytest.mark.parametrize("content", [b"", b"<html>502 Bad Gateway</html>", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"])
def test_files_that_are_not_pictures_are_left_out(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    assert contact_sheet([Picture(str(tmp_path / "a.png"), "a pear")]) is None
    assert contact_sheet([Picture(str(tmp_path), "a folder")]) is None


@given(st.text(max_size=100))
@example(HOSTILE)
@example("|" * 100)
@example("\\" * 61)
@example("`" * 59 + "\\|")
@example("\u2028a\x85b\x0bc\x0cd\x1ce")
def test_a_caption_never_breaks_the_table_nor_becomes_markup(tmp_path_factory: Any, caption: str) -> None:
    path = tmp_path_factory.getbasetemp() / "plain.png"
    if not path.exists():
        Image.new("L", (4, 4)).save(path)
    sheet = contact_sheet([Picture(str(path), caption), Picture(str(path), "the other")]) or ""
    table = sheet.splitlines()
    assert len(table) == 4
    assert [len(cells(line)) for line in table] == [2] * 4
    shown, other = cells(table[3])
    assert other == "the other"
    for character in "`*_{}[]|#!":
        assert not re.search(r"(?<!\\)(?:\\\\)*" + re.escape(character), shown), shown
    assert "<" not in shown
    assert ">" not in shown
    assert len(thumbnails(sheet)) == 2
    assert len(shown) <= 2 * 60


def test_a_long_caption_is_cut_with_an_ellipsis(tmp_path: Path) -> None:
    sheet = contact_sheet([Picture(save(tmp_path), "a pear " * 40)]) or ""
    (caption,) = cells(sheet.splitlines()[3])
    assert caption.endswith("…")
    assert len(caption) == 60


@pytest.mark.parametrize("caption", ["a pear", "\U0001f350" * 60])
def test_a_sheet_stays_below_a_hundred_kilobytes(tmp_path: Path, caption: str) -> None:
    pictures = [Picture(noise(tmp_path, n), caption) for n in range(24)]
    sheet = contact_sheet(pictures, limit=24) or ""
    assert len(sheet.encode()) < 100_000
    shown = len(thumbnails(sheet))
    assert 5 < shown < 24
    assert sheet.endswith(f"{shown} of 24 shown.")
