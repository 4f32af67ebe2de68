"""Applies budgets that are lowered in a prompt file during a run to what is not sent yet.

Only lower ones count: the run was planned with its first budget, and a half-written file must not raise it. What a
budget means is decided in `lifecycle.budget`.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from segmind_dagster.errors import PromptSetError
from segmind_dagster.prompts import load_prompt_set

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal
    from pathlib import Path

    from segmind_dagster.ledger import Caps
    from segmind_dagster.lifecycle.generation import Generation
    from segmind_dagster.runner.ports import ClockPort

_LOOK_EVERY_S = 3.0
_LOG = logging.getLogger(__name__)


class FileBudgets:
    """The budgets in the prompt files, reread during the run."""

    def __init__(
        self, clock: ClockPort, files: Mapping[str, Path] | None = None, *, project_dir: Path | None = None
    ) -> None:
        self._clock = clock
        self._files = dict(files or {})
        self._project_dir = project_dir
        self._seen = {key: _stamp(path) for key, path in self._files.items()}
        self._looked_at: dict[str, float] = {}
        self._lowered_usd: dict[str, Decimal] = {}
        self._is_said: set[str] = set()

    async def caps(self, generation: Generation) -> Caps:
        """The caps that apply to a generation now."""
        key = generation.prompt_set
        if key in self._files and self._clock.monotonic() - self._looked_at.get(key, 0.0) >= _LOOK_EVERY_S:
            self._looked_at[key] = self._clock.monotonic()
            await asyncio.to_thread(self._look, key, self._files[key])
        lowered_usd = self._lowered_usd.get(key)
        if lowered_usd is None or (generation.caps.set_usd is not None and generation.caps.set_usd <= lowered_usd):
            return generation.caps
        return replace(generation.caps, set_usd=lowered_usd)

    def _look(self, key: str, path: Path) -> None:
        stamp = _stamp(path)
        if stamp == self._seen[key]:
            return
        self._seen[key] = stamp
        try:
            if stamp is None or self._project_dir is None:
                raise FileNotFoundError(path)
            budget_usd = load_prompt_set(path, project_dir=self._project_dir).budget_usd
        except (PromptSetError, OSError) as error:
            if key not in self._is_said:
                self._is_said.add(key)
                _LOG.warning(
                    "%s cannot be read any more (%s): the run keeps to the budget it began with.", path.name, error
                )
            return
        if budget_usd is None:
            self._lowered_usd.pop(key, None)
        else:
            self._lowered_usd[key] = budget_usd


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
