"""The same warehouse in several places: DuckDB, PostgreSQL, a folder and a bucket; what tests ask of each."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from segmind_dagster.source import build_source, load
from segmind_dagster.source.pipeline import warehouse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lab.source_project import Project
    from segmind_dagster.settings import Settings


@dataclass(frozen=True)
class Place:
    """A destination with its credentials.

    Args:
        destination: `SEGMIND_DESTINATION`.
        environ: what dlt reads.
    """

    destination: str
    environ: Mapping[str, str] = field(default_factory=dict)

    def settings(self, project: Project) -> Settings:
        return project.settings(SEGMIND_DESTINATION=self.destination)

    @contextmanager
    def configured(self) -> Iterator[None]:
        """dlt's own configuration, for the length of a block."""
        before = {name: os.environ.get(name) for name in self.environ}
        os.environ.update(self.environ)
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


class Warehouse:
    """A project's warehouse in one place, loaded and read as the product does it."""

    def __init__(self, project: Project, place: Place) -> None:
        self.project = project
        self.settings = place.settings(project)

    def load(
        self, *resources: str, prompt_sets: list[str] | None = None, also: Mapping[str, Any] | None = None
    ) -> None:
        """Load from the ledger; `also` are further columns of every row."""
        source = build_source(self.settings, prompt_sets=prompt_sets)
        if also:
            for name in resources:
                source.resources[name].add_map(lambda row: {**row, **also})
        load(self.settings, source.with_resources(*resources) if resources else source)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with (
            warehouse(self.settings, purpose="a test") as pipeline,
            pipeline.sql_client() as client,
            client.execute_query(query) as cursor,
        ):
            return [tuple(row) for row in cursor.fetchall()]
