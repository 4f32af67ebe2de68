from __future__ import annotations

from pathlib import Path

import pytest
from lab.media import mp4, picture

from segmind_dagster.errors import OutputError
from segmind_dagster.outputs import OutputStore
from segmind_dagster.outputs.provenance import read_embedded
from segmind_dagster.outputs.verify import verify


@pytest.mark.parametrize("end", [24, 92, 113])
@pytest.mark.parametrize("more", [1, 2, 3, 4, 7])
def test_a_video_cut_in_the_length_of_a_box_is_refused(tmp_path: Path, end: int, more: int) -> None:
    path = tmp_path / "cut"
    path.write_bytes(mp4()[: end + more])
    with pytest.raises(OutputError, match="breaks off"):
        verify(path, "video")


def test_bytes_after_the_end_of_a_jpeg_are_not_a_comment(tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(picture("JPEG") + b"\xff\xfe")
    assert read_embedded(path, "jpeg") is None


def test_outputs_may_be_on_another_disk_than_the_data_folder(tmp_path: Path, another_disk: Path) -> None:
    store = OutputStore(str(another_disk), scratch_dir=tmp_path)
    path = store.scratch_file("g-1")
    path.write_bytes(picture("PNG"))
    stored = store.keep(path, resource="flux", generation_id="g-1", kind="image", provenance={})
    assert verify(Path(stored.uri), "image").width == 40
    assert sorted(p.name for p in another_disk.rglob("*") if p.is_file()) == ["g-1.facts.json", "g-1.png"]
