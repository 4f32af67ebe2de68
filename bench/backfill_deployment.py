"""One `dagster dev` with a home of its own: started, asked to backfill through GraphQL, and stopped.

Knows nothing of what is backfilled. The home is made by `orchestration.local`, as `segmind-dagster dev` makes it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests

from segmind_dagster.orchestration.local import LocalProject, prepare_dagster_home

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_YAML = """\
telemetry: {{enabled: false}}
nux: {{enabled: false}}
concurrency: {{runs: {{max_concurrent_runs: {at_a_time}}}}}
"""
_LAUNCH = """
mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  ... on PartitionKeysNotFoundError { message } } }"""
_BACKFILL = """
query($id: String!) { partitionBackfillOrError(backfillId: $id) {
  ... on PartitionBackfill { status timestamp endTimestamp error { message } } } }"""
_RUN = """
mutation($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
_STATUS = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
_ENDED = {"SUCCESS", "FAILURE", "CANCELED"}


@dataclass(frozen=True, slots=True)
class Deployment:
    """A running `dagster dev`.

    Args:
        url: of its GraphQL endpoint.
        home: its DAGSTER_HOME.
    """

    url: str
    home: Path

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The data of a GraphQL answer.

        Raises:
            RuntimeError: it holds errors.
        """
        answer = requests.post(self.url, json={"query": query, "variables": variables}, timeout=60).json()
        if answer.get("errors"):
            raise RuntimeError(f"GraphQL refused the query: {answer['errors']}")
        (found,) = answer["data"].values()
        return dict(found)

    def launch_backfill(self, assets: Sequence[str], keys: Sequence[str]) -> str:
        """Start a backfill of these assets over these partitions; its id."""
        params = {"assetSelection": [{"path": name.split("/")} for name in assets], "partitionNames": list(keys)}
        launched = self.ask(_LAUNCH, params=params)
        if "backfillId" not in launched:
            raise RuntimeError(f"the backfill was not launched: {launched}")
        return str(launched["backfillId"])

    def wait_for_backfill(self, backfill_id: str, *, timeout_s: float) -> dict[str, Any]:
        """What became of it, once it has ended."""
        return self._wait(lambda: self.ask(_BACKFILL, id=backfill_id), _is_backfill_over, timeout_s)

    def launch_run(self, location: str, assets: Sequence[str]) -> str:
        """Start one run over assets without partitions; its id."""
        selector = {
            "repositoryLocationName": location,
            "repositoryName": "__repository__",
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [{"path": name.split("/")} for name in assets],
        }
        launched = self.ask(_RUN, params={"selector": selector, "mode": "default"})
        if "run" not in launched:
            raise RuntimeError(f"the run was not launched: {launched}")
        return str(launched["run"]["runId"])

    def wait_for_run(self, run_id: str, *, timeout_s: float) -> str:
        """The status it ended with."""
        found = self._wait(lambda: self.ask(_STATUS, id=run_id), lambda run: run["status"] in _ENDED, timeout_s)
        return str(found["status"])

    def _wait(self, look: Any, is_over: Any, timeout_s: float) -> Any:
        until = time.monotonic() + timeout_s
        while not is_over(found := look()):
            if time.monotonic() > until:
                raise TimeoutError(f"not over after {timeout_s:g} s: {found}; see {self.home.parent / 'dagster.log'}")
            time.sleep(0.5)
        return found


@contextmanager
def running_dagster(
    module: str, folder: Path, *, at_a_time: int, keys: Sequence[str], environ: Mapping[str, str]
) -> Iterator[Deployment]:
    """`dagster dev` over one code location for the length of a block.

    Args:
        module: of the code location.
        folder: where its home and its log go.
        at_a_time: how many runs the daemon lets run at once.
        keys: partitions of `prompt_sets` that exist from the start.
        environ: variables of its processes on top of ours.
    """
    import dagster as dg  # noqa: TID251  puts partitions into a Dagster home

    project = LocalProject(folder, folder, is_sandboxed=True)
    project.dagster_home.mkdir(parents=True, exist_ok=True)
    (project.dagster_home / "dagster.yaml").write_text(_YAML.format(at_a_time=at_a_time), encoding="utf-8")
    prepare_dagster_home(project)
    with dg.DagsterInstance.from_config(str(project.dagster_home)) as instance:
        instance.add_dynamic_partitions("prompt_sets", list(keys))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # a shell's background job inherits SIGINT ignored, and `dagster dev` stops its children by SIGINT
    signal.signal(signal.SIGINT, signal.default_int_handler)
    command = [sys.executable, "-m", "dagster", "dev", "-h", "127.0.0.1", "-p", str(port), "-m", module]
    with (folder / "dagster.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603  our own interpreter, no shell
            command, cwd=folder, env={**os.environ, **environ}, stdout=log, stderr=log, start_new_session=True
        )
    try:
        deployment = Deployment(f"http://127.0.0.1:{port}/graphql", project.dagster_home)
        _wait_until_up(deployment, process)
        yield deployment
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _is_backfill_over(backfill: Mapping[str, Any]) -> bool:
    return str(backfill["status"]).startswith(("COMPLETED", "FAILED", "CANCELED"))


def _wait_until_up(deployment: Deployment, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        try:
            if requests.get(deployment.url.replace("/graphql", "/server_info"), timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.2)
    raise RuntimeError(f"`dagster dev` did not come up; see {deployment.home.parent / 'dagster.log'}")
