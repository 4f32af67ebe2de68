"""One loader at a time: the next one waits, says for whom, and gives up in bounded time."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import duckdb
import pytest

from segmind_dagster.errors import LoadLockError
from segmind_dagster.source import locks
from segmind_dagster.source.locks import duckdb_held, load_lock, working_folder_lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.source_project import Project

HOLDS_THE_LOCK = """
import sys
from segmind_dagster.settings import load_settings
from segmind_dagster.source.locks import load_lock
with load_lock(load_settings(), purpose="loading still_life"):
    print("held", flush=True)
    sys.stdin.readline()
"""
HOLDS_DUCKDB = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1])
print("held", flush=True)
sys.stdin.readline()
"""


@contextmanager
def another_process(code: str, *arguments: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds something until a line is written to it."""
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=environ or None,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def let_go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for the lock often: nobody waits five seconds here."""
    monkeypatch.setattr(locks, "_LOOK_EVERY_S", 0.05)


def test_a_second_loader_waits_and_names_the_lock_holder(project: Project) -> None:
    said: list[str] = []
    with another_process(HOLDS_THE_LOCK, **project.environ) as holder:

        def say(line: str) -> None:
            said.append(line)
            if len(said) == 2:
                let_go(holder)

        with load_lock(project.settings(), purpose="a second load", wait_s=20, say=say):
            holder.wait(5)
    assert len(said) >= 2
    assert re.search(rf"held by process {holder.pid} on \S+ \(loading still_life\) for \d+ s", said[0])


def test_waiting_for_the_lock_is_bounded_and_names_the_holder(project: Project) -> None:
    with another_process(HOLDS_THE_LOCK, **project.environ) as holder:
        with (
            pytest.raises(LoadLockError, match="nothing is paid for twice") as raised,
            load_lock(project.settings(), purpose="a second load", wait_s=0.2, say=lambda _: None),
        ):
            pytest.fail("two loaders at once")
        assert f"process {holder.pid}" in raised.value.holder
        assert 0.1 <= raised.value.waited_s < 5


def test_a_killed_loader_leaves_no_lock_behind(project: Project) -> None:
    with another_process(HOLDS_THE_LOCK, **project.environ) as holder:
        holder.kill()
        holder.wait()
        with load_lock(project.settings(), purpose="the next load", wait_s=2):
            pass


def test_an_error_inside_releases_the_lock(project: Project) -> None:
    with pytest.raises(ValueError, match="a load failed"), load_lock(project.settings(), purpose="one"):
        raise ValueError("a load failed")
    with load_lock(project.settings(), purpose="two", wait_s=0.1):
        pass


def test_two_threads_never_hold_the_lock_at_once(project: Project) -> None:
    inside, most = 0, 0
    turn = threading.Lock()

    def enter(number: int) -> None:
        nonlocal inside, most
        with load_lock(project.settings(), purpose=f"load {number}", wait_s=30, say=lambda _: None):
            with turn:
                inside += 1
                most = max(most, inside)
            threading.Event().wait(0.01)
            with turn:
                inside -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(enter, range(16)))
    assert most == 1


def test_each_project_has_its_own_lock(project: Project, tmp_path: Path) -> None:
    elsewhere = project.settings(SEGMIND_DATA_DIR=str(tmp_path / "elsewhere"))
    with (
        load_lock(project.settings(), purpose="one"),
        load_lock(elsewhere, purpose="two", wait_s=0.1, say=lambda _: None),
    ):
        pass


def test_all_projects_share_dlts_working_folder(tmp_path: Path) -> None:
    with (
        working_folder_lock(tmp_path, purpose="one"),
        pytest.raises(LoadLockError, match=r"\(one\)"),
        working_folder_lock(tmp_path, purpose="two", wait_s=0.1, say=lambda _: None),
    ):
        pytest.fail("two loaders at once")


def test_a_duckdb_file_that_someone_has_open_is_waited_for_by_process_id(tmp_path: Path) -> None:
    path = tmp_path / "segmind.duckdb"
    duckdb.connect(str(path)).close()
    said: list[str] = []
    with another_process(HOLDS_DUCKDB, str(path)) as holder:

        def say(line: str) -> None:
            said.append(line)
            let_go(holder)

        with duckdb_held(path, wait_s=20, say=say):
            assert f"PID {holder.pid}" in said[0]
            assert "segmind.duckdb" in said[0]
    duckdb.connect(str(path)).close()


def test_waiting_for_a_duckdb_file_is_bounded_and_names_the_process(tmp_path: Path) -> None:
    path = tmp_path / "segmind.duckdb"
    duckdb.connect(str(path)).close()
    with another_process(HOLDS_DUCKDB, str(path)) as holder:
        with pytest.raises(LoadLockError) as raised, duckdb_held(path, wait_s=0.1, say=lambda _: None):
            pytest.fail("two processes in one file")
        assert f"PID {holder.pid}" in str(raised.value)


def test_a_held_file_is_open_to_this_process_only(tmp_path: Path) -> None:
    path = tmp_path / "segmind.duckdb"
    opens_it = [sys.executable, "-c", "import duckdb, sys; duckdb.connect(sys.argv[1])", str(path)]
    with duckdb_held(path, wait_s=0.1):
        duckdb.connect(str(path)).close()
        refused = subprocess.run(opens_it, capture_output=True, text=True, check=False)
        assert "lock" in refused.stderr
    subprocess.run(opens_it, check=True)


def test_a_file_that_is_no_database_is_an_error_and_not_a_wait(tmp_path: Path) -> None:
    path = tmp_path / "segmind.duckdb"
    path.write_text("a note about still lifes\n" * 1000)
    with pytest.raises(duckdb.Error), duckdb_held(path, wait_s=5, say=pytest.fail):
        pytest.fail("a note was opened as a database")
