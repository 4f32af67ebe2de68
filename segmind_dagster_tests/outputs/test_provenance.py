"""Where an output came from, inside the file, with every pixel as it was."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.media import SOUNDS, mp4, picture
from PIL import Image

from segmind_dagster.outputs.provenance import KEYWORD, embed_in, read_embedded
from segmind_dagster.outputs.verify import verify

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PROVENANCE = {
    "model": "fast-flux-schnell",
    "parameters": {"prompt": 'Ein Bär 🐻 sagt "hallo"\n\0', "seed": 2**63 - 1, "guidance": 1.5, "upscale": True},
    "request_id": "r-1",
    "nothing": None,
}
FORMS = {"png": picture("PNG"), "jpeg": picture("JPEG")}
facts_of_any_kind = st.dictionaries(
    st.text(max_size=10), st.none() | st.booleans() | st.integers() | st.text(max_size=40), max_size=5
)


def embed(path: Path, form: str, provenance: Mapping[str, Any]) -> None:
    with path.open("r+b") as file:
        embed_in(file, form, provenance)


def pixels(content: bytes) -> tuple[str, bytes]:
    with Image.open(io.BytesIO(content)) as image:
        return image.mode, image.tobytes()


@pytest.mark.parametrize(("form", "content"), FORMS.items(), ids=FORMS)
def test_embedded_provenance_is_read_back_and_no_pixel_changes(tmp_path: Path, form: str, content: bytes) -> None:
    path = tmp_path / "picture"
    path.write_bytes(content)
    embed(path, form, PROVENANCE)
    changed = path.read_bytes()
    assert read_embedded(path, form) == PROVENANCE
    assert pixels(changed) == pixels(content)
    assert len(changed) > len(content)
    assert verify(path, "image").format == form


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("size", [(1, 1), (64, 64), (33, 1)])
@pytest.mark.parametrize("form", FORMS)
def test_embedding_only_moves_the_picture_bytes(tmp_path: Path, form: str, size: tuple[int, int], mode: str) -> None:
    content = picture(form.upper(), size, mode)
    path = tmp_path / "picture"
    path.write_bytes(content)
    embed(path, form, PROVENANCE)
    changed = path.read_bytes()
    added = len(changed) - len(content)
    cut = next(n for n in range(len(content) + 1) if content[:n] + changed[n : n + added] + content[n:] == changed)
    assert KEYWORD.encode() in changed[cut : cut + added]


def test_embedded_provenance_is_where_other_programs_look_for_it(tmp_path: Path) -> None:
    for form, content in FORMS.items():
        path = tmp_path / form
        path.write_bytes(content)
        embed(path, form, {"model": "m"})
    with Image.open(tmp_path / "png") as image:
        assert image.info[KEYWORD] == '{"model":"m"}'
    with Image.open(tmp_path / "jpeg") as image:
        assert image.info["comment"] == b'segmind-dagster:{"model":"m"}'


@pytest.mark.parametrize(
    ("form", "content"),
    [("webp", picture("WEBP")), ("gif", picture("GIF")), ("mp4", mp4()), ("mp3", SOUNDS["mp3"]), ("json", b"{}")],
)
def test_a_format_that_would_need_reencoding_is_left_alone(tmp_path: Path, form: str, content: bytes) -> None:
    path = tmp_path / "output"
    path.write_bytes(content)
    embed(path, form, PROVENANCE)
    assert path.read_bytes() == content


@pytest.mark.parametrize(("length", "fits"), [(65_000, True), (66_000, False)])
def test_provenance_too_long_for_a_jpeg_is_only_in_the_sidecar(tmp_path: Path, length: int, fits: bool) -> None:
    path = tmp_path / "picture"
    path.write_bytes(FORMS["jpeg"])
    provenance = {"prompt": "x" * length}
    embed(path, "jpeg", provenance)
    assert read_embedded(path, "jpeg") == (provenance if fits else None)
    assert pixels(path.read_bytes()) == pixels(FORMS["jpeg"])


@pytest.mark.parametrize(("form", "content"), FORMS.items(), ids=FORMS)
def test_a_picture_without_provenance_reads_as_none(tmp_path: Path, form: str, content: bytes) -> None:
    path = tmp_path / "picture"
    path.write_bytes(content)
    assert read_embedded(path, form) is None


def test_a_foreign_comment_is_not_read_as_provenance(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG", comment=b"made by hand")
    path = tmp_path / "picture"
    path.write_bytes(buffer.getvalue())
    assert read_embedded(path, "jpeg") is None
    embed(path, "jpeg", PROVENANCE)
    assert read_embedded(path, "jpeg") == PROVENANCE


@given(provenance=facts_of_any_kind, form=st.sampled_from(sorted(FORMS)))
def test_any_provenance_survives_the_round_trip(tmp_path: Path, provenance: dict[str, Any], form: str) -> None:
    path = tmp_path / "picture"
    path.write_bytes(FORMS[form])
    embed(path, form, provenance)
    assert read_embedded(path, form) == provenance
