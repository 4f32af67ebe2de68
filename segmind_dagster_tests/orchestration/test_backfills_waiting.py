"""What a run of a backfill says while it waits for its turn to load: who has it, for what and for how long."""

from __future__ import annotations

import os
import re
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from lab.project import REALITY

from segmind_dagster.errors import LoadLockError
from segmind_dagster.settings import Settings, load_settings
from segmind_dagster.source import locks
from segmind_dagster.source.locks import load_lock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.dagster_project import DagsterLab


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for the lock often: nobody waits five seconds here."""
    monkeypatch.setattr(locks, "_LOOK_EVERY_S", 0.05)


@contextmanager
def held(settings: Settings, purpose: str) -> Iterator[threading.Event]:
    """The load lock in another thread, until the event is set."""
    is_held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with load_lock(settings, purpose=purpose):
            is_held.set()
            let_go.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    assert is_held.wait(20)
    try:
        yield let_go
    finally:
        let_go.set()
        holder.join()


@pytest.fixture
def on_postgres(postgres_url: str) -> Settings:
    return load_settings(ledger_url=postgres_url, api_url="http://127.0.0.1:1")


def test_the_runs_log_names_the_holder_and_the_run_waits_rather_than_fails(lab: DagsterLab) -> None:
    key = lab.write("fruit", 1)

    def until_it_is_told() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not any(
            entry.user_message.startswith("Waiting for")
            for run in lab.instance.get_runs()
            for entry in lab.instance.all_logs(run.run_id)
        ):
            threading.Event().wait(0.1)
        let_go.set()

    with held(lab.segmind.load(), "run a-long-load") as let_go:
        threading.Thread(target=until_it_is_told, daemon=True).start()
        run = lab.run(f"segmind/{REALITY}", partition=key)
    assert run.is_success, run.errors()
    said = [entry.user_message for entry in lab.instance.all_logs(run.run_id)]
    waiting = [line for line in said if line.startswith("Waiting for")]
    assert re.fullmatch(
        rf"Waiting for the load lock for \d+ s: it is held by process {os.getpid()} on \S+ "
        r"\(run a-long-load\) for \d+ s\.",
        waiting[0],
    )
    # generation does not wait for it
    assert said.index(waiting[0]) > next(n for n, line in enumerate(said) if "1 succeeded" in line)


def test_a_long_wait_is_logged_less_and_less_often(lab: DagsterLab) -> None:
    told: list[str] = []
    settings = lab.segmind.load()
    with (
        held(settings, "run one"),
        pytest.raises(LoadLockError),
        load_lock(settings, purpose="run two", wait_s=1.6, say=told.append),
    ):
        pytest.fail("two loaders at once")
    assert 2 <= len(told) <= 6


@pytest.mark.postgres
def test_with_postgresql_the_holder_is_named_as_well(on_postgres: Settings) -> None:
    said: list[str] = []
    with held(on_postgres, "run 0123456789") as let_go:

        def say(line: str) -> None:
            said.append(line)
            let_go.set()

        with load_lock(on_postgres, purpose="run two", wait_s=20, say=say):
            pass
    assert re.search(rf"it is held by process {os.getpid()} on \S+ \(run 0123456789\) for \d+ s\.", said[0])


@pytest.mark.postgres
def test_with_postgresql_waiting_is_bounded_and_the_error_names_the_holder(on_postgres: Settings) -> None:
    began = time.monotonic()
    with (
        held(on_postgres, "run 0123456789"),
        pytest.raises(LoadLockError) as raised,
        load_lock(on_postgres, purpose="run two", wait_s=0.3, say=lambda _: None),
    ):
        pytest.fail("two loaders at once")
    assert "(run 0123456789)" in raised.value.holder
    assert 0.2 <= raised.value.waited_s <= time.monotonic() - began


@pytest.mark.postgres
def test_with_postgresql_a_load_outlives_the_servers_limits_on_idle_transactions_and_statements(
    on_postgres: Settings, postgres_url: str
) -> None:
    import psycopg

    database = postgres_url.rpartition("/")[2]
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE \"{database}\" SET idle_in_transaction_session_timeout = '100ms'")
        connection.execute(f"ALTER DATABASE \"{database}\" SET statement_timeout = '100ms'")
    said: list[str] = []
    with held(on_postgres, "run one") as let_go:

        def say(line: str) -> None:
            said.append(line)
            if len(said) == 4:
                let_go.set()

        with load_lock(on_postgres, purpose="run two", wait_s=30, say=say):
            pass
    assert all("(run one)" in line for line in said)
