"""Small versions of stored pictures, for sheets and galleries.

Nothing here fails because of a picture: one that is gone or damaged has no thumbnail.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from PIL import Image


def thumbnail(uri: str, *, longest_px: int, form: Literal["JPEG", "WEBP"], quality: int) -> bytes | None:
    """A small version of a picture; None when the picture cannot be read.

    Args:
        uri: path or fsspec URL of the stored picture.
        longest_px: of its longer side.
        form: JPEG shows transparency on white, WEBP keeps it.
        quality: of the encoder, 1 to 100.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    source: io.BytesIO | str = uri
    if "://" in uri:
        if (content := stored_bytes(uri)) is None:
            return None
        source = io.BytesIO(content)
    try:
        with Image.open(source) as picture:
            # before it is turned the right way up, so that a large JPEG is never decoded whole
            picture.thumbnail((longest_px, longest_px))
            small = ImageOps.exif_transpose(picture).convert("RGBA")
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None  # a page with one picture fewer is better than a run that fails for its looks
    if form == "JPEG" or small.getchannel("A").getextrema() == (255, 255):
        small = _on_white(small)
    buffer = io.BytesIO()
    small.save(buffer, form, quality=quality, **({"optimize": True} if form == "JPEG" else {}))
    return buffer.getvalue()


def stored_bytes(uri: str, *, most: int = -1) -> bytes | None:
    """The content of an output, or its beginning; None when it cannot be read.

    Args:
        uri: path or fsspec URL.
        most: bytes that are wanted; all of them when negative.
    """
    import fsspec

    try:
        with fsspec.open(uri, "rb") as file:
            content: bytes = file.read(most)
    except Exception:  # noqa: BLE001  every file system has errors of its own, and a missing driver is one, too
        return None
    return content


def _on_white(picture: Image.Image) -> Image.Image:
    from PIL import Image

    flat = Image.new("RGB", picture.size, "white")
    flat.paste(picture, mask=picture.getchannel("A"))
    return flat
