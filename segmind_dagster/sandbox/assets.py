"""Files uploaded to the sandbox's storage, by digest of their content.

Kept in memory, or in a folder when the sandbox has a state folder. Generated outputs are not kept at all:
`renderings` makes them again whenever they are asked for.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import mimetypes
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_DATA_URL = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+);base64,(?P<data>.+)", re.DOTALL)
_ASSET_URL = re.compile(r"http://(?:localhost|127\.[\d.]+|\[::1\])(?::\d+)?/assets/(?P<name>[0-9a-f]{32}\.\w+)")
_EXTENSIONS = {"image/jpeg": ".jpg", "image/webp": ".webp", "audio/mpeg": ".mp3"}


class AssetStore:
    """Uploaded files.

    Args:
        folder: where they are kept; None for memory.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._contents: dict[str, bytes] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def put(self, content: bytes, content_type: str) -> str:
        """Keep a file; its name, the same for the same content."""
        extension = _EXTENSIONS.get(content_type) or mimetypes.guess_extension(content_type) or ".bin"
        name = hashlib.sha256(content).hexdigest()[:32] + extension
        if self._folder is None:
            self._contents[name] = content
        else:
            (self._folder / name).write_bytes(content)
        return name

    def get(self, name: str) -> bytes | None:
        """The content of a file; None when there is no such file."""
        if self._folder is None:
            return self._contents.get(name)
        path = self._folder / name
        # a name with a separator would lead out of the folder
        return path.read_bytes() if path.parent == self._folder and path.is_file() else None

    def is_readable(self, url: str) -> bool:
        """False for a URL of this sandbox that leads nowhere; any other URL is taken on trust."""
        name = asset_name(url)
        return name is None or self.get(name) is not None

    def inputs_of(self, body: dict[str, Any]) -> Iterator[bytes]:
        """The image inputs of a body that the sandbox can see, in order: its own uploads and data URLs."""
        for value in _texts(body.values()):
            name = asset_name(value)
            if name is not None and (content := self.get(name)) is not None:
                yield content
            elif decoded := decode_data_url(value):
                yield decoded[0]


def asset_name(url: str) -> str | None:
    """The upload a URL names; None for any other URL. The port may be that of an earlier start."""
    match = _ASSET_URL.fullmatch(url)
    return match["name"] if match else None


def decode_data_url(url: str) -> tuple[bytes, str] | None:
    """Content and content type of a base64 data URL; None when it is not one."""
    match = _DATA_URL.fullmatch(url)
    if match is None:
        return None
    try:
        return base64.b64decode(match["data"], validate=True), match["type"]
    except binascii.Error:
        return None


def _texts(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            yield from _texts(value)
