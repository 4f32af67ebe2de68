"""`dagster dev` for a project of its own, against a sandbox in this process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING, Self

import dagster as dg

from segmind_dagster.sandbox import SandboxServer, SandboxSettings

if TYPE_CHECKING:
    from pathlib import Path

# one answers in the same exchange, the other is polled
MODELS = ("sdxl_newreality", "fast_flux_schnell")
START_S, STOP_S = 90.0, 30.0
# a shell's background jobs ignore Ctrl-C, and so would `dagster dev` and its children
LISTENING_TO_SIGINT = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.executable, sys.argv[1:])"
)
_OURS = ("SEGMIND_", "SOURCES__", "DESTINATION__", "DAGSTER_")


class DagsterUi:
    """A running UI; use it as a context manager.

    Args:
        folder: an empty folder for the project, Dagster's home and dlt's folder.
        prompt_sets: prompts of each set; all of them are aimed at two models.
    """

    def __init__(self, folder: Path, prompt_sets: dict[str, list[str]]) -> None:
        self.folder = folder
        self.home = folder / "dagster_home"
        self.sandbox = SandboxServer(SandboxSettings(max_picture_px=256, fixed_latency_s=0.1))
        self.url = ""
        self._prompt_sets = prompt_sets

    def __enter__(self) -> Self:
        self.sandbox.start()
        for name in ("project/prompts", "dagster_home"):
            (self.folder / name).mkdir(parents=True)
        (self.home / "dagster.yaml").write_text("telemetry: {enabled: false}\nnux: {enabled: false}\n")
        for key, prompts in self._prompt_sets.items():
            self.write(key, prompts)
        with self.instance() as instance:
            instance.add_dynamic_partitions("prompt_sets", list(self._prompt_sets))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._log = (self.folder / "dagster_dev.log").open("wb")
        command = ["-m", "dagster", "dev", "-m", "segmind_dagster.definitions", "-h", "127.0.0.1", "-p", str(port)]
        self._process = subprocess.Popen(
            [sys.executable, "-c", LISTENING_TO_SIGINT, sys.executable, *command],
            cwd=self.folder,
            env=self._environ(),
            stdout=self._log,
            stderr=subprocess.STDOUT,
            # a group of its own, so that what it leaves behind can be ended without touching anybody else's
            start_new_session=True,
        )
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()
        self.sandbox.stop()

    def write(self, key: str, prompts: list[str]) -> None:
        """A prompt file, as a person would put it there."""
        document = {"models": list(MODELS), "prompts": prompts}
        (self.folder / "project" / "prompts" / f"{key}.yaml").write_text(json.dumps(document))

    def instance(self) -> dg.DagsterInstance:
        return dg.DagsterInstance.from_config(str(self.home))

    def log(self) -> str:
        """The end of what `dagster dev` printed."""
        return (self.folder / "dagster_dev.log").read_text(errors="replace")[-4000:]

    def _environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        return {
            **kept,
            "DAGSTER_HOME": str(self.home),
            "DAGSTER_DISABLE_TELEMETRY": "yes",
            "DLT_DATA_DIR": str(self.folder / "dlt"),
            "SEGMIND_PROJECT_DIR": str(self.folder / "project"),
            "SEGMIND_API_URL": self.sandbox.url,
            "SEGMIND_API_KEY": self.sandbox.api_key,
            "SEGMIND_REQUESTS_PER_MINUTE": "60000",
            "SEGMIND_RETRY_AFTER_SECONDS": "2",
            "SEGMIND_MAX_IN_FLIGHT": "20",
        }

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self._process.poll() is None, self.log()
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/server_info", timeout=2) as answer:
                if answer.status == 200:
                    return
            # another program's start is waited for, not a moment of ours
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.2)
        message = f"`dagster dev` did not answer within {START_S:.0f} s:\n{self.log()}"
        raise AssertionError(message)
