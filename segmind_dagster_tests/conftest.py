"""What every test gets: no key, no settings and no telemetry of the machine it runs on.

On request also sandboxes, a PostgreSQL and a bucket of an S3.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from hypothesis import HealthCheck, settings
from lab.computed_once import computed_once
from lab.s3 import credentials, make_bucket, running_s3
from s3fs import S3FileSystem
from sqlalchemy import create_engine

from segmind_dagster.gateway import repeating
from segmind_dagster.ledger import store
from segmind_dagster.sandbox import SandboxServer, SandboxSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

# how long an example takes says nothing on a machine that others share; fixtures are made to be used again
_PROPERTIES = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}
settings.register_profile("quick", max_examples=15, **_PROPERTIES)
settings.register_profile("deep", max_examples=200, **_PROPERTIES)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

# what the tests write is made durable thousands of times: in memory where there is room for it
_MEMORY, _ROOM = Path("/dev/shm"), 4 << 30
if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))

_ANY_TABLE = "SELECT 1 FROM sqlite_master LIMIT 1"
_OURS = ("SEGMIND_", "SOURCES__", "DESTINATION__")


@pytest.fixture(autouse=True)
def _a_clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(_OURS)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt_data"))
    monkeypatch.setenv("RUNTIME__DLTHUB_TELEMETRY", "false")
    # dlt's HTTP client waits 15 s in all before it gives up
    monkeypatch.setenv("RUNTIME__REQUEST_BACKOFF_FACTOR", "0.01")
    monkeypatch.setenv("DAGSTER_DISABLE_TELEMETRY", "yes")
    monkeypatch.setenv("DO_NOT_TRACK", "1")


@pytest.fixture(scope="session", autouse=True)
def _computed_once() -> Iterator[None]:
    with computed_once():
        yield


@pytest.fixture(scope="session")
def migrated_tables() -> list[str]:
    """The statements that make the tables of a new ledger, as the migrations have left them."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        with create_engine("sqlite://", creator=lambda: made).begin() as connection:
            store._migrate(connection)
        return [line for line in made.iterdump() if line not in {"BEGIN TRANSACTION;", "COMMIT;"}]


@pytest.fixture(autouse=True)
def _new_ledgers_are_copied(migrated_tables: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Most tests begin with a new ledger, and running all migrations takes longer than many of them.

    What opens older ledgers, and the tests of `ledger`, run the migrations themselves.
    """
    migrate = store._migrate

    def copied(connection: Connection) -> None:
        if connection.dialect.name != "sqlite" or connection.exec_driver_sql(_ANY_TABLE).first():
            migrate(connection)
            return
        for statement in migrated_tables:
            connection.exec_driver_sql(statement)

    monkeypatch.setattr(store, "_migrate", copied)


class StartSandbox(Protocol):
    """The fixture `start_sandbox`."""

    def __call__(self, **settings: Any) -> SandboxServer: ...


@pytest.fixture
def start_sandbox() -> Iterator[StartSandbox]:
    """Starts sandboxes with tiny pictures and short jobs unless told otherwise; they stop with the test."""
    with contextlib.ExitStack() as running:

        def started(**settings: Any) -> SandboxServer:
            usual = {"picture_mode": "tiny", "fixed_latency_s": 0.02}
            return running.enter_context(SandboxServer(SandboxSettings(**{**usual, **settings})))

        yield started


@pytest.fixture
def quick_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway backs off on the real clock before it repeats a GET: here it need not."""
    monkeypatch.setattr(repeating, "_BACK_OFF", lambda _state: 0.005)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A PostgreSQL of our own; the URL of its cluster, without a database name."""
    programs = _postgres_programs()
    # PostgreSQL refuses to run as root, and the folders of pytest are closed to other users
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="segmind-postgres-"))
    if as_user:
        shutil.chown(folder, "postgres", "postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = str(folder / "data")

    def run(*command: str) -> None:
        subprocess.run(
            [*as_user, *command], check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    run(f"{programs}/initdb", "--pgdata", data, "--auth=trust", "--username=test", "--encoding=UTF8", "--no-sync")
    options = f"-p {port} -h 127.0.0.1 -k {folder} -c fsync=off -c max_connections=40"
    run(f"{programs}/pg_ctl", "-D", data, "-o", options, "-l", f"{folder}/log", "-w", "start")
    yield f"postgresql://test@127.0.0.1:{port}"
    run(f"{programs}/pg_ctl", "-D", data, "-m", "immediate", "stop")
    shutil.rmtree(folder)


def _postgres_programs() -> Path:
    on_path = shutil.which("initdb")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    if on_path is None and not folders:
        pytest.fail("Tests marked `postgres` need PostgreSQL: install it (apt-get install postgresql).")
    return Path(on_path).parent if on_path else folders[-1]


@pytest.fixture
def postgres_url(postgres_server: str, tmp_path: Path) -> Iterator[str]:
    """An empty database, gone after the test."""
    import psycopg

    name = f"test_{tmp_path.parent.name}_{tmp_path.name}".lower().replace("-", "_")[-60:]
    with psycopg.connect(f"{postgres_server}/postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    yield f"{postgres_server}/{name}"
    with psycopg.connect(f"{postgres_server}/postgres", autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """An S3 on loopback; its URL."""
    with running_s3() as url:
        yield url


@pytest.fixture
def s3_bucket(s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket whose credentials are in the environment; its URL."""
    name = f"{tmp_path.parent.name}-{tmp_path.name}".lower().replace("_", "-")[-60:].strip("-")
    make_bucket(s3_server, name)
    # one that a test without credentials has made is remembered with them missing
    S3FileSystem.clear_instance_cache()
    for variable, value in credentials(s3_server).items():
        monkeypatch.setenv(variable, value)
    return f"s3://{name}"
