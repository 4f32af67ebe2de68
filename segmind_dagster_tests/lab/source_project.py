"""A project with the warehouse that its loads fill, and the commands that a person runs in its folder."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import duckdb

from lab import project
from lab.project import FLUX, REALITY
from segmind_dagster.source import build_source, load

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ROWS = (FLUX, REALITY, "attempts")


class Project(project.Project):
    """One project against one sandbox."""

    def buy(self, *keys: str) -> None:
        """Generate; everything has to succeed."""
        report = self.generate(*keys)
        assert report.stopped_by is None, report.stop_message
        assert all(result.endings["succeeded"] + result.endings["reused"] for result in report.models), report.models

    def load(self, *resources: str, prompt_sets: Sequence[str] | None = None) -> None:
        settings = self.settings()
        source = build_source(settings, prompt_sets=prompt_sets)
        load(settings, source.with_resources(*(resources or ROWS)))

    def extract(self, resource: str) -> list[Any]:
        """What a resource yields, with nothing loaded."""
        return list(build_source(self.settings(), prompt_sets=None).resources[resource])

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
