"""A PostgreSQL of our own for the length of a block: an empty cluster on a free port, as nobody else's."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def running_postgres(*, database: str = "segmind", max_connections: int = 100) -> Iterator[str]:
    """A server with one empty database; its URL.

    Raises:
        SystemExit: PostgreSQL is not installed.
    """
    import psycopg

    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name), default=None)
    if programs is None:
        raise SystemExit("PostgreSQL is not installed (apt-get install postgresql)")
    # it refuses to run as root
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="segmind-bench-"))
    if as_user:
        shutil.chown(folder, "postgres", "postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def run(program: str, *arguments: str) -> None:
        command = [*as_user, str(programs / program), *arguments]
        subprocess.run(  # noqa: S603  PostgreSQL's own programs, no shell
            command, check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    data = f"{folder}/data"
    run("initdb", "--pgdata", data, "--auth=trust", "--username=bench", "--encoding=UTF8", "--no-sync")
    options = f"-p {port} -h 127.0.0.1 -k {folder} -c max_connections={max_connections}"
    run("pg_ctl", "-D", data, "-o", options, "-l", f"{folder}/log", "-w", "start")
    try:
        url = f"postgresql://bench@127.0.0.1:{port}"
        with psycopg.connect(f"{url}/postgres", autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{database}"')
        yield f"{url}/{database}"
    finally:
        run("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder)
