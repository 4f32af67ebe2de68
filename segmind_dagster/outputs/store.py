"""Puts verified bytes in place: written aside, flushed to disk, renamed, so that a name means a whole file.

One copy a generation, `<resource>/<generation_id>.<ext>`, with a sidecar of facts beside it. Names are built
from our own identifiers; nothing from the network becomes part of a path.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segmind_dagster.errors import OutputError
from segmind_dagster.outputs import provenance
from segmind_dagster.outputs.verify import EXTENSIONS, verify

if TYPE_CHECKING:
    from collections.abc import Mapping

    from segmind_dagster.registry import OutputKind

_PARTIAL = ".partial"
# longer than any transfer may take
_ABANDONED_S = 86_400.0
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An output in its place.

    Args:
        uri: where it is: a path, or an fsspec URL.
        sha256: digest of the stored bytes.
        size_bytes: size of the stored bytes.
        format: `jpeg`, `mp4`, ...
        width: pixels, for pictures.
        height: pixels, for pictures.
    """

    uri: str
    sha256: str
    size_bytes: int
    format: str
    width: int | None
    height: int | None


class OutputStore:
    """The folder of outputs, local or any fsspec URL.

    Args:
        url: the folder.
        scratch_dir: local folder for files on their way; on the same disk as a local outputs folder.
    """

    def __init__(self, url: str, *, scratch_dir: Path) -> None:
        self._url = url.rstrip("/")
        self._is_local = "://" not in url
        self._scratch_dir = scratch_dir / _PARTIAL
        self._made: set[Path] = set()

    def scratch_file(self, generation_id: str) -> Path:
        """A fresh name for a file on its way; two runs never share one."""
        self._make(self._scratch_dir)
        return self._scratch_dir / f"{_checked(generation_id)}.{secrets.token_hex(6)}"

    def keep(
        self, path: Path, *, resource: str, generation_id: str, kind: OutputKind, facts: Mapping[str, Any]
    ) -> Stored:
        """Verify a file and move it into place, durable before this returns.

        Args:
            path: the file on its way; gone afterwards.
            resource: the model's resource name.
            generation_id: the generation.
            kind: what was bought.
            facts: where it came from; written beside it, and inside it where the format takes that.

        Raises:
            OutputError: it is not what was bought.
        """
        verified = verify(path, kind)
        provenance.embed(path, verified.format, facts)
        content_sha256, size = _digest(path)
        name = f"{_checked(resource)}/{_checked(generation_id)}"
        stored = Stored(
            uri=f"{self._url}/{name}.{EXTENSIONS[verified.format]}",
            sha256=content_sha256,
            size_bytes=size,
            format=verified.format,
            width=verified.width,
            height=verified.height,
        )
        sidecar = path.with_name(f"{path.name}.facts")
        sidecar.write_text(
            json.dumps({**facts, "output_sha256": content_sha256}, ensure_ascii=False, indent=2, sort_keys=True) + "\n",
            encoding="utf-8",
        )
        # the ledger holds the same facts, so the sidecar need not outlive a power cut on its own
        self._place(sidecar, f"{self._url}/{name}.facts.json", is_durable=False)
        self._place(path, stored.uri, is_durable=True)
        return stored

    def discard(self, path: Path) -> None:
        """Remove a file that is not to be kept."""
        path.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what processes that were killed left on its way, once nobody can be writing it any more."""
        oldest = time.time() - _ABANDONED_S
        for path in self._scratch_dir.glob("*"):
            if path.stat().st_mtime < oldest:
                path.unlink(missing_ok=True)

    def find_any(self) -> str | None:
        """The folder, when it holds at least one output."""
        if self._is_local:
            root = Path(self._url)
            files = root.glob("*/*") if root.is_dir() else iter(())
            return self._url if any(not file.name.endswith(".facts.json") for file in files) else None
        fs, root_path = self._remote()
        return self._url if fs.exists(root_path) and fs.find(root_path, maxdepth=2) else None

    def _place(self, source: Path, target: str, *, is_durable: bool) -> None:
        if not self._is_local:
            fs, _ = self._remote()
            fs.put_file(str(source), fs._strip_protocol(target))  # noqa: SLF001  fsspec's documented way to a path
            source.unlink()
            return
        destination = Path(target)
        self._make(destination.parent)
        if is_durable:
            with source.open("rb") as file:
                os.fsync(file.fileno())
        try:
            source.replace(destination)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # the outputs are on another disk: copied beside their place first
            beside = destination.with_name(f".{source.name}{_PARTIAL}")
            shutil.copyfile(source, beside)
            with beside.open("rb") as file:
                os.fsync(file.fileno())
            beside.replace(destination)
            source.unlink()
        if is_durable:
            _sync_folder(destination.parent)

    def _remote(self) -> tuple[Any, str]:
        import fsspec

        fs, path = fsspec.core.url_to_fs(self._url)
        return fs, path

    def _make(self, folder: Path) -> None:
        if folder not in self._made:
            folder.mkdir(parents=True, exist_ok=True)
            self._made.add(folder)


def _checked(name: str) -> str:
    if not _SAFE.fullmatch(name):
        raise OutputError(f"{name!r} cannot be part of a file name", is_permanent=True)
    return name


def _digest(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    return digest.hexdigest(), path.stat().st_size


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
