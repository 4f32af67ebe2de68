"""Outputs as bytes again: read from a folder or a bucket, and believed only if their digest is the ledger's.

Names of files are made of our own ids.
"""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from segmind_dagster.errors import OutputError
from segmind_dagster.outputs.verify import EXTENSIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from segmind_dagster.export.rows import Item

_AT_ONCE: Final = 8
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def file_name(item: Item) -> str:
    """`<resource>/<generation_id>.<ext>`.

    Raises:
        OutputError: the ledger has been tampered with.
    """
    extension = EXTENSIONS.get(item.fields["output_format"] or "")
    parts = (item.resource, item.fields["generation_id"])
    if extension is None or not all(_SAFE.fullmatch(part) for part in parts):
        raise OutputError(f"{'/'.join(parts)} ({item.fields['output_format']!r}) cannot be a file name")
    return f"{'/'.join(parts)}.{extension}"


def read_all(items: Sequence[Item]) -> Iterator[tuple[Item, bytes | OutputError]]:
    """Every output, in order, a few of them ahead; an error in place of one that is not what was stored."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for start in range(0, len(items), _AT_ONCE):
            some = items[start : start + _AT_ONCE]
            yield from zip(some, pool.map(_read, some), strict=True)


def _read(item: Item) -> bytes | OutputError:
    try:
        file_name(item)
        content = _content(item.uri)
    except OutputError as error:
        return error
    except FileNotFoundError:
        return OutputError("the file is gone")
    except OSError as error:
        return OutputError(f"the file cannot be read: {error}")
    if hashlib.sha256(content).hexdigest() != item.fields["output_sha256"]:
        return OutputError("the file is not what was stored: its digest differs")
    return content


def _content(uri: str) -> bytes:
    if "://" not in uri:
        return Path(uri).read_bytes()
    import fsspec

    fs, path = fsspec.core.url_to_fs(uri)
    content: bytes = fs.cat_file(path)
    return content
