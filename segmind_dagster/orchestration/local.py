"""Runs this project on one machine: the environment of the sandbox, a Dagster home, `dagster dev`.

Nothing here is needed in a deployment, where Dagster is configured by its own files.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from segmind_dagster.errors import SettingsError
from segmind_dagster.sandbox import SANDBOX_API_KEY, Faults, SandboxServer, SandboxSettings, is_sandbox
from segmind_dagster.settings import find_project_dir, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

DEMO_FOLDER: Final = "demo_data"
SANDBOX_PORT: Final = 8473
# a twentieth of the real latencies: long enough to watch, short enough to wait for
_TIME_SCALE: Final = 0.05
_FAULTS: Final = Faults(
    rates={
        "server_error": 0.06,
        "accepted_then_reset": 0.04,
        "gateway_timeout": 0.03,
        "failed": 0.05,
        "truncated": 0.05,
        "html_as_image": 0.03,
    },
    seed=11,
)
_DAGSTER_YAML: Final = """\
telemetry:
  enabled: false
nux:
  enabled: false
concurrency:
  runs:
    max_concurrent_runs: 4
"""
# `dg dev` is another package, for projects that `dg` has laid out
_SUPERSEDED: Final = "Function `dev_command` is superseded"
_OURS = ("SEGMIND_", "SOURCES__SEGMIND")


@dataclass(frozen=True, slots=True)
class LocalProject:
    """Where a local project runs.

    Args:
        project_dir: the project's root.
        data_dir: its data folder.
        is_sandboxed: whether the sandbox stands in for Segmind.
    """

    project_dir: Path
    data_dir: Path
    is_sandboxed: bool

    @property
    def dagster_home(self) -> Path:
        """Dagster's own folder: runs, logs, schedules."""
        return self.data_dir / "dagster_home"


def use_sandbox(port: int = SANDBOX_PORT) -> LocalProject:
    """Point this process and its children at the sandbox and its own data folder, even when a key is exported."""
    project_dir = find_project_dir(os.environ, Path.cwd())
    prompts = os.environ.get("SEGMIND_PROMPTS_DIR")
    for name in [name for name in os.environ if name.startswith(_OURS)]:
        del os.environ[name]
    data_dir = project_dir / DEMO_FOLDER
    url = f"http://127.0.0.1:{port}"
    os.environ |= {
        "SEGMIND_PROJECT_DIR": str(project_dir),
        "SEGMIND_API_KEY": SANDBOX_API_KEY,
        "SEGMIND_API_URL": url,
        "SEGMIND_PLATFORM_URL": url,
        "SEGMIND_STORAGE_URL": url,
        "SEGMIND_OUTPUT_HOSTS": f"127.0.0.1:{port}",
        "SEGMIND_DATA_DIR": str(data_dir),
        "SEGMIND_LEDGER_URL": f"sqlite:///{data_dir / 'ledger.sqlite'}",
        "SEGMIND_OUTPUTS_URL": str(data_dir / "outputs"),
        "SEGMIND_DESTINATION": "duckdb",
        # wherever real results go: simulated ones stay in the demo's folder
        "DESTINATION__DUCKDB__CREDENTIALS": f"duckdb:///{data_dir / 'segmind.duckdb'}",
        "SEGMIND_REQUESTS_PER_MINUTE": "1200",
        "SEGMIND_UNKNOWN_SETTLE_SECONDS": "3",
        "SEGMIND_V1_TIMEOUT_SECONDS": "20",
        **({"SEGMIND_PROMPTS_DIR": prompts} if prompts else {}),
    }
    return LocalProject(project_dir, data_dir, is_sandboxed=True)


def find_project() -> LocalProject:
    """This project with its own key, or the sandbox when there is none."""
    settings = load_settings()
    if settings.api_key is None:
        return use_sandbox()
    os.environ["SEGMIND_PROJECT_DIR"] = str(settings.project_dir)
    return LocalProject(settings.project_dir, settings.data_dir, is_sandboxed=False)


def prepare_dagster_home(project: LocalProject) -> None:
    """Make Dagster's folder, once, before several processes want it at the same moment."""
    home = project.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    config = home / "dagster.yaml"
    if not config.exists():
        config.write_text(_DAGSTER_YAML, encoding="utf-8")
    os.environ |= {
        "DAGSTER_HOME": str(home),
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        "DO_NOT_TRACK": "1",
        "RUNTIME__DLTHUB_TELEMETRY": "false",
    }
    import dagster as dg

    # initialising the storages from several processes at once corrupts them
    with dg.DagsterInstance.get() as instance:
        instance.get_runs_count()


@contextlib.contextmanager
def running_sandbox(project: LocalProject, *, port: int = SANDBOX_PORT) -> Iterator[SandboxServer | None]:
    """The sandbox for as long as the block runs; None when one is running already.

    Args:
        project: whose data folder keeps its state.
        port: where it listens.

    Raises:
        SettingsError: something else listens there.
    """
    if is_sandbox(f"http://127.0.0.1:{port}"):
        yield None
        return
    settings = SandboxSettings(
        port=port, time_scale=_TIME_SCALE, faults=_FAULTS, state_dir=project.data_dir / "sandbox"
    )
    with SandboxServer(settings) as server:
        yield server


def run_dagster_dev(project: LocalProject, *, host: str, port: int) -> int:
    """Run `dagster dev` until it is stopped; returns its exit code.

    Raises:
        SettingsError: something listens on that port already.
    """
    with socket.socket() as probe:
        if probe.connect_ex((host, port)) == 0:
            raise SettingsError(
                "--port", f"something listens on {host}:{port} already; stop it or choose another port."
            )
    signal.signal(signal.SIGINT, signal.default_int_handler)
    command = [
        *(sys.executable, "-W", f"ignore:{_SUPERSEDED}", "-m", "dagster", "dev"),
        *("-h", host, "-p", str(port), "-w", str(project.project_dir / "workspace.yaml")),
    ]
    with subprocess.Popen(command, cwd=project.project_dir) as process:  # noqa: S603  our own interpreter, no shell
        # a shell's background job inherits SIGINT ignored, and `dagster dev` stops its children by SIGINT
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            return process.wait()
        except KeyboardInterrupt:
            # the terminal has sent it to both; `dagster dev` ends its own children first
            return process.wait()
