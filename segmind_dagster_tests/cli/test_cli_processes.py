"""The console script as a process: it starts quickly, and its sandbox serves until it is told to stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import requests

from segmind_dagster.sandbox import SANDBOX_API_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.cli_project import Project

SCRIPT = "from segmind_dagster.cli import main; main()"
HEADERS = {"x-api-key": SANDBOX_API_KEY}


class Sandbox:
    """`segmind-dagster sandbox` on a free port, in a process of its own."""

    def __init__(self, *options: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, "sandbox", "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.announced = [self._process.stdout.readline(), self._process.stdout.readline()]
        assert self.announced[0], self._process.communicate()[1]
        self.url = self.announced[0].split()[-1]

    def generate(self, prompt: str) -> requests.Response:
        return requests.post(f"{self.url}/v1/fast-flux-schnell", json={"prompt": prompt}, headers=HEADERS, timeout=30)

    def account(self) -> dict[str, Any]:
        account: dict[str, Any] = requests.get(f"{self.url}/sandbox/account", timeout=10).json()
        return account

    def stop(self, number: signal.Signals = signal.SIGINT) -> tuple[int, str]:
        """Send a signal; the exit code and what was said on standard error."""
        self._process.send_signal(number)
        err = self._process.communicate(timeout=20)[1]
        return self._process.returncode, err

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


@pytest.fixture
def start_process(request: pytest.FixtureRequest) -> Iterator[Any]:
    started: list[Sandbox] = []

    def start(*options: str) -> Sandbox:
        started.append(Sandbox(*options))
        return started[-1]

    yield start
    for sandbox in started:
        sandbox.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_sandbox_serves_until_it_is_told_to_stop(start_process: Any, number: signal.Signals) -> None:
    sandbox = start_process("--speed", "1000")
    # with a folder of its own, so that what is simulated never lies where real results belong
    assert sandbox.announced[1].split() == [
        "export", f"SEGMIND_API_URL={sandbox.url}", f"SEGMIND_API_KEY={SANDBOX_API_KEY}",
        "SEGMIND_DATA_DIR=sandbox_data",
    ]  # fmt: skip
    answer = sandbox.generate("a pear")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/jpeg")
    assert sandbox.stop(number) == (0, "")


def test_the_sandbox_obeys_its_options_and_keeps_its_balance(start_process: Any, tmp_path: Path) -> None:
    options = ("--speed", "1000", "--state", str(tmp_path / "state"), "--credits", "5")
    first = start_process(*options, "--requests-per-minute", "1000")
    assert first.generate("a pear").status_code == 200
    before = first.account()
    assert 0 < float(before["charged_usd"]) == pytest.approx(5 - float(before["balance_usd"]))
    assert first.stop()[0] == 0
    second = start_process(*options, "--fault", "server_error=1.0", "--seed", "3")
    assert second.generate("a plum").status_code == 500
    after = second.account()
    assert (after["charged_usd"], after["balance_usd"]) == (before["charged_usd"], before["balance_usd"])


def alone(code: str, **environ: str) -> Any:
    """The last line that a fresh interpreter prints, as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environ}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


IMPORTED = """
import json, sys
from segmind_dagster.cli import main
sys.argv = ["segmind-dagster", *{arguments!r}]
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
print(json.dumps(sorted(set(sys.modules) & set({heavy!r}))))
"""
HEAVY = ["dagster", "dlt", "aiohttp", "sqlalchemy", "pandas", "pyarrow", "PIL", "duckdb", "pydantic", "requests"]


@pytest.mark.parametrize("arguments", [["--help"], ["plan", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    assert alone(IMPORTED.format(arguments=arguments, heavy=HEAVY)) == []


def test_a_plan_needs_neither_dagster_nor_dlt(project: Project) -> None:
    project.write("fruit")
    imported = alone(IMPORTED.format(arguments=["plan", "fruit"], heavy=HEAVY))
    assert not {"dagster", "dlt", "aiohttp", "pandas", "duckdb"} & set(imported)
