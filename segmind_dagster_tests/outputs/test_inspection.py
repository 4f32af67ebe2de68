"""Files are compared with what was stored: all of them while that is cheap, else a sample that says so."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.lifecycle.generation import Output
from segmind_dagster.outputs.inspection import inspect

if TYPE_CHECKING:
    from pathlib import Path


def kept_at(uri: str, sha256: str, size_bytes: int) -> Output:
    return Output(uri=uri, sha256=sha256, size_bytes=size_bytes, format="png")


def keep(folder: Path, name: str, content: bytes) -> Output:
    path = folder / name
    path.write_bytes(content)
    return kept_at(str(path), hashlib.sha256(content).hexdigest(), len(content))


def test_unchanged_files_have_no_fault(tmp_path: Path) -> None:
    found = inspect([keep(tmp_path, f"{n}.png", b"x" * n) for n in range(1, 6)], seed="s")
    assert (found.files, found.looked_for, found.digested, found.seed, found.faults) == (5, 5, 5, None, ())


def test_each_kind_of_difference_is_named(tmp_path: Path) -> None:
    kept = [keep(tmp_path, name, b"content") for name in ("gone", "short", "changed", "folder", "fine")]
    (tmp_path / "gone").unlink()
    (tmp_path / "short").write_bytes(b"cont")
    (tmp_path / "changed").write_bytes(b"contenT")
    (tmp_path / "folder").unlink()
    (tmp_path / "folder").mkdir()
    size = (tmp_path / "folder").stat().st_size
    kept[3] = kept_at(kept[3].uri, kept[3].sha256, size)
    found = inspect(kept, seed="s")
    faults = {uri.rsplit("/", 1)[-1]: fault for uri, fault in found.faults}
    assert faults == {"gone": "missing", "short": "other size", "changed": "other content", "folder": "unreadable"}
    assert found.counts["missing"] == 1


def test_beyond_the_limit_a_sample_is_read_and_all_files_are_checked_for_existence(tmp_path: Path) -> None:
    kept = [keep(tmp_path, f"{n}", b"x") for n in range(20)]
    (tmp_path / "7").unlink()
    found = inspect(kept, seed="monday", max_read=4)
    assert (found.files, found.looked_for, found.digested, found.seed) == (20, 20, 4, "monday")
    assert found.faults == ((kept[7].uri, "missing"),)


def test_a_sample_is_the_same_for_the_same_text_and_another_for_another(tmp_path: Path) -> None:
    kept = [keep(tmp_path, f"{n}", b"x") for n in range(200)]
    for n in range(200):
        (tmp_path / f"{n}").write_bytes(b"y")
    drawn = {seed: inspect(kept, seed=seed, max_read=20).faults for seed in ("monday", "tuesday")}
    assert len(drawn["monday"]) == 20
    assert drawn["monday"] == inspect(kept, seed="monday", max_read=20).faults != drawn["tuesday"]


@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=12), limit=st.integers(1, 200))
def test_no_more_bytes_are_read_than_allowed_except_for_one_file(sizes: list[int], limit: int) -> None:
    missing = [kept_at(f"/nowhere/{n}", "", size) for n, size in enumerate(sizes)]
    found = inspect(missing, seed="s", max_read_bytes=limit)
    assert found.looked_for == len(sizes)
    assert found.digested >= 1
    assert (found.seed is None) == (found.digested == len(sizes))
    assert found.counts["missing"] == len(sizes)
    if sum(sizes) <= limit:
        assert found.digested == len(sizes)


def remote(*contents: tuple[str, bytes]) -> list[Output]:
    """Outputs in a bucket that were all stored as `1234`; those without content are gone."""
    fs = fsspec.filesystem("memory")
    for name, content in contents:
        if content:
            fs.pipe(f"/inspected/{name}", content)
    digest = hashlib.sha256(b"1234").hexdigest()
    return [kept_at(f"memory://inspected/{name}", digest, 4) for name, _ in contents]


def test_remote_outputs_are_checked_for_existence_and_size_and_one_is_read() -> None:
    kept = remote(("fine", b"1234"), ("well", b"1234"), ("short", b"12"), ("gone", b""))
    found = inspect(kept, seed="s")
    assert (found.looked_for, found.digested, found.seed) == (4, 1, "s")
    assert {uri.rsplit("/", 1)[-1]: fault for uri, fault in found.faults} == {"short": "other size", "gone": "missing"}


def test_a_changed_remote_output_is_eventually_found() -> None:
    kept = remote(("changed", b"4321"), ("fine", b"1234"), ("well", b"1234"))
    seen = [inspect(kept, seed=f"day {day}").faults for day in range(20)]
    assert ((kept[0].uri, "other content"),) in seen
    assert () in seen, "another one was read that day"


def test_remote_outputs_that_are_large_are_not_read() -> None:
    kept = remote(("changed", b"4321"))
    assert inspect(kept, seed="s", max_fetched_bytes=3).digested == 0
    assert inspect(kept, seed="s", max_fetched_bytes=4).counts["other content"] == 1


def test_many_remote_outputs_are_checked_by_a_sample() -> None:
    kept = [kept_at(f"memory://nothing/{n}", "", 1) for n in range(30)]
    found = inspect(kept, seed="s", max_asked=10)
    assert (found.looked_for, found.counts["missing"], found.digested, found.seed) == (10, 10, 1, "s")


@pytest.mark.parametrize("kept", [[]])
def test_without_outputs_nothing_is_inspected(kept: list[Output]) -> None:
    assert inspect(kept, seed="s").files == 0
