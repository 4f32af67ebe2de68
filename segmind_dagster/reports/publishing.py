"""Puts pages and pictures where people look: whole files, written aside and renamed, in a folder or a bucket.

What is on a page is decided elsewhere; outputs themselves are `outputs.store`'s business.
"""

from __future__ import annotations

import secrets
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from segmind_dagster.errors import SegmindDagsterError
from segmind_dagster.gateway.redaction import without_query

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Shelf:
    """A folder of files for people, local or behind any fsspec URL.

    Args:
        url: the folder: a path, or an fsspec URL.
    """

    url: str

    @classmethod
    def at(cls, place: str) -> Shelf:
        """The shelf at a path or URL; a `file://` URL is a path."""
        if place.startswith("file://"):
            place = unquote(urlsplit(place).path)
        return cls(place.rstrip("/") or "/")

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine's disks."""
        return "://" not in self.url

    def uri(self, name: str) -> str:
        """Where a file of that name lies, for people and for links."""
        return f"{self.url}/{name}"

    def link(self, uri: str, *, folder: str) -> tuple[str, bool]:
        """How a page in a folder of this shelf refers to a file, and whether a browser can follow that.

        Below the shelf the link is relative, so that it holds wherever the whole shelf is moved or served; elsewhere
        it is the file's own address, without user and query, where signatures travel.

        Args:
            uri: path or fsspec URL of the file.
            folder: the page's folder, relative to the shelf.
        """
        if uri.startswith("file://"):
            uri = unquote(urlsplit(uri).path)
        if uri.startswith(f"{self.url}/"):
            upward = "../" * len([part for part in folder.split("/") if part])
            return upward + quote(uri.removeprefix(f"{self.url}/")), True
        if "://" not in uri:
            return Path(uri).absolute().as_uri(), True
        try:
            return without_query(uri), uri.startswith("https://")
        except ValueError:
            return "", False

    def names(self, folder: str) -> frozenset[str]:
        """Names of the files in a folder; none when there is no such folder."""
        with _explained("Listed", self.uri(folder)):
            if self.is_local:
                path = Path(self.url, folder)
                return frozenset(found.name for found in path.iterdir()) if path.is_dir() else frozenset()
            fs, root = self._remote(folder)
            listed = fs.ls(root, detail=False) if fs.exists(root) else []
            return frozenset(str(found).rstrip("/").rsplit("/", 1)[-1] for found in listed)

    def read(self, name: str) -> bytes:
        """The content of a file."""
        with _explained("Read", self.uri(name)):
            if self.is_local:
                return Path(self.url, name).read_bytes()
            fs, path = self._remote(name)
            content: bytes = fs.cat_file(path)
            return content

    def write(self, name: str, content: bytes) -> str:
        """Put a file in place, whole or not at all, over one of the same name; returns where it is."""
        with _explained("Wrote", self.uri(name)):
            if self.is_local:
                target = Path(self.url, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                aside = target.with_name(f".{target.name}.{secrets.token_hex(6)}.partial")
                try:
                    aside.write_bytes(content)
                    aside.replace(target)
                finally:
                    aside.unlink(missing_ok=True)
                return str(target)
            fs, path = self._remote(name)
            with tempfile.TemporaryDirectory() as folder:
                # the name's ending tells buckets the content type, without which browsers download a page
                aside = Path(folder, Path(name).name)
                aside.write_bytes(content)
                fs.put_file(str(aside), path)
        return self.uri(name)

    def _remote(self, name: str) -> tuple[Any, str]:
        import fsspec

        fs, path = fsspec.core.url_to_fs(self.uri(name))
        return fs, path


@contextmanager
def _explained(what: str, uri: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ImportError) as error:
        raise SegmindDagsterError(
            f"{what} {uri}, but that failed: {error}. Outputs, ledger and rows are untouched. Make the place readable "
            "and writable, or name another one with `--output`, then try again."
        ) from error
