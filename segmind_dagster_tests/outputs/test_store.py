"""The store: a good name means whole, verified bytes, and nothing from outside becomes part of a path."""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from lab.media import HTML, mp4, picture

from segmind_dagster.errors import OutputError
from segmind_dagster.outputs import OutputStore
from segmind_dagster.outputs.provenance import read_embedded
from segmind_dagster.outputs.verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterator

    from segmind_dagster.lifecycle.generation import Output
    from segmind_dagster.registry import OutputKind

PROVENANCE = {"model": "fast-flux-schnell", "parameters": {"prompt": "Ein Bär"}, "request_id": "r-1"}


@pytest.fixture
def store(tmp_path: Path) -> OutputStore:
    return OutputStore(str(tmp_path / "outputs"), scratch_dir=tmp_path)


@pytest.fixture
def remote() -> Iterator[str]:
    url = f"memory://bucket-{secrets.token_hex(4)}/outputs"
    yield url
    fsspec.filesystem("memory").rm(url, recursive=True)


def keep(
    store: OutputStore, content: bytes, generation_id: str = "g-1", kind: OutputKind = "image", **provenance: Any
) -> Output:
    path = store.scratch_file(generation_id)
    path.write_bytes(content)
    return store.keep(
        path, resource="fast_flux", generation_id=generation_id, kind=kind, provenance={**PROVENANCE, **provenance}
    )


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("content", "kind", "extension"),
    [
        (picture("PNG"), "image", "png"),
        (picture("JPEG"), "image", "jpg"),
        (picture("WEBP"), "image", "webp"),
        (mp4(), "video", "mp4"),
        (b'{"choices": []}', "text", "json"),
        (b"words", "text", "txt"),
    ],
)
def test_an_output_is_named_by_its_generation_and_its_bytes(
    store: OutputStore, tmp_path: Path, content: bytes, kind: Any, extension: str
) -> None:
    stored = keep(store, content, kind=kind)
    assert stored.uri == str(tmp_path / "outputs" / "fast_flux" / f"g-1.{extension}")
    assert files(tmp_path) == ["outputs/fast_flux/g-1.facts.json", f"outputs/fast_flux/g-1.{extension}"]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_digest_and_size_are_those_of_the_stored_bytes(store: OutputStore, form: str) -> None:
    stored = keep(store, picture(form))
    content = Path(stored.uri).read_bytes()
    assert stored.sha256 == hashlib.sha256(content).hexdigest()
    assert stored.size_bytes == len(content)
    assert (stored.width, stored.height, stored.format) == (40, 30, form.lower())
    assert verify(Path(stored.uri), "image").width == 40


def test_provenance_is_in_the_sidecar_and_in_the_output(store: OutputStore) -> None:
    stored = keep(store, picture("PNG"), seed=7)
    sidecar = Path(stored.uri).with_suffix(".facts.json")
    assert json.loads(sidecar.read_text(encoding="utf-8")) == {**PROVENANCE, "seed": 7, "output_sha256": stored.sha256}
    assert read_embedded(Path(stored.uri), "png") == {**PROVENANCE, "seed": 7}
    assert "Bär" in sidecar.read_text(encoding="utf-8")


@pytest.mark.parametrize("content", [HTML, b"", picture("JPEG")[:-20], mp4()])
def test_a_refused_output_is_not_stored(store: OutputStore, tmp_path: Path, content: bytes) -> None:
    path = store.scratch_file("g-1")
    path.write_bytes(content)
    with pytest.raises(OutputError):
        store.keep(path, resource="fast_flux", generation_id="g-1", kind="image", provenance=PROVENANCE)
    assert not (tmp_path / "outputs").exists()
    store.discard(path)
    store.discard(path)
    assert files(tmp_path) == []
    assert store.find_any() is None


def test_an_output_stored_twice_exists_once(store: OutputStore, tmp_path: Path) -> None:
    first, second = keep(store, picture("PNG")), keep(store, picture("PNG"))
    assert first == second
    assert len(files(tmp_path)) == 2


@pytest.mark.parametrize(
    "name", ["", "../evil", "a/b", "a\\b", ".hidden", "a.b", "-flag", "a b", "a\0", "ä", "a\n", "/etc/passwd"]
)
def test_a_name_that_could_leave_the_folder_is_refused(store: OutputStore, tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="file name") as raised:
        store.scratch_file(name)
    assert raised.value.is_permanent
    path = store.scratch_file("g-1")
    for resource, generation_id in ((name, "g-1"), ("fast_flux", name)):
        path.write_bytes(picture("PNG"))
        with pytest.raises(OutputError, match="file name"):
            store.keep(path, resource=resource, generation_id=generation_id, kind="image", provenance=PROVENANCE)
    assert not (tmp_path / "outputs").exists()


def test_two_runs_never_share_a_temporary_file(store: OutputStore) -> None:
    assert len({store.scratch_file("g-1") for _ in range(200)}) == 200


def test_a_reader_sees_complete_bytes_while_an_output_is_replaced(store: OutputStore) -> None:
    contents = [picture("PNG", (300, 200)), picture("PNG", (200, 300))]
    uri = Path(keep(store, contents[0]).uri)
    whole = {keep(store, content).sha256 for content in contents}
    seen: set[str] = set()
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.is_set():
            seen.add(hashlib.sha256(uri.read_bytes()).hexdigest())

    reader = threading.Thread(target=watch)
    reader.start()
    for _ in range(15):
        for content in contents:
            keep(store, content)
    is_over.set()
    reader.join()
    assert seen
    assert seen <= whole


def test_the_sidecar_is_written_before_the_output(
    store: OutputStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside: dict[str, list[str]] = {}
    rename = Path.replace

    def record(self: Path, target: Path) -> Path:
        beside[target.name] = [path.name for path in target.parent.iterdir()]
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", record)
    keep(store, picture("PNG"))
    assert beside["g-1.png"] == ["g-1.facts.json"]


def test_a_folder_that_holds_an_output_is_found_and_an_empty_one_is_not(store: OutputStore, tmp_path: Path) -> None:
    assert store.find_any() is None
    (tmp_path / "outputs" / "fast_flux").mkdir(parents=True)
    assert store.find_any() is None
    stored = keep(store, picture("PNG"))
    assert store.find_any() == str(tmp_path / "outputs")
    Path(stored.uri).unlink()
    assert store.find_any() is None, "a sidecar without an output is no output"


def test_outputs_can_be_stored_at_any_fsspec_url(remote: str, tmp_path: Path) -> None:
    store = OutputStore(f"{remote}/", scratch_dir=tmp_path)
    assert store.find_any() is None
    stored = keep(store, picture("JPEG"))
    assert stored.uri == f"{remote}/fast_flux/g-1.jpg"
    with fsspec.open(stored.uri, "rb") as file:
        content = file.read()
    assert stored.sha256 == hashlib.sha256(content).hexdigest()
    with fsspec.open(f"{remote}/fast_flux/g-1.facts.json") as file:
        assert json.load(file)["output_sha256"] == stored.sha256
    assert store.find_any() == remote
    assert files(tmp_path) == []


def test_a_refused_output_never_reaches_the_remote_store(remote: str, tmp_path: Path) -> None:
    store = OutputStore(remote, scratch_dir=tmp_path)
    with pytest.raises(OutputError):
        keep(store, HTML)
    assert store.find_any() is None
    keep(store, picture("JPEG"))


def test_outputs_in_a_bucket_have_content_types(s3_bucket: str, tmp_path: Path) -> None:
    store = OutputStore(f"{s3_bucket}/outputs", scratch_dir=tmp_path)
    stored = keep(store, picture("JPEG"))
    fs, path = fsspec.core.url_to_fs(stored.uri)
    assert fs.info(path)["ContentType"] == "image/jpeg"
    assert fs.info(path.replace(".jpg", ".facts.json"))["ContentType"] == "application/json"
    assert [each.name for each in (tmp_path / ".partial").iterdir()] == []
