"""Writes where an output came from into the file itself, where that leaves every pixel as it was.

PNG takes a text chunk and JPEG a comment segment without being encoded again; other formats rely on the
sidecar that `store` writes beside every output.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KEYWORD = "segmind-dagster"
_PNG_HEADER_BYTES = 8 + 25  # signature and IHDR
_JPEG_COMMENT = b"\xff\xfe"
_JPEG_COMMENT_LIMIT = 65_533
_HEAD_BYTES = 64
_CHUNK_BYTES = 1 << 20


def embed_in(file: BinaryIO, form: str, provenance: Mapping[str, Any]) -> None:
    """Embed the provenance in the file, if its format allows that; otherwise leave it alone.

    Args:
        file: open for reading and writing, changed in place.
        form: its format.
        provenance: where the output comes from, serialisable as JSON.
    """
    if form not in {"png", "jpeg"}:
        return
    text = json.dumps(provenance, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    if form == "png" and head[12:16] == b"IHDR":
        _insert(file, _PNG_HEADER_BYTES, _png_text(text))
    elif form == "jpeg" and (segment := _jpeg_comment(text)) is not None:
        _insert(file, _after_jpeg_header(head), segment)


def read_embedded(path: Path, form: str) -> dict[str, Any] | None:
    """The provenance embedded in a file, if there is any."""
    content = path.read_bytes()
    if form == "png":
        marker = f"{KEYWORD}\0".encode()
        start = content.find(b"iTXt" + marker)
        if start < 0:
            return None
        length = struct.unpack(">I", content[start - 4 : start])[0]
        data = content[start + 4 : start + 4 + length]
        return _load(data.split(b"\0", 1)[1][4:])  # two flags, then empty language and translation
    start = content.find(_JPEG_COMMENT, 2)
    while 0 <= start <= len(content) - 4:
        length = struct.unpack(">H", content[start + 2 : start + 4])[0]
        data = content[start + 4 : start + 2 + length]
        if data.startswith(f"{KEYWORD}:".encode()):
            return _load(data.split(b":", 1)[1])
        start = content.find(_JPEG_COMMENT, start + 2)
    return None


def _insert(file: BinaryIO, position: int, segment: bytes) -> None:
    """Insert bytes; what follows is moved piece by piece from the end, because an output may be larger than memory."""
    end = file.seek(0, os.SEEK_END)
    while end > position:
        start = max(position, end - _CHUNK_BYTES)
        file.seek(start)
        piece = file.read(end - start)
        file.seek(start + len(segment))
        file.write(piece)
        end = start
    file.seek(position)
    file.write(segment)


def _load(data: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(data)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _png_text(text: str) -> bytes:
    data = KEYWORD.encode() + b"\0\0\0\0\0" + text.encode()
    kind = b"iTXt"
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _jpeg_comment(text: str) -> bytes | None:
    data = f"{KEYWORD}:{text}".encode()
    if len(data) > _JPEG_COMMENT_LIMIT:
        return None
    return _JPEG_COMMENT + struct.pack(">H", len(data) + 2) + data


def _after_jpeg_header(content: bytes) -> int:
    """Behind the JFIF segment, which some readers want first."""
    position = 2
    if content[2:4] == b"\xff\xe0":
        position += 2 + int(struct.unpack(">H", content[4:6])[0])
    return position
