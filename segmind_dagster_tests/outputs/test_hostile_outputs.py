"""Bytes made to deceive, to explode or to break whoever opens them: refused by name, at no cost in memory."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab import FOLDER
from lab.media import HTML, JSON_ERROR, SOUNDS, WEBM, box, mp4, picture
from PIL import Image

from segmind_dagster.errors import OutputError
from segmind_dagster.outputs import OutputStore
from segmind_dagster.outputs import provenance as provenance_of
from segmind_dagster.outputs import verify as verification
from segmind_dagster.outputs.verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterator

    from segmind_dagster.registry import OutputKind

KINDS: tuple[OutputKind, ...] = ("image", "video", "audio", "text")
SAMPLES: dict[str, tuple[bytes, set[str]]] = {
    "png": (picture("PNG"), {"image"}),
    "jpeg": (picture("JPEG"), {"image"}),
    "webp": (picture("WEBP"), {"image"}),
    "gif": (picture("GIF"), {"image", "video"}),
    "mp4": (mp4(), {"video", "audio"}),
    "webm": (WEBM, {"video"}),
    "mp3": (SOUNDS["mp3"], {"audio"}),
    "wav": (SOUNDS["wav"], {"audio"}),
    "ogg": (SOUNDS["ogg"], {"audio"}),
    "flac": (SOUNDS["flac"], {"audio"}),
    "json": (b'{"choices": []}', {"text"}),
    "words": (b"once upon a time", {"text"}),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>', {"text"}),
    "html": (HTML, set()),
    "html behind a byte order mark": (b"\xef\xbb\xbf" + HTML, set()),
    "an error of the API": (JSON_ERROR, {"text"}),
    "nothing": (b"", set()),
    "a Windows program": (b"MZ\x90\0" + b"\0" * 60 + b"PE\0\0", set()),
    "an archive": (b"PK\x03\x04" + b"\0" * 60, set()),
    "a TIFF": (b"II*\0" + b"\0" * 60, set()),
    "a BMP": (picture("BMP"), set()),
}  # fmt: skip
# of these, the store may take what is UTF-8 for a text
TEXT_ALL_THE_SAME = {"a Windows program", "an archive", "a TIFF", "a BMP", "webm", "mp3", "wav", "ogg", "flac", "mp4"}

facts_of_any_kind = st.dictionaries(
    st.text(max_size=10), st.none() | st.booleans() | st.integers() | st.text(max_size=40), max_size=5
)
NASTY = {
    "prompt": 'Ein Bär 🐻‍❄️ sagt "hallo"\r\n\0\x1b[31m\u202e\ufeff',
    "segmind-dagster:": "--><!--",
    "seed": -(2**63),
}


@pytest.fixture
def store(tmp_path: Path) -> OutputStore:
    return OutputStore(str(tmp_path / "outputs"), scratch_dir=tmp_path)


def on_its_way(store: OutputStore, content: bytes) -> Path:
    path = store.scratch_file("g-1")
    path.write_bytes(content)
    return path


def refusal(store: OutputStore, content: bytes, kind: OutputKind) -> OutputError:
    path = on_its_way(store, content)
    with pytest.raises(OutputError) as raised:
        store.keep(path, resource="model", generation_id="g-1", kind=kind, provenance={})
    store.discard(path)
    assert store.find_any() is None
    return raised.value


def frames(form: str, count: int, size: tuple[int, int] = (8, 8)) -> bytes:
    pictures = [Image.new("RGB", size, (n % 256, n // 256, 7)) for n in range(count)]
    buffer = io.BytesIO()
    pictures[0].save(buffer, form, save_all=True, append_images=pictures[1:])
    return buffer.getvalue()


def jpeg_of_claimed_size(width: int, height: int) -> bytes:
    content = bytearray(picture("JPEG", (16, 16)))
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(content)


@contextmanager
def room_for(size_bytes: int) -> Iterator[None]:
    """As on a full disk, no file of this process grows beyond this size."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SAMPLES)
def test_each_kind_takes_its_own_formats_and_no_other(store: OutputStore, name: str, kind: OutputKind) -> None:
    content, welcome = SAMPLES[name]
    if kind in welcome:
        path = on_its_way(store, content)
        stored = store.keep(path, resource="model", generation_id="g-1", kind=kind, provenance={})
        assert Path(stored.uri).is_file()
    elif not (kind == "text" and name in TEXT_ALL_THE_SAME):
        assert refusal(store, content, kind).reason


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 5000 + b"]" * 5000])
def test_deeply_nested_json_is_refused(store: OutputStore, content: bytes) -> None:
    error = refusal(store, content, "text")
    assert "nested" in error.reason
    assert error.is_permanent


def test_a_text_larger_than_any_answer_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "long"
    with path.open("wb") as file:
        file.truncate(verification.MAX_TEXT_BYTES + 1)
    with pytest.raises(OutputError, match="more than") as raised:
        verify(path, "text")
    assert raised.value.is_permanent


@pytest.mark.parametrize(("width", "height"), [(9999, 9999), (65_500, 1500), (1000, 65_500)])
def test_a_few_bytes_cannot_be_a_jpeg_of_millions_of_pixels(store: OutputStore, width: int, height: int) -> None:
    content = jpeg_of_claimed_size(width, height)
    began = time.process_time()
    assert f"{width}x{height}" in refusal(store, content, "image").reason
    assert time.process_time() - began < 0.5


def test_a_maximally_compressed_jpeg_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "even"
    Image.new("L", (4000, 4000)).save(path, "JPEG", quality=1, progressive=True, optimize=True)
    assert verify(path, "image").width == 4000


@pytest.mark.parametrize("form", ["PNG", "GIF", "WEBP"])
def test_a_picture_of_many_frames_is_verified_by_its_first(store: OutputStore, form: str) -> None:
    path = on_its_way(store, frames(form, 300))
    began = time.process_time()
    stored = store.keep(path, resource="model", generation_id="g-1", kind="image", provenance=NASTY)
    assert time.process_time() - began < 1
    assert (stored.width, stored.height) == (8, 8)
    with Image.open(stored.uri) as kept:
        assert kept.n_frames > 50, "alike frames may have been joined"


@pytest.mark.parametrize(
    ("form", "at", "field"),
    [("GIF", 6, struct.pack("<HH", 60_000, 60_000)), ("PNG", 16, struct.pack(">II", 60_000, 60_000))],
)
def test_many_frames_on_an_oversized_canvas_are_refused(store: OutputStore, form: str, at: int, field: bytes) -> None:
    content = bytearray(frames(form, 3))
    content[at : at + len(field)] = field
    assert refusal(store, bytes(content), "image").reason


@pytest.mark.parametrize(
    "content",
    [
        box(b"ftyp", b"isom"),
        box(b"ftyp", b"isom") + box(b"mdat", b"d" * 100),
        box(b"ftyp", b"isom") + struct.pack(">I", 0) + b"mdat" + b"d" * 100,
        box(b"ftyp", b"isom") + box(b"free", b"moov" * 10) + box(b"mdat", b"moov" * 10),
    ],
    ids=["a head alone", "media alone", "media to the end", "the word alone"],
)
@pytest.mark.parametrize("kind", ["video", "audio"])
def test_a_video_without_its_index_is_refused(store: OutputStore, content: bytes, kind: OutputKind) -> None:
    assert "index" in refusal(store, content, kind).reason


@pytest.mark.parametrize("length", [0, 1, 7, 15, 2**63, 2**64 - 1])
def test_a_64_bit_box_of_impossible_length_ends_parsing(store: OutputStore, length: int) -> None:
    content = box(b"ftyp", b"isom") + struct.pack(">I", 1) + b"moov" + struct.pack(">Q", length) + b"x" * 40
    assert refusal(store, content, "video").reason


@pytest.mark.parametrize("content", [b"GIF89a", b"GIF89a" + b"\xff" * 50, picture("GIF")[:-30]])
def test_a_gif_bought_as_a_video_is_decoded_as_well(store: OutputStore, content: bytes) -> None:
    assert "does not decode" in refusal(store, content, "video").reason


@pytest.mark.parametrize(
    ("form", "kind", "is_inside"),
    [
        ("png", "image", True),
        ("jpeg", "image", True),
        ("webp", "image", False),
        ("gif", "image", False),
        ("mp4", "video", False),
        ("json", "text", False),
    ],
)
@given(provenance=facts_of_any_kind)
def test_any_provenance_is_read_back_from_sidecar_and_output(
    store: OutputStore, form: str, kind: OutputKind, *, is_inside: bool, provenance: dict[str, Any]
) -> None:
    content = SAMPLES[form][0]
    for each in (provenance, NASTY):
        stored = store.keep(on_its_way(store, content), resource="m", generation_id="g-1", kind=kind, provenance=each)
        kept = Path(stored.uri)
        beside = json.loads(kept.with_suffix(".facts.json").read_text(encoding="utf-8"))
        assert beside == {**each, "output_sha256": stored.sha256}
        assert stored.format == form
        if is_inside:
            assert provenance_of.read_embedded(kept, form) == each
            with Image.open(io.BytesIO(content)) as before, Image.open(kept) as after:
                assert (after.mode, after.tobytes()) == (before.mode, before.tobytes())
        else:
            assert kept.read_bytes() == content


def test_embedding_keeps_every_frame_of_an_animated_png(store: OutputStore) -> None:
    content = frames("PNG", 5)
    stored = store.keep(on_its_way(store, content), resource="m", generation_id="g-1", kind="image", provenance=NASTY)
    with Image.open(io.BytesIO(content)) as before, Image.open(stored.uri) as after:
        for number in range(5):
            before.seek(number)
            after.seek(number)
            assert before.tobytes() == after.tobytes()


def test_an_output_refused_by_a_full_disk_leaves_no_file(store: OutputStore, tmp_path: Path) -> None:
    path = on_its_way(store, picture("PNG", (200, 200)))
    content = path.read_bytes()
    with room_for(len(content)), pytest.raises(OSError, match="large"):
        store.keep(path, resource="m", generation_id="g-1", kind="image", provenance=NASTY)
    assert store.find_any() is None
    path.write_bytes(content)
    stored = store.keep(path, resource="m", generation_id="g-1", kind="image", provenance=NASTY)
    assert provenance_of.read_embedded(Path(stored.uri), "png") == NASTY
    assert not any((tmp_path / ".partial").iterdir())


MEASURED = {
    "a picture of 81 million pixels": """
        from PIL import Image, JpegImagePlugin
        maker = subprocess.run([sys.executable, "-c", (
            "import sys; from PIL import Image; Image.linear_gradient('L').resize((9000, 9000)).convert('RGB')"
            ".save(sys.argv[1], 'JPEG')"), str(path)], check=True)
        kind = "image"
    """,
    "a video of 300 MB": """
        with path.open("wb") as file:
            file.write(box(b"ftyp", b"isom") + box(b"moov", b"m" * 60) + (300 << 20).to_bytes(4, "big") + b"mdat")
            file.truncate(file.tell() + (300 << 20) - 8)
        kind = "video"
    """,
    "a picture with 300 MB behind its end": """
        path.write_bytes(picture("JPEG"))
        with path.open("r+b") as file:
            file.truncate(300 << 20)
        kind = "image"
    """,
}


@pytest.mark.parametrize("what", MEASURED)
def test_memory_does_not_grow_with_output_size(tmp_path: Path, what: str) -> None:
    import textwrap

    program = f"""
import subprocess, sys
from pathlib import Path
sys.path.insert(0, {str(FOLDER)!r})
from lab.media import box, picture
from segmind_dagster.outputs import OutputStore
from segmind_dagster.outputs.verify import verify
def peak_mb():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
store = OutputStore({str(tmp_path / "outputs")!r}, scratch_dir=Path({str(tmp_path)!r}))
warm = store.scratch_file("g-0")
warm.write_bytes(picture("JPEG"))
store.keep(warm, resource="m", generation_id="g-0", kind="image", provenance={{"a": 1}})
path = store.scratch_file("g-1")
{textwrap.dedent(MEASURED[what])}
before = peak_mb()
stored = store.keep(path, resource="m", generation_id="g-1", kind=kind, provenance={{"a": 1}})
print(peak_mb() - before, stored.size_bytes)
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    grown_mb, size_bytes = map(float, told.stdout.split())
    assert size_bytes > 500_000
    assert grown_mb < 40
