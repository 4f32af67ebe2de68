"""JPEGs: whatever an encoder writes is taken, and damage in the middle is refused, which Pillow lets pass."""

from __future__ import annotations

import io
import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from segmind_dagster.errors import OutputError
from segmind_dagster.outputs.verify import Verified, verify, verify_file

if TYPE_CHECKING:
    from pathlib import Path

# more than is worked on in memory, see outputs/files.py
LARGE = (2600, 2400)


def jpeg(size: tuple[int, int] = (320, 240), mode: str = "RGB", **options: Any) -> bytes:
    content = io.BytesIO()
    noise = random.Random(1).randbytes(size[0] * size[1])
    Image.frombytes("L", size, noise).convert(mode).save(content, "JPEG", **options)
    return content.getvalue()


def zeroed(content: bytes) -> bytes:
    middle, length = len(content) // 2, len(content) // 8
    return content[:middle] + bytes(length) + content[middle + length :]


def cut(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + content[middle + len(content) // 8 :]


@pytest.mark.parametrize("damage", [zeroed, cut])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}, {"restart_marker_rows": 2}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_picture_damaged_in_the_middle_is_refused(mode: str, options: dict[str, Any], damage: Any) -> None:
    with pytest.raises(OutputError, match=r"jpeg picture that (is damaged|does not decode)"):
        verify_file(io.BytesIO(damage(jpeg(mode=mode, **options))), "image")


@pytest.mark.parametrize("damage", [zeroed, cut])
def test_a_damaged_picture_is_refused_when_read_from_its_file(tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "large"
    path.write_bytes(jpeg(LARGE, quality=95))
    assert verify(path, "image") == Verified("jpeg", *LARGE)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(OutputError, match="damaged"):
        verify(path, "image")


@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    mode=st.sampled_from(["RGB", "L", "CMYK"]),
    quality=st.integers(1, 100),
    subsampling=st.sampled_from([0, 1, 2]),
    is_progressive=st.booleans(),
    is_optimized=st.booleans(),
    restart_rows=st.integers(0, 3),
)
def test_every_encoder_output_is_accepted(
    size: tuple[int, int],
    mode: str,
    quality: int,
    subsampling: int,
    is_progressive: bool,
    is_optimized: bool,
    restart_rows: int,
) -> None:
    content = jpeg(
        size,
        mode,
        quality=quality,
        subsampling=subsampling,
        progressive=is_progressive,
        optimize=is_optimized,
        restart_marker_rows=restart_rows,
    )
    assert verify_file(io.BytesIO(content), "image") == Verified("jpeg", *size)


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(lambda content: content[:-2] + bytes(20) + content[-2:], id="filled up before its end"),
        pytest.param(lambda content: content + b"trailer", id="something behind its end"),
        pytest.param(lambda content: content[:11] + b"\x09\x09" + content[13:], id="a version of JFIF to come"),
    ],
)
def test_format_oddities_are_not_damage(odd: Any) -> None:
    assert verify_file(io.BytesIO(odd(jpeg())), "image") == Verified("jpeg", 320, 240)
