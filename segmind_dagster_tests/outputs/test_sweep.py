from __future__ import annotations

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from segmind_dagster.outputs import OutputStore


def test_what_a_killed_process_left_on_its_way_is_removed_after_a_day_and_nothing_else(tmp_path: Path) -> None:
    store = OutputStore(str(tmp_path / "outputs"), scratch_dir=tmp_path)
    abandoned, in_use = store.scratch_file("old"), store.scratch_file("new")
    abandoned.write_bytes(b"half")
    in_use.write_bytes(b"half")
    two_days_ago = time.time() - 2 * 86_400
    os.utime(abandoned, (two_days_ago, two_days_ago))
    kept = tmp_path / "outputs" / "model" / "old.jpg"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"whole")
    os.utime(kept, (two_days_ago, two_days_ago))

    store.sweep()

    assert not abandoned.exists()
    assert in_use.exists()
    assert kept.exists()


def test_what_was_being_copied_to_another_disk_is_removed_too(tmp_path: Path) -> None:
    # wherever the tests keep their files: one of the two is on another disk
    with TemporaryDirectory(dir="/tmp" if tmp_path.is_relative_to("/dev/shm") else "/dev/shm") as elsewhere:
        store = OutputStore(elsewhere, scratch_dir=tmp_path)
        store.scratch_file("g")
        folder = Path(elsewhere, "model")
        folder.mkdir()
        abandoned, in_use, probe = folder / ".g.1.partial", folder / ".g.2.partial", Path(elsewhere, ".1.partial")
        two_days_ago = time.time() - 2 * 86_400
        for path in (abandoned, in_use, probe):
            path.write_bytes(b"half")
        for path in (abandoned, probe):
            os.utime(path, (two_days_ago, two_days_ago))
        store.sweep()
        assert [path.exists() for path in (abandoned, in_use, probe)] == [False, True, False]
