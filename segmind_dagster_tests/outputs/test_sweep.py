from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from segmind_dagster.outputs import OutputStore

if TYPE_CHECKING:
    from pathlib import Path


def test_only_unfinished_files_are_removed_after_a_day(tmp_path: Path) -> None:
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


def test_unfinished_copies_on_another_disk_are_removed_too(tmp_path: Path, another_disk: Path) -> None:
    store = OutputStore(str(another_disk), scratch_dir=tmp_path)
    store.scratch_file("g")
    folder = another_disk / "model"
    folder.mkdir()
    abandoned, in_use, probe = folder / ".g.1.partial", folder / ".g.2.partial", another_disk / ".1.partial"
    two_days_ago = time.time() - 2 * 86_400
    for path in (abandoned, in_use, probe):
        path.write_bytes(b"half")
    for path in (abandoned, probe):
        os.utime(path, (two_days_ago, two_days_ago))
    store.sweep()
    assert [path.exists() for path in (abandoned, in_use, probe)] == [False, True, False]
