"""A folder, local or behind any fsspec URL: files are written aside and renamed, so that a name means a whole file.

What the files are called and what they mean is decided in `store` and `quarantine`.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from segmind_dagster.errors import OutputError

PARTIAL: Final = ".partial"
SIDECAR: Final = ".facts.json"
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class Folder:
    """Where files are put.

    Args:
        url: a path, or an fsspec URL.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.is_local = "://" not in url
        self._made: set[Path] = set()

    def exists(self, target: str) -> bool:
        """Whether a file is there, by its whole address."""
        if self.is_local:
            return Path(target).exists()
        fs, _ = self.remote()
        return bool(fs.exists(fs._strip_protocol(target)))  # noqa: SLF001  fsspec's documented way to a path

    def read(self, target: str) -> bytes:
        """The bytes of a file.

        Raises:
            OSError: it is not there, or cannot be read.
        """
        if self.is_local:
            return Path(target).read_bytes()
        fs, _ = self.remote()
        content: bytes = fs.cat_file(fs._strip_protocol(target))  # noqa: SLF001  fsspec's documented way to a path
        return content

    def place(self, source: Path, target: str) -> None:
        """Move a local file to its address, over one of the same name; it is whole there, or not there at all."""
        if not self.is_local:
            fs, _ = self.remote()
            # the name's ending tells buckets the content type, without which browsers download what they could show
            named = source.rename(source.with_name(source.name + Path(target).suffix))
            try:
                fs.put_file(str(named), fs._strip_protocol(target))  # noqa: SLF001  fsspec's documented way to a path
            finally:
                named.rename(source)
            source.unlink()
            return
        destination = Path(target)
        self.make(destination.parent)
        try:
            source.replace(destination)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # the folder is on another disk: copied beside its place first
            beside = destination.with_name(f".{source.name}{PARTIAL}")
            shutil.copyfile(source, beside)
            with beside.open("rb") as file:
                os.fsync(file.fileno())
            beside.replace(destination)
            source.unlink()

    def place_sidecar(self, content: bytes, target: str, output: Path) -> None:
        """Write a sidecar.

        Args:
            content: its bytes.
            target: its address.
            output: the local file that it is about; the sidecar is written aside next to it.
        """
        if self.is_local:
            self.make(Path(target).parent)
            # in one go where nothing is replaced: half a sidecar reads as none
            with suppress(FileExistsError), Path(target).open("xb") as file:
                file.write(content)
                return
        sidecar = output.with_name(f"{output.name}.facts")
        sidecar.write_bytes(content)
        self.place(sidecar, target)

    def remote(self) -> tuple[Any, str]:
        """The file system of a URL, and the folder's path on it."""
        import fsspec

        fs, path = fsspec.core.url_to_fs(self.url)
        return fs, path

    def make(self, folder: Path) -> None:
        """Make a local folder, once."""
        if folder not in self._made:
            folder.mkdir(parents=True, exist_ok=True)
            self._made.add(folder)


def is_safe(name: str) -> bool:
    """Whether a name can be part of a path without leading elsewhere."""
    return _SAFE.fullmatch(name) is not None


def checked(name: str) -> str:
    """The name, if it can be part of a path.

    Raises:
        OutputError: it cannot.
    """
    if not is_safe(name):
        raise OutputError(f"{name!r} cannot be part of a file name", is_permanent=True)
    return name
