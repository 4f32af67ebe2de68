"""Small files of every kind, made from nothing, so that each byte of them is known."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image


def picture(form: str, size: tuple[int, int] = (40, 30), mode: str = "RGB") -> bytes:
    """A picture with every pixel different from its neighbours."""
    image = Image.new(mode, size)
    width, height = size
    colours = [((x * 7) % 256, (y * 11) % 256, (x * y) % 256) for y in range(height) for x in range(width)]
    image.putdata(colours if mode == "RGB" else [sum(colour) % 256 for colour in colours])
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


def png_of_claimed_size(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its data does not have."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def box(kind: bytes, content: bytes) -> bytes:
    """One box of an MP4 file."""
    return struct.pack(">I", 8 + len(content)) + kind + content


def mp4() -> bytes:
    """The boxes of a small MP4 file, one of them with a long length."""
    long_box = struct.pack(">I", 1) + b"free" + struct.pack(">Q", 16 + 5) + b"x" * 5
    return box(b"ftyp", b"isom\0\0\2\0isomiso2") + box(b"moov", b"m" * 60) + long_box + box(b"mdat", b"d" * 200)


SOUNDS = {
    "mp3": b"ID3\x04\0\0\0\0\0\0" + b"\xff\xfb\x90\0" * 20,
    "wav": b"RIFF\x24\0\0\0WAVEfmt " + b"\0" * 40,
    "ogg": b"OggS\0\2" + b"\0" * 40,
    "flac": b"fLaC\0\0\0\x22" + b"\0" * 40,
}
WEBM = b"\x1a\x45\xdf\xa3" + b"\0" * 40
HTML = b"\n <!DOCTYPE html><html><body><h1>502 Bad Gateway</h1></body></html>"
JSON_ERROR = b'{"error": "Internal server error"}'
