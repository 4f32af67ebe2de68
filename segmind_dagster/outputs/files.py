"""Single local files: worked on in memory while they are small, made durable, measured. What they mean is elsewhere."""

from __future__ import annotations

import hashlib
import os
import warnings
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedRandom, BufferedReader
    from pathlib import Path

_SMALL_BYTES = 4 << 20


@contextmanager
def at_work_on(path: Path, *, is_durable: bool) -> Iterator[BytesIO | BufferedRandom]:
    """A file's content, to look at and to change; it is in the file afterwards, unless the block raises.

    A small one is worked on in memory: each look at a file lets go of Python's lock, and the event loop wants it too.

    Args:
        path: an existing file.
        is_durable: whether it is to survive a loss of power from then on.
    """
    with path.open("r+b") as file:
        if os.fstat(file.fileno()).st_size > _SMALL_BYTES:
            yield file
        else:
            content = BytesIO(file.read())
            yield content
            file.seek(0)
            file.write(content.getbuffer())
        if is_durable:
            file.flush()
            os.fsync(file.fileno())


def digest_of(file: BytesIO | BufferedRandom | BufferedReader) -> tuple[str, int]:
    """SHA-256 of what is in an open file, as hex digits, and its size in bytes."""
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256")
    return digest.hexdigest(), file.seek(0, os.SEEK_END)


def dimensions(path: Path) -> tuple[int, int] | tuple[None, None]:
    """Width and height of a picture in pixels, from its header alone; None where that cannot be read."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # only the header is read
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                width, height = picture.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None, None
    return width, height


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
