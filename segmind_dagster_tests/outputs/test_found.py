"""What the store finds again of what it kept: outputs with their sidecars, here and on a remote file system."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import fsspec
import pytest
from lab.media import mp4, picture

from segmind_dagster.outputs import OutputStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from segmind_dagster.lifecycle.generation import Output
    from segmind_dagster.registry import OutputKind

PROVENANCE = {"generation_id": "g-1", "model": "fast-flux-schnell"}


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OutputStore]:
    if request.param == "local":
        yield OutputStore(str(tmp_path / "outputs"), scratch_dir=tmp_path)
        return
    url = f"memory://bucket-{secrets.token_hex(4)}/outputs"
    yield OutputStore(url, scratch_dir=tmp_path)
    if fsspec.filesystem("memory").exists(url):
        fsspec.filesystem("memory").rm(url, recursive=True)


def keep(store: OutputStore, content: bytes, generation_id: str = "g-1", kind: OutputKind = "image") -> Output:
    path = store.scratch_file(generation_id)
    path.write_bytes(content)
    return store.keep(
        path,
        resource="fast_flux",
        generation_id=generation_id,
        kind=kind,
        provenance=PROVENANCE,
        books={"cost_usd": "0.1"},
    )


def test_quarantined_files_are_not_outputs(store: OutputStore) -> None:
    path = store.scratch_file("g-1")
    path.write_bytes(picture("PNG"))
    store.quarantine.put(path, resource="fast_flux", generation_id="g-1", attempt=1, sidecar=PROVENANCE)
    assert list(store.found()) == []
    assert store.find_any() is None
    assert not store.holds("fast_flux", "g-1")
    store.sweep()
    assert len(store.quarantine.found()) == 1


def test_an_empty_or_missing_folder_holds_nothing(store: OutputStore) -> None:
    assert list(store.found()) == []


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (picture("PNG"), "image"),
        (picture("JPEG"), "image"),
        (picture("WEBP"), "image"),
        (mp4(), "video"),
        (b'{"choices": []}', "text"),
        (b"words", "text"),
    ],
)
def test_stored_outputs_are_found_unchanged(store: OutputStore, content: bytes, kind: OutputKind) -> None:
    stored = keep(store, content, kind=kind)
    (found,) = store.found()
    assert (found.resource, found.generation_id, found.uri) == ("fast_flux", "g-1", stored.uri)
    assert found.sidecar == {**PROVENANCE, "cost_usd": "0.1", "output_sha256": stored.sha256}
    assert store.examine(stored.uri) == stored
    assert store.is_sound(stored.uri, kind)
    assert store.provenance_inside(stored.uri) == (PROVENANCE if stored.format in {"png", "jpeg"} else None)
    assert found.written_at.tzinfo is not None


def test_each_output_is_found_once_and_in_order(store: OutputStore) -> None:
    for number in range(5):
        keep(store, picture("PNG"), f"g-{number}")
    assert [found.generation_id for found in store.found()] == [f"g-{number}" for number in range(5)]


def test_sidecars_without_outputs_and_outputs_without_sidecars_are_found(tmp_path: Path) -> None:
    store = OutputStore(str(tmp_path / "outputs"), scratch_dir=tmp_path)
    Path(keep(store, picture("PNG"), "gone").uri).unlink()
    Path(keep(store, picture("PNG"), "bare").uri).with_suffix(".facts.json").unlink()
    found = {each.generation_id: each for each in store.found()}
    assert (found["gone"].uri, found["gone"].sidecar["model"]) == (None, "fast-flux-schnell")
    assert (found["bare"].uri is None, found["bare"].sidecar) == (False, None)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000])
def test_a_sidecar_that_is_not_json_reads_as_missing(tmp_path: Path, content: bytes) -> None:
    store = OutputStore(str(tmp_path / "outputs"), scratch_dir=tmp_path)
    Path(keep(store, picture("PNG")).uri).with_suffix(".facts.json").write_bytes(content)
    (found,) = store.found()
    assert found.sidecar is None


def test_bytes_that_changed_have_another_digest_and_broken_ones_are_not_sound(tmp_path: Path) -> None:
    store = OutputStore(str(tmp_path / "outputs"), scratch_dir=tmp_path)
    stored = keep(store, picture("JPEG"))
    path = Path(stored.uri)
    path.write_bytes(path.read_bytes()[:-30])
    assert store.examine(stored.uri).sha256 != stored.sha256
    assert not store.is_sound(stored.uri, "image")


def test_foreign_files_are_ignored(tmp_path: Path) -> None:
    store = OutputStore(str(tmp_path / "outputs"), scratch_dir=tmp_path)
    keep(store, picture("PNG"))
    folder = tmp_path / "outputs" / "fast_flux"
    for name in ("notes.md", ".hidden.png", "a b.png", "noext", "g-1.png.bak", ".g-2.x.partial"):
        (folder / name).write_bytes(b"mine")
    (tmp_path / "outputs" / "top.png").write_bytes(b"mine")
    (folder / "deeper").mkdir()
    (folder / "deeper" / "g-3.png").write_bytes(b"mine")
    assert [found.generation_id for found in store.found()] == ["g-1"]
