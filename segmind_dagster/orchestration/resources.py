"""Resources of the code location. Secrets are read when a run needs them, never at import."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import dagster as dg
from pydantic import PrivateAttr

from segmind_dagster.data_folder import RunContext
from segmind_dagster.settings import Settings, load_settings


class SegmindResource(dg.ConfigurableResource[Any]):
    """Where Segmind, the prompt files and the data folder are.

    Every field may stay empty: the environment and `.dlt/*.toml` then decide, as README.md describes. What is
    given here wins.
    """

    # Dagster's resource metaclass reads these annotations and does not know `X | None`
    project_dir: Optional[str] = None  # noqa: UP045
    prompts_dir: Optional[str] = None  # noqa: UP045
    data_dir: Optional[str] = None  # noqa: UP045
    api_url: Optional[str] = None  # noqa: UP045

    def load(self) -> Settings:
        """The settings of this run.

        Raises:
            SettingsError: one of them cannot be used.
        """
        overrides: dict[str, Any] = {
            name: Path(value).resolve()
            for name, value in (
                ("project_dir", self.project_dir),
                ("prompts_dir", self.prompts_dir),
                ("data_dir", self.data_dir),
            )
            if value
        }
        if self.api_url:
            overrides |= {"api_url": self.api_url, "platform_url": self.api_url, "storage_url": self.api_url}
        return load_settings(**overrides)


class SegmindRunResource(dg.ConfigurableResource[Any]):
    """What the steps of one run open and read once: each takes it up where another has left it.

    Apart from `SegmindResource`, which sensors use as well: this one has an end, when Dagster is done with the run.
    """

    segmind: SegmindResource
    _run: Optional[RunContext] = PrivateAttr(None)  # noqa: UP045

    def context(self) -> RunContext:
        """The ledger, the outputs and the prompt files of this run.

        Raises:
            SettingsError: one of the settings cannot be used.
        """
        if self._run is None:
            self._run = RunContext(self.segmind.load())
        return self._run

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002  Dagster's signature
        """Let go of what the run has open."""
        if self._run is not None:
            self._run.close()
            self._run = None
