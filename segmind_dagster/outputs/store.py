"""Puts verified bytes in place: written aside, flushed to disk, renamed, so that a name means a whole file.

One copy a generation, `<resource>/<generation_id>.<ext>`, with a sidecar beside it. Names are built
from our own identifiers; nothing from the network becomes part of a path. Bytes that are refused are `quarantine`'s.
"""

from __future__ import annotations

import json
import secrets
import time
from collections import defaultdict
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segmind_dagster.errors import OutputError
from segmind_dagster.lifecycle.generation import Output
from segmind_dagster.outputs import files
from segmind_dagster.outputs.folder import PARTIAL, SIDECAR, Folder, checked, is_safe
from segmind_dagster.outputs.provenance import embed_in, read_embedded
from segmind_dagster.outputs.quarantine import QUARANTINE, Quarantine
from segmind_dagster.outputs.verify import EXTENSIONS, verify, verify_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from segmind_dagster.registry import OutputKind

_FORMATS = {extension: form for form, extension in EXTENSIONS.items()}
_PICTURES = frozenset({"jpeg", "png", "webp", "gif"})
# longer than any transfer may take
_ABANDONED_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundOutput:
    """What lies in the folder under the name of a generation.

    Args:
        resource: the folder it lies in, the model's resource name.
        generation_id: its name.
        uri: the output; None when only its sidecar is there.
        sidecar: what stands beside it, as it was read; None when that is missing or no JSON.
        written_at: when the output was written, or else its sidecar.
    """

    resource: str
    generation_id: str
    uri: str | None
    sidecar: Any
    written_at: datetime


class OutputStore:
    """The folder of outputs, local or any fsspec URL.

    Args:
        url: the folder.
        scratch_dir: local folder for files that are not complete yet; on the same disk as a local outputs folder.
    """

    def __init__(self, url: str, *, scratch_dir: Path) -> None:
        self._folder = Folder(url)
        self._url = self._folder.url
        self.is_local = self._folder.is_local
        self._scratch_dir = scratch_dir / PARTIAL
        self.quarantine = Quarantine(self._folder)

    def scratch_file(self, generation_id: str) -> Path:
        """A fresh name for a file that is about to be written; two runs never share one."""
        self._folder.make(self._scratch_dir)
        return self._scratch_dir / f"{checked(generation_id)}.{secrets.token_hex(6)}"

    def keep(
        self,
        path: Path,
        *,
        resource: str,
        generation_id: str,
        kind: OutputKind,
        provenance: Mapping[str, Any],
        books: Mapping[str, Any] | None = None,
    ) -> Output:
        """Verify a file and move it into place, durable before this returns.

        Args:
            path: the complete file; gone afterwards.
            resource: the model's resource name.
            generation_id: the generation.
            kind: what was bought.
            provenance: where it came from; written beside it, and inside it where the format takes that.
            books: what the ledger notes of it; written beside it only, for a ledger that has to be rebuilt.

        Raises:
            OutputError: it is not what was bought.
        """
        with files.at_work_on(path, is_durable=self.is_local) as file:
            verified = verify_file(file, kind)
            embed_in(file, verified.format, provenance)
            content_sha256, size = files.digest_of(file)
        name = f"{checked(resource)}/{checked(generation_id)}"
        stored = Output(
            uri=f"{self._url}/{name}.{EXTENSIONS[verified.format]}",
            sha256=content_sha256,
            size_bytes=size,
            format=verified.format,
            width=verified.width,
            height=verified.height,
        )
        # on one line: indented, it takes ten times as long to write
        beside = json.dumps(
            {**provenance, **(books or {}), "output_sha256": content_sha256}, ensure_ascii=False, sort_keys=True
        )
        self._folder.place_sidecar(f"{beside}\n".encode(), f"{self._url}/{name}{SIDECAR}", path)
        self._folder.place(path, stored.uri)
        if self.is_local:
            # the ledger holds the same data, so the sidecar's bytes need not be durable on their own
            files.sync_folder(Path(stored.uri).parent)
        return stored

    def discard(self, path: Path) -> None:
        """Remove a file that is not to be kept."""
        path.unlink(missing_ok=True)

    def check_writable(self) -> None:
        """Find out before anything is bought whether outputs can be kept; a remote folder tells at the first one.

        Raises:
            OutputError: they cannot.
        """
        folders = [self._scratch_dir, *([Path(self._url)] if self.is_local else [])]
        for folder in folders:
            probe = folder / f".{secrets.token_hex(6)}{PARTIAL}"
            try:
                self._folder.make(folder)
                probe.touch()
                probe.unlink()
            except OSError as error:
                raise OutputError(
                    f"Outputs cannot be kept in {folder}: {error}. Nothing was submitted. See to it that this user can "
                    "write there, or set SEGMIND_DATA_DIR or SEGMIND_OUTPUTS_URL to another folder."
                ) from error

    def sweep(self) -> None:
        """Remove what processes that were killed left unfinished, once no process can be writing it any more."""
        oldest = time.time() - _ABANDONED_S
        for path in self._unfinished_files():
            # another run may put it in place meanwhile
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest:
                    path.unlink()

    def find_any(self) -> str | None:
        """The folder, when it holds at least one output."""
        if self.is_local:
            root = Path(self._url)
            outputs = root.glob("*/*") if root.is_dir() else iter(())
            # what lies deeper is in quarantine, and no output
            is_there = any(file.is_file() and not file.name.endswith(SIDECAR) for file in outputs)
            return self._url if is_there else None
        fs, root_path = self._folder.remote()
        return self._url if fs.exists(root_path) and fs.find(root_path, maxdepth=2) else None

    def holds(self, resource: str, generation_id: str) -> bool:
        """Whether an output of a generation was stored here, with its sidecar."""
        stem = f"{self._url}/{checked(resource)}/{checked(generation_id)}"
        # a killed run may leave a sidecar without an output
        exists = self._folder.exists
        return exists(f"{stem}{SIDECAR}") and any(exists(f"{stem}.{ending}") for ending in _FORMATS)

    def kept(self, *, resource: str, generation_id: str, request_id: str) -> tuple[Output, Mapping[str, Any]] | None:
        """The whole output that was stored for a request earlier, with its sidecar; None when there is none."""
        stem = f"{self._url}/{checked(resource)}/{checked(generation_id)}"
        if not self.holds(resource, generation_id):
            return None
        sidecar = self._sidecar(f"{stem}{SIDECAR}")
        if not isinstance(sidecar, dict) or sidecar.get("request_id") != request_id:
            return None
        for extension in _FORMATS:
            with suppress(FileNotFoundError):
                stored = self.examine(f"{stem}.{extension}")
                if stored.sha256 == sidecar.get("output_sha256"):
                    return stored, sidecar
        return None

    def found(self) -> Iterator[FoundOutput]:
        """Every output with its sidecar, and sidecars whose output is gone; other files are ignored."""
        by_generation: defaultdict[tuple[str, str], dict[str, datetime]] = defaultdict(dict)
        for resource, name, written_at in self._names():
            generation_id, ending = (name.removesuffix(SIDECAR), SIDECAR) if name.endswith(SIDECAR) else _split(name)
            if is_safe(resource) and is_safe(generation_id):
                by_generation[resource, generation_id][ending] = written_at
        for (resource, generation_id), endings in sorted(by_generation.items()):
            stem = f"{self._url}/{resource}/{generation_id}"
            sidecar = self._sidecar(f"{stem}{SIDECAR}") if SIDECAR in endings else None
            outputs = [ending for ending in sorted(endings) if ending.removeprefix(".") in _FORMATS]
            for ending in outputs or ([SIDECAR] if SIDECAR in endings else []):
                yield FoundOutput(
                    resource=resource,
                    generation_id=generation_id,
                    uri=None if ending == SIDECAR else f"{stem}{ending}",
                    sidecar=sidecar,
                    written_at=endings[ending],
                )

    def examine(self, uri: str) -> Output:
        """The digest and size of a stored output as it is now; nothing is decoded."""
        form = _FORMATS[uri.rpartition(".")[2]]
        with self._at_hand(uri) as path:
            with path.open("rb") as file:
                content_sha256, size = files.digest_of(file)
            width, height = files.dimensions(path) if form in _PICTURES else (None, None)
        return Output(uri=uri, sha256=content_sha256, size_bytes=size, format=form, width=width, height=height)

    def provenance_inside(self, uri: str) -> dict[str, Any] | None:
        """The provenance embedded in an output, where its format allows that."""
        form = _FORMATS[uri.rpartition(".")[2]]
        if form not in {"png", "jpeg"}:
            return None
        with self._at_hand(uri) as path:
            return read_embedded(path, form)

    def is_sound(self, uri: str, kind: OutputKind) -> bool:
        """Whether a stored output is whole, and of the kind that was bought."""
        with self._at_hand(uri) as path:
            try:
                verify(path, kind)
            except OutputError:
                return False
        return True

    def _unfinished_files(self) -> Iterator[Path]:
        """Files that are still being written or moved."""
        yield from self._scratch_dir.glob("*")
        root = Path(self._url)
        if not self.is_local or not root.is_dir():
            return
        yield from root.glob(f".*{PARTIAL}")
        # beside the outputs only where files had to be copied: listing all outputs takes a while
        if self._scratch_dir.is_dir() and self._scratch_dir.stat().st_dev != root.stat().st_dev:
            yield from root.glob(f"*/.*{PARTIAL}")
            yield from root.glob(f"{QUARANTINE}/*/.*{PARTIAL}")

    def _names(self) -> Iterator[tuple[str, str, datetime]]:
        """Folder, file name and time of every file one folder down."""
        if self.is_local:
            for path in Path(self._url).glob("*/*"):
                if path.is_file():
                    yield path.parent.name, path.name, datetime.fromtimestamp(path.stat().st_mtime, UTC)
            return
        fs, root = self._folder.remote()
        listed = fs.find(root, maxdepth=2, detail=True) if fs.exists(root) else {}
        for full, info in listed.items():
            resource, _, name = full.removeprefix(root).strip("/").partition("/")
            # file systems do not agree on what they call it
            times = (info.get(key) for key in ("LastModified", "last_modified", "updated", "mtime", "created"))
            yield resource, name, next((at for at in times if isinstance(at, datetime)), datetime.now(UTC))

    def _sidecar(self, uri: str) -> Any:
        try:
            with self._at_hand(uri) as path:
                return json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            return None

    @contextmanager
    def _at_hand(self, uri: str) -> Iterator[Path]:
        """A local file with the content of one that may be remote."""
        if self.is_local:
            yield Path(uri)
            return
        fs, _ = self._folder.remote()
        path = self.scratch_file("copy")
        try:
            fs.get_file(fs._strip_protocol(uri), str(path))  # noqa: SLF001  fsspec's documented way to a path
            yield path
        finally:
            self.discard(path)


def _split(name: str) -> tuple[str, str]:
    stem, dot, extension = name.rpartition(".")
    return stem, dot + extension
