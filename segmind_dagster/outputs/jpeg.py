"""Whether a JPEG's picture data are whole. libjpeg carries on over damage, and Pillow does not tell; TurboJPEG does.

Dimensions, and JPEGs of kinds that TurboJPEG does not know, are Pillow's business, in `verify`.
"""

from __future__ import annotations

import mmap
import re
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING

from segmind_dagster.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

# what libjpeg says of picture data that are not as they were written; its other warnings are about matters of form
_DAMAGE = re.compile(r"corrupt jpeg data|premature end", re.IGNORECASE)
# some encoders fill up before the end marker; more than that is a picture whose decoding has lost its way
_FILLING = re.compile(r"\b1?\d extraneous bytes before marker 0xd9", re.IGNORECASE)


def is_whole(file: BinaryIO) -> bool:
    """Decode a JPEG; False when that cannot be said here.

    Args:
        file: open for reading, its dimensions checked.

    Raises:
        OutputError: it is damaged.
    """
    import simplejpeg

    with _bytes_of(file) as content:
        try:
            # every bit is read, but the picture is decoded at an eighth of each side, in grey
            simplejpeg.decode_jpeg(content, "GRAY", min_height=1, min_width=1, min_factor=1)
        except ValueError as error:
            if _DAMAGE.search(str(error)) and not _FILLING.search(str(error)):
                raise OutputError(f"a jpeg picture that is damaged: {error}") from error
            return False
    return True


@contextmanager
def _bytes_of(file: BinaryIO) -> Iterator[memoryview | mmap.mmap]:
    """A file's content without a copy of it."""
    if isinstance(file, BytesIO):
        with file.getbuffer() as view:
            yield view
    else:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            yield mapped
