"""Keeps bytes that were paid for and refused: as they came, with a sidecar that says why; nothing here removes them.

`quarantine/<resource>/<generation_id>.<attempt>.<digest>.<ext>` in the outputs folder, one level deeper than outputs
are, so that they are never taken for outputs. Names are built from our own identifiers and from the bytes.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from segmind_dagster.outputs import files
from segmind_dagster.outputs.folder import SIDECAR, checked, is_safe
from segmind_dagster.outputs.verify import EXTENSIONS, sniff

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from segmind_dagster.outputs.folder import Folder

QUARANTINE: Final = "quarantine"
_HEAD_BYTES = 512
# enough to tell the refused answers of one attempt apart
_DIGEST_LETTERS = 12
_NAME_PARTS = 4  # generation, attempt, digest, extension


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A refused file.

    Args:
        uri: where it is: a path, or an fsspec URL.
        resource: the model's resource name.
        generation_id: the generation.
        attempt: the number of the POST that paid for it.
        size_bytes: its size.
    """

    uri: str
    resource: str
    generation_id: str
    attempt: int
    size_bytes: int


class Quarantine:
    """The refused files of an outputs folder."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self.url = f"{folder.url}/{QUARANTINE}"

    def put(
        self, path: Path, *, resource: str, generation_id: str, attempt: int, sidecar: Mapping[str, Any]
    ) -> Quarantined:
        """Move a refused file into quarantine, durable before this returns; the same bytes are kept once.

        Args:
            path: the file; gone afterwards.
            resource: the model's resource name.
            generation_id: the generation.
            attempt: the number of the POST that paid for it.
            sidecar: what stands beside it, fit to be shown.
        """
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            sha256, size = files.digest_of(file)
            if self._folder.is_local:
                os.fsync(file.fileno())
        stem = f"{self.url}/{checked(resource)}/{checked(generation_id)}.{attempt:d}.{sha256[:_DIGEST_LETTERS]}"
        uri = f"{stem}.{_extension(head)}"
        if self._folder.exists(uri):
            path.unlink()
        else:
            beside = {**sidecar, "output_sha256": sha256, "output_bytes": size}
            content = json.dumps(beside, ensure_ascii=False, sort_keys=True)
            # first, so that no refused file stands without the reason
            self._folder.place_sidecar(f"{content}\n".encode(), f"{stem}{SIDECAR}", path)
            self._folder.place(path, uri)
            if self._folder.is_local:
                files.sync_folder(Path(uri).parent)
        return Quarantined(uri=uri, resource=resource, generation_id=generation_id, attempt=attempt, size_bytes=size)

    def found(self, resource: str = "*") -> list[Quarantined]:
        """The refused files, of one model or of all, in the order of their names; sidecars are not counted."""
        return sorted(
            (each for name, size in self._names(resource) if (each := self._read(name, size)) is not None),
            key=lambda each: each.uri,
        )

    def copy(self, quarantined: Quarantined, path: Path) -> bool:
        """Copy a refused file to a local one; False when there was more of it than is accepted, or it is gone."""
        stem = quarantined.uri.rpartition(".")[0]
        try:
            sidecar = json.loads(self._folder.read(f"{stem}{SIDECAR}"))
            content = self._folder.read(quarantined.uri)
        except (OSError, ValueError):
            return False
        if not isinstance(sidecar, dict) or sidecar.get("is_cut"):
            return False
        path.write_bytes(content)
        return True

    def _names(self, resource: str) -> Iterable[tuple[str, int]]:
        """Name below the quarantine, and size, of every file."""
        if self._folder.is_local:
            root = Path(self.url)
            return [
                (f"{path.parent.name}/{path.name}", path.stat().st_size)
                for path in root.glob(f"{resource}/*")
                if path.is_file()
            ]
        fs, root_path = self._folder.remote()
        base = f"{root_path.rstrip('/')}/{QUARANTINE}"
        if not fs.exists(base):
            return []
        listed = fs.find(base, maxdepth=2, detail=True)
        names = [(full.removeprefix(base).strip("/"), info.get("size") or 0) for full, info in listed.items()]
        return [(name, size) for name, size in names if resource in {"*", name.partition("/")[0]}]

    def _read(self, name: str, size_bytes: int) -> Quarantined | None:
        resource, _, file = name.partition("/")
        parts = file.split(".")
        is_ours = len(parts) == _NAME_PARTS and parts[1].isdecimal() and all(map(is_safe, (resource, *parts)))
        if not is_ours:  # a sidecar, which has one part more, or a foreign file
            return None
        return Quarantined(
            uri=f"{self.url}/{name}",
            resource=resource,
            generation_id=parts[0],
            attempt=int(parts[1]),
            size_bytes=size_bytes,
        )


def _extension(head: bytes) -> str:
    """The ending that tells what the bytes seem to be, although they are not good for it."""
    if (form := sniff(head)) is not None:
        return EXTENSIONS[form]
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"{", b"[")):
        return "json"
    if start.startswith((b"<svg", b"<?xml", b"<!--", b"<!doctype svg")) and b"<svg" in start:
        return "svg"
    # a page is kept as text: opening it must not run it
    return "txt" if _is_text(head) else "bin"


def _is_text(head: bytes) -> bool:
    # the last character may be cut
    text = head.decode("utf-8", errors="ignore")
    is_whole = len(head) - len(text.encode()) < 4  # noqa: PLR2004  bytes of a character of UTF-8
    return bool(text) and is_whole and all(letter.isprintable() or letter in "\t\r\n\f" for letter in text)
