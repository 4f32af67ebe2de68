"""Texts that are longer than a destination can hold: compressed rather than cut, cut only where that is not enough.

The models page is one, on Redshift; nothing else that is loaded is expected to be.
"""

from __future__ import annotations

import base64
import zlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from dlt.common.destination.capabilities import DestinationCapabilitiesContext
    from dlt.extract.source import DltSource

# beyond what any text of ours is
_PLENTY_BYTES = 4 * 1024 * 1024
COMPRESSED: Final = "zlib+base64:"
_CUT = " [cut: longer than the destination holds]"


def with_room_for_texts(source: DltSource, capabilities: DestinationCapabilitiesContext) -> DltSource:
    """The same source, its texts fitting the destination."""
    longest = capabilities.max_text_data_type_length
    # dlt calls it an int, and leaves it out where it does not know
    if not longest or longest >= _PLENTY_BYTES:
        return source
    for resource in source.resources.values():
        columns: Any = resource.columns
        texts = [name for name, hints in columns.items() if hints.get("data_type") == "text"]
        resource.add_map(_shortening(texts, longest))
    return source


def short_text(text: str, longest_bytes: int) -> str:
    """A text that takes no more than so many bytes: itself, else compressed, else its beginning.

    Args:
        text: any.
        longest_bytes: how many bytes of UTF-8 there is room for.
    """
    content = text.encode("utf-8", errors="replace")
    if len(content) <= longest_bytes:
        return text
    compressed = COMPRESSED + base64.b64encode(zlib.compress(content, 9)).decode("ascii")
    if len(compressed) <= longest_bytes:
        return compressed
    return content[: max(longest_bytes - len(_CUT), 0)].decode("utf-8", errors="ignore") + _CUT[:longest_bytes]


def whole_text(stored: str) -> str:
    """What `short_text` was given, unless it had to cut it."""
    if not stored.startswith(COMPRESSED):
        return stored
    return zlib.decompress(base64.b64decode(stored.removeprefix(COMPRESSED))).decode("utf-8")


def _shortening(names: list[str], longest_bytes: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def shortened(row: dict[str, Any]) -> dict[str, Any]:
        # a quarter of the room fits whatever the characters are: most rows are not looked at closely
        long = {
            name: short_text(value, longest_bytes)
            for name in names
            if isinstance(value := row.get(name), str) and len(value) * 4 > longest_bytes
        }
        return {**row, **long} if long else row

    return shortened
