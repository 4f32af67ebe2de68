"""Which bytes may be stored under a good name, and what is said of those that may not."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.media import HTML, JSON_ERROR, SOUNDS, WEBM, box, mp4, picture, png_of_claimed_size

from segmind_dagster.errors import OutputError
from segmind_dagster.outputs import verify as verification
from segmind_dagster.outputs.verify import EXTENSIONS, Verified, sniff, verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from segmind_dagster.registry import OutputKind

    Check = Callable[[bytes, OutputKind], Verified]

PNG, JPEG, WEBP, GIF = (picture(form) for form in ("PNG", "JPEG", "WEBP", "GIF"))

# where the boxes of `mp4()` begin and end
MP4_BOXES = ((0, 24), (24, 92), (92, 113), (113, 321))


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Verifies bytes in a file without a telling name."""

    def checked(content: bytes, kind: OutputKind) -> Verified:
        path = tmp_path / "output"
        path.write_bytes(content)
        return verify(path, kind)

    return checked


def refusal(check: Check, content: bytes, kind: OutputKind) -> OutputError:
    with pytest.raises(OutputError) as raised:
        check(content, kind)
    return raised.value


@pytest.mark.parametrize(
    ("content", "form"),
    [(PNG, "png"), (JPEG, "jpeg"), (WEBP, "webp"), (GIF, "gif")],
    ids=["png", "jpeg", "webp", "gif"],
)
def test_a_whole_picture_is_accepted_with_its_size(check: Check, content: bytes, form: str) -> None:
    assert check(content, "image") == Verified(form, 40, 30)


@pytest.mark.parametrize(
    ("content", "kind", "form"),
    [
        (mp4(), "video", "mp4"),
        (WEBM, "video", "webm"),
        (GIF, "video", "gif"),
        (mp4(), "audio", "mp4"),
        *((content, "audio", form) for form, content in SOUNDS.items()),
        (b'{"choices": [{"message": {"content": "Hi"}}]}', "text", "json"),
        ("Ein Bär an der Spree\n".encode(), "text", "txt"),
    ],
)
def test_other_media_are_accepted_by_their_signature(check: Check, content: bytes, kind: OutputKind, form: str) -> None:
    assert check(content, kind) == Verified(form)


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (b"", "image", "no bytes at all"),
        (HTML, "image", "an HTML page"),
        (HTML.replace(b"DOCTYPE", b"doctype"), "image", "an HTML page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "image", "an HTML page"),
        (JSON_ERROR, "image", "a JSON answer"),
        (b"just words", "image", "no known format"),
        (bytes(200), "image", "no known format"),
        (mp4(), "image", "mp4 bytes where image was bought"),
        (JPEG, "video", "jpeg bytes where video was bought"),
        (PNG, "audio", "png bytes where audio was bought"),
        (SOUNDS["mp3"], "video", "mp3 bytes where video was bought"),
        (b"\xff\xd8\xff" + b"\0" * 100, "image", "does not decode"),
        (PNG[:8] + b"nonsense" * 20, "image", "does not decode"),
        (b"GIF89a" + b"\0" * 3, "image", "does not decode"),
        (HTML, "video", "an HTML page"),
        (JSON_ERROR, "audio", "a JSON answer"),
        (b"", "text", "an empty answer"),
        (b" \n\t", "text", "an empty answer"),
        (b"\xff\xfe\x00", "text", "not UTF-8"),
        (HTML, "text", "an HTML page"),
    ],
)
def test_an_output_of_another_kind_is_refused_with_its_format(
    check: Check, content: bytes, kind: OutputKind, words: str
) -> None:
    error = refusal(check, content, kind)
    assert words in error.reason
    assert not error.is_permanent


@pytest.mark.parametrize("content", [JPEG, WEBP], ids=["jpeg", "webp"])
def test_a_picture_cut_anywhere_is_refused(check: Check, content: bytes) -> None:
    for length in (*range(1, len(content), 37), len(content) - 1):
        refusal(check, content[:length], "image")


@pytest.mark.parametrize("content", [PNG, GIF], ids=["png", "gif"])
def test_a_picture_that_lost_pixels_is_refused(check: Check, content: bytes) -> None:
    for length in range(1, len(content) - 30, 41):
        refusal(check, content[:length], "image")


def test_a_picture_whose_pixels_are_noise_is_refused(check: Check) -> None:
    assert "does not decode" in refusal(check, PNG[:60] + bytes(len(PNG) - 60), "image").reason


@pytest.mark.parametrize(
    ("width", "height", "words"),
    [
        (10_001, 10_000, "at most 100000000"),
        (65_000, 65_000, "decompression bomb"),
        (2**31 - 1, 2**31 - 1, "decompression bomb"),
    ],
)
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(
    check: Check, width: int, height: int, words: str
) -> None:
    error = refusal(check, png_of_claimed_size(width, height), "image")
    assert words in error.reason
    assert error.is_permanent


def test_a_picture_of_exactly_the_allowed_pixels_is_accepted(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "MAX_PIXELS", 1200)
    assert check(PNG, "image").width == 40
    monkeypatch.setattr(verification, "MAX_PIXELS", 1199)
    assert refusal(check, PNG, "image").is_permanent


def test_a_video_cut_within_a_box_is_refused(check: Check) -> None:
    content = mp4()
    assert check(content, "video").format == "mp4"
    for length in range(16, len(content)):
        if any(start + 8 <= length < end for start, end in MP4_BOXES):
            assert "breaks off" in refusal(check, content[:length], "video").reason


@pytest.mark.parametrize(
    "length", [7, 9999, 2**32 - 1], ids=["shorter than its header", "beyond the end", "negative were it signed"]
)
def test_a_video_with_a_box_of_impossible_length_is_refused(check: Check, length: int) -> None:
    content = box(b"ftyp", b"isom") + struct.pack(">I", length) + b"mdat" + b"d" * 100
    assert "breaks off after 12 of 120 bytes" in refusal(check, content, "video").reason


def test_the_last_box_of_a_video_may_reach_to_the_end_of_the_file(check: Check) -> None:
    content = box(b"ftyp", b"isom") + box(b"moov", b"m") + struct.pack(">I", 0) + b"mdat" + b"d" * 100
    assert check(content, "video").format == "mp4"


def test_every_format_that_is_recognised_has_an_extension() -> None:
    heads = [PNG, JPEG, WEBP, GIF, mp4(), WEBM, *SOUNDS.values()]
    found = {sniff(head[:512]) for head in heads}
    assert found == set(EXTENSIONS) - {"json", "txt"}
    assert len(set(EXTENSIONS.values())) == len(EXTENSIONS)


@given(head=st.binary(max_size=40))
def test_any_first_bytes_have_a_known_format_or_none(head: bytes) -> None:
    assert sniff(head) in {None, *EXTENSIONS}


@given(
    content=st.sampled_from([PNG, JPEG, WEBP, GIF, mp4()]),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8),
    length=st.integers(0, 10**6),
    kind=st.sampled_from(["image", "video", "audio", "text"]),
)
def test_damaged_bytes_are_accepted_or_refused_and_never_raise_anything_else(
    check: Check, content: bytes, changes: list[tuple[int, int]], length: int, kind: Any
) -> None:
    damaged = bytearray(content)
    for position, value in changes:
        damaged[position % len(damaged)] = value
    try:
        verified = check(bytes(damaged[: length % len(damaged) + 1]), kind)
    except OutputError as error:
        found = error.reason
    else:
        found = verified.format
    assert found
