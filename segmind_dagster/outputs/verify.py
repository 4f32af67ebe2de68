"""Decides whether bytes are the output they should be: the format from the bytes, never from a name.

Pictures are decoded whole, within bounds; other media are recognised by their signature and structure.
"""

from __future__ import annotations

import json
import os
import threading
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from segmind_dagster.errors import OutputError
from segmind_dagster.outputs import jpeg

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

    from segmind_dagster.registry import OutputKind

MAX_PIXELS = 100_000_000
MAX_TEXT_BYTES = 64 << 20
# no JPEG packs more into a byte: a block of 64 pixels takes one bit at least
_MAX_JPEG_PIXELS_A_BYTE = 1024
_LARGE_PIXELS = 4_000_000
# a large picture takes up to 16 bytes a pixel while it is decoded: one at a time
_ONE_LARGE = threading.Lock()
_HEAD_BYTES = 512

EXTENSIONS = {
    "jpeg": "jpg",
    "png": "png",
    "webp": "webp",
    "gif": "gif",
    "mp4": "mp4",
    "webm": "webm",
    "mp3": "mp3",
    "wav": "wav",
    "ogg": "ogg",
    "flac": "flac",
    "json": "json",
    "txt": "txt",
}

_KINDS: dict[OutputKind, frozenset[str]] = {
    "image": frozenset({"jpeg", "png", "webp", "gif"}),
    "video": frozenset({"mp4", "webm", "gif"}),
    "audio": frozenset({"mp3", "wav", "ogg", "flac", "mp4"}),
    "text": frozenset({"json", "txt"}),
}


@dataclass(frozen=True, slots=True)
class Verified:
    """What the bytes are.

    Args:
        format: `jpeg`, `mp4`, ...
        width: pixels, for pictures.
        height: pixels, for pictures.
    """

    format: str
    width: int | None = None
    height: int | None = None


def verify(path: Path, kind: OutputKind) -> Verified:
    """Check a file against what was bought.

    Args:
        path: the file.
        kind: what it should be.

    Raises:
        OutputError: it is something else, or broken.
    """
    with path.open("rb") as file:
        return verify_file(file, kind)


def verify_file(file: BinaryIO, kind: OutputKind) -> Verified:
    """The same for an open file, read from its beginning."""
    file.seek(0)
    if kind == "text":
        return _verify_text(file)
    head = file.read(_HEAD_BYTES)
    found = sniff(head)
    if found is None:
        raise OutputError(_describe_stranger(head))
    if found not in _KINDS[kind]:
        raise OutputError(f"{found} bytes where {kind} was bought")
    if kind == "image":
        return _verify_picture(file, found)
    if found == "mp4":
        _verify_boxes(file)
    if found == "gif":
        _verify_picture(file, found)
    return Verified(found)


def sniff(head: bytes) -> str | None:  # noqa: PLR0911  a table of signatures
    """The format that the first bytes announce."""
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return "wav"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if head[4:8] == b"ftyp":
        return "mp4"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "webm"
    if head.startswith(b"ID3") or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 in {0xE2, 0xE4, 0xE6}):  # noqa: PLR2004  MPEG audio frame
        return "mp3"
    if head.startswith(b"OggS"):
        return "ogg"
    return "flac" if head.startswith(b"fLaC") else None


def _verify_picture(file: BinaryIO, found: str) -> Verified:
    from PIL import Image, UnidentifiedImageError

    file.seek(0)
    try:
        with warnings.catch_warnings():
            # our own bounds are checked below, before anything is decoded; what is odd but decodes is good enough
            warnings.simplefilter("ignore")
            with Image.open(file, formats=[found.upper()]) as picture:
                width, height = picture.size
                if width * height > MAX_PIXELS:
                    raise OutputError(f"{width}x{height} pixels; at most {MAX_PIXELS} are accepted", is_permanent=True)
                is_large = width * height > _LARGE_PIXELS
                with _ONE_LARGE if is_large else nullcontext():
                    if found != "jpeg" or not _is_whole_jpeg(file, picture):
                        picture.load()
    except Image.DecompressionBombError as error:
        raise OutputError("a decompression bomb", is_permanent=True) from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError) as error:
        raise OutputError(f"a {found} picture that does not decode: {error}") from error
    return Verified(found, width, height)


def _is_whole_jpeg(file: BinaryIO, picture: Image) -> bool:
    """Whether it was decoded without a complaint; otherwise prepared to be decoded by Pillow, as small as it can be."""
    width, height = picture.size
    if width * height > _MAX_JPEG_PIXELS_A_BYTE * file.seek(0, os.SEEK_END):
        raise OutputError(f"a jpeg picture too small for its {width}x{height} pixels")
    if jpeg.is_whole(file):
        return True
    picture.draft("L", (max(width // 8, 1), max(height // 8, 1)))
    return False


def _verify_boxes(file: BinaryIO) -> None:
    """An MP4 file is a row of boxes, each with its length: walk it to the end; without a `moov` nothing plays it."""
    size = file.seek(0, os.SEEK_END)
    position = 0
    has_index = False
    while position < size:
        file.seek(position)
        header = file.read(16)
        if len(header) < 8:  # noqa: PLR2004  a box's own header
            raise OutputError(f"an mp4 file that breaks off after {position} of {size} bytes")
        length = int.from_bytes(header[:4], "big")
        has_index = has_index or header[4:8] == b"moov"
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        elif length == 0:  # the last box reaches to the end
            length = size - position
        if length < 8 or position + length > size:  # noqa: PLR2004  a box's own header
            raise OutputError(f"an mp4 file that breaks off after {position} of {size} bytes")
        position += length
    if not has_index:
        raise OutputError("an mp4 file without the index that players need")


def _verify_text(file: BinaryIO) -> Verified:
    content = file.read(MAX_TEXT_BYTES + 1)
    if len(content) > MAX_TEXT_BYTES:
        raise OutputError(f"an answer of more than {MAX_TEXT_BYTES} bytes", is_permanent=True)
    if not content.strip():
        raise OutputError("an empty answer")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise OutputError("bytes that are not UTF-8 text") from error
    try:
        json.loads(text)
    except RecursionError:
        raise OutputError("JSON nested too deeply", is_permanent=True) from None
    except ValueError:
        if text.lstrip()[:15].lower().startswith(("<!doctype", "<html")):
            raise OutputError("an HTML page where a model's answer was bought") from None
        return Verified("txt")
    return Verified("json")


def _describe_stranger(head: bytes) -> str:
    start = head.lstrip()[:15].lower()
    if not head:
        return "no bytes at all"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "an HTML page instead of the output"
    if start.startswith(b"{"):
        return "a JSON answer instead of the output"
    return "bytes of no known format"
