"""Image inputs: text in a prompt file -> a URL, or a local file that may be uploaded.

Decides what counts as an image this project may read and send. Nothing is uploaded or downloaded here;
decoding whole pictures is the business of `outputs`.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from segmind_dagster.lifecycle.generation import ImageInput

if TYPE_CHECKING:
    from pathlib import Path

MAX_IMAGE_BYTES = 20 * 1024 * 1024

_MAGIC = re.compile(rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|RIFF....WEBP|GIF8[79]a", re.DOTALL)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


class ImageInputError(ValueError):
    """An image input that cannot be used."""


class ImageReader:
    """Resolves the image inputs of one prompt file, and reads each local file once.

    Args:
        folder: what relative paths start from: the prompt file's own folder.
        project_dir: no file outside it is ever read.
    """

    def __init__(self, *, folder: Path, project_dir: Path) -> None:
        self._folder = folder
        self._project_dir = project_dir
        self._seen: dict[str, ImageInput | str] = {}  # a str is the complaint

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of every local file read so far, by its path as the prompt file writes it."""
        return {
            text: image.sha256
            for text, image in self._seen.items()
            if isinstance(image, ImageInput) and image.sha256 is not None
        }

    def read(self, text: str) -> ImageInput:
        """The image a prompt file names.

        Args:
            text: an http(s) URL, or a path relative to the prompt file.

        Raises:
            ImageInputError: not a URL, or a file that is missing, outside the project, too big or no image.
        """
        if text not in self._seen:
            try:
                self._seen[text] = _url(text) if _SCHEME.match(text) else self._local_file(text)
            except ImageInputError as error:
                self._seen[text] = str(error)
        image = self._seen[text]
        if isinstance(image, str):
            raise ImageInputError(image)
        return image

    def _local_file(self, text: str) -> ImageInput:
        try:
            path = (self._folder / text).resolve()
            if not path.is_relative_to(self._project_dir.resolve()):
                raise ImageInputError(
                    f"{text!r} lies outside the project folder; copy the image into the project and name it relative "
                    "to the prompt file"
                )
            if not path.exists():
                raise ImageInputError(f"there is no file {text!r}; paths are relative to the prompt file's folder")
            if not path.is_file():
                raise ImageInputError(f"{text!r} is not a regular file")
            with path.open("rb") as stream:
                data = stream.read(MAX_IMAGE_BYTES + 1)
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop of symbolic links, up to Python 3.12
            reason = getattr(error, "strerror", None) or str(error)
            raise ImageInputError(f"{text[:200]!r} cannot be read: {reason}") from error
        if len(data) > MAX_IMAGE_BYTES:
            raise ImageInputError(f"{text!r} is larger than {MAX_IMAGE_BYTES // 1024**2} MB; make it smaller")
        if not _MAGIC.match(data):
            raise ImageInputError(f"{text!r} is not a PNG, JPEG, WebP or GIF image")
        return ImageInput(url=None, path=path, sha256=sha256(data).hexdigest())


def _url(text: str) -> ImageInput:
    try:
        parts = urlsplit(text)
        is_usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and not re.search(r"\s", text)
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ImageInputError(f"{text[:200]!r} is neither an http(s) URL nor a local file")
    return ImageInput(url=text, path=None, sha256=None)
