"""The quarantine: refused bytes as they came, once each, under names of our own, in a folder or a bucket."""

from __future__ import annotations

import hashlib
import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from lab.media import HTML, mp4, picture

from segmind_dagster.errors import OutputError
from segmind_dagster.outputs import OutputStore, Quarantined

if TYPE_CHECKING:
    from collections.abc import Iterator

SVG = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>'
SIDECAR = {"generation_id": "g-1", "reason": "bytes of no known format"}


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OutputStore]:
    if request.param == "local":
        yield OutputStore(str(tmp_path / "outputs"), scratch_dir=tmp_path)
        return
    url = f"memory://bucket-{secrets.token_hex(4)}/outputs"
    yield OutputStore(url, scratch_dir=tmp_path)
    if fsspec.filesystem("memory").exists(url):
        fsspec.filesystem("memory").rm(url, recursive=True)


def put(store: OutputStore, content: bytes, **options: Any) -> Quarantined:
    path = store.scratch_file("g-1")
    path.write_bytes(content)
    wanted = {"resource": "fast_flux", "generation_id": "g-1", "attempt": 1, "sidecar": SIDECAR, **options}
    quarantined = store.quarantine.put(path, **wanted)
    assert not path.exists()
    return quarantined


def read(uri: str) -> bytes:
    with fsspec.open(uri, "rb") as file:
        content: bytes = file.read()
    return content


@pytest.mark.parametrize(
    ("content", "extension"),
    [
        (b"", "bin"),
        (secrets.token_bytes(4000), "bin"),
        (HTML, "txt"),
        (b"words\n" * 1000, "txt"),
        (("\u00f6" * 400).encode(), "txt"),
        (SVG, "svg"),
        (b"  <svg/>", "svg"),
        (b"<html><svg/></html>", "txt"),
        (b'{"error": "internal"}', "json"),
        (picture("JPEG")[:-20], "jpg"),
        (picture("PNG")[:60], "png"),
        (mp4()[:20], "mp4"),
    ],
)
def test_refused_bytes_are_kept_unchanged_with_a_guessed_extension(
    store: OutputStore, content: bytes, extension: str
) -> None:
    quarantined = put(store, content)
    digest = hashlib.sha256(content).hexdigest()
    assert quarantined.uri == f"{store.quarantine.url}/fast_flux/g-1.1.{digest[:12]}.{extension}"
    assert read(quarantined.uri) == content
    sidecar = json.loads(read(quarantined.uri.removesuffix(f".{extension}") + ".facts.json"))
    assert sidecar == {**SIDECAR, "output_sha256": digest, "output_bytes": len(content)}
    assert store.quarantine.found() == [quarantined]


def test_equal_bytes_of_an_attempt_are_kept_once_and_different_ones_all(store: OutputStore) -> None:
    first, again, other = put(store, HTML), put(store, HTML, sidecar={"reason": "once more"}), put(store, SVG)
    of_next_attempt = put(store, HTML, attempt=2)
    assert first == again
    assert len({first.uri, other.uri, of_next_attempt.uri}) == 3
    assert len(store.quarantine.found()) == 3
    assert json.loads(read(first.uri.removesuffix(".txt") + ".facts.json"))["reason"] == SIDECAR["reason"]


def test_the_files_of_one_model_are_listed_without_those_of_others(store: OutputStore) -> None:
    mine = put(store, HTML)
    put(store, HTML, resource="wan_t2v", generation_id="g-2")
    assert store.quarantine.found("fast_flux") == [mine]
    assert store.quarantine.found("nano_banana") == []
    assert (mine.resource, mine.generation_id, mine.attempt, mine.size_bytes) == ("fast_flux", "g-1", 1, len(HTML))


@pytest.mark.parametrize("name", ["../evil", "a/b", ".hidden", "a.b", "", "a\0"])
@pytest.mark.parametrize("field", ["resource", "generation_id"])
def test_a_name_outside_the_quarantine_is_refused_and_the_bytes_stay(tmp_path: Path, field: str, name: str) -> None:
    store = OutputStore(str(tmp_path / "outputs"), scratch_dir=tmp_path)
    path = store.scratch_file("g-1")
    path.write_bytes(HTML)
    wanted: dict[str, Any] = {"resource": "fast_flux", "generation_id": "g-1", field: name}
    with pytest.raises(OutputError, match="file name"):
        store.quarantine.put(path, attempt=1, sidecar=SIDECAR, **wanted)
    assert path.read_bytes() == HTML


def test_the_quarantine_sidecar_is_written_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = OutputStore(str(tmp_path / "outputs"), scratch_dir=tmp_path)
    beside: list[str] = []
    rename = Path.replace

    def record(self: Path, target: Path) -> Path:
        beside.extend(path.name for path in target.parent.iterdir())
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", record)
    put(store, HTML)
    assert [name.split(".", 3)[-1] for name in beside] == ["facts.json"]


def test_foreign_files_in_quarantine_are_not_counted(tmp_path: Path) -> None:
    store = OutputStore(str(tmp_path / "outputs"), scratch_dir=tmp_path)
    folder = Path(store.quarantine.url, "fast_flux")
    (folder / "deeper").mkdir(parents=True)
    for name in ("notes.txt", "g-1.x.abc.bin", ".g-1.1.abc.bin", "g-1.1.abc.facts.json", ".a.partial"):
        (folder / name).write_bytes(b"x")
    assert store.quarantine.found() == []
    assert store.find_any() is None
