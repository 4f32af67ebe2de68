"""A project folder, a sandbox, and the warehouse that loads of the project fill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import duckdb

from segmind_dagster.prompts import find_prompt_set
from segmind_dagster.runner import Batch, generate
from segmind_dagster.runner.clock import SystemClock
from segmind_dagster.settings import load_settings
from segmind_dagster.source import build_source, load

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from segmind_dagster.sandbox import SandboxServer
    from segmind_dagster.settings import Settings

FLUX, REALITY = "fast_flux_schnell", "sdxl_newreality"
ROWS = (FLUX, REALITY, "attempts")


class QuickClock(SystemClock):
    """The real time; waits are naps of a fortieth."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / 40)


class Project:
    """One project against one sandbox.

    Args:
        server: a started sandbox.
        folder: the project folder.
        platform_url: where the models list and the history are asked for; the sandbox when None.
    """

    def __init__(self, server: SandboxServer, folder: Path, *, platform_url: str | None = None) -> None:
        self.server = server
        self.folder = folder
        for name in ("prompts", ".dlt"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.environ = {
            "SEGMIND_PROJECT_DIR": str(folder),
            "SEGMIND_API_URL": server.url,
            "SEGMIND_API_KEY": server.api_key,
            "SEGMIND_REQUESTS_PER_MINUTE": "60000",
            "SEGMIND_UNKNOWN_SETTLE_SECONDS": "0.15",
            "SEGMIND_V1_TIMEOUT_SECONDS": "3",
        }
        if platform_url is not None:
            self.environ["SEGMIND_PLATFORM_URL"] = platform_url

    def settings(self, **environ: str) -> Settings:
        return load_settings(environ={**self.environ, **environ})

    def write(self, key: str, prompts: list[str], /, **fields: Any) -> str:
        document = {"models": [FLUX], "prompts": prompts, **fields}
        (self.folder / "prompts" / f"{key}.yaml").write_text(json.dumps(document), encoding="utf-8")
        return key

    def generate(self, *keys: str) -> None:
        folder = self.folder / "prompts"
        sets = [find_prompt_set(key, prompts_dir=folder, project_dir=self.folder) for key in keys]
        batches = [Batch(each, tuple(model.resource for model in each.models)) for each in sets]
        report = generate(self.settings(), batches, clock=QuickClock())
        assert report.stopped_by is None, report.stop_message
        assert all(unit.endings["succeeded"] + unit.endings["reused"] for unit in report.units), report.units

    def load(self, *resources: str, prompt_sets: Sequence[str] | None = None) -> None:
        settings = self.settings()
        source = build_source(settings, prompt_sets=prompt_sets)
        load(settings, source.with_resources(*(resources or ROWS)))

    def extract(self, resource: str) -> list[Any]:
        """What a resource yields, with nothing loaded."""
        return list(build_source(self.settings(), prompt_sets=None).resources[resource])

    @property
    def duckdb_path(self) -> Path:
        return self.folder / "data" / "segmind.duckdb"

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of a query; tables are those of the dataset."""
        with duckdb.connect(str(self.duckdb_path)) as connection:
            connection.execute("USE segmind_data")
            return connection.execute(query).fetchall()

    def tables(self) -> set[str]:
        """Tables of the dataset, dlt's own left out; none while nothing was ever loaded."""
        if not self.duckdb_path.exists():
            return set()
        with duckdb.connect(str(self.duckdb_path)) as connection:
            query = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'segmind_data'"
            names = [name for (name,) in connection.execute(query).fetchall()]
        return {name for name in names if not name.startswith("_dlt")}

    def python(self, code: str, *, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a script as a user would: another process, another working folder."""
        return self.run(sys.executable, "-c", code, cwd=cwd)

    def run(self, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a command as a user would."""
        return subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, **self.environ},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    @property
    def charged_usd(self) -> Decimal:
        return Decimal(self.server.account()["charged_usd"])

    @property
    def posts(self) -> int:
        posts: int = self.server.account()["requests"]["submit"]
        return posts
