"""A project that loses its ledger, gets it back, and goes on."""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.project import Project
from segmind_dagster.ledger.schema import ATTEMPTS, SET_GENERATIONS, SPENDING
from segmind_dagster.recovery import rebuild

if TYPE_CHECKING:
    from segmind_dagster.recovery import Rebuilt
    from segmind_dagster.sandbox import SandboxServer

# as the ledger kept them: what a rebuilding should bring back when nothing is missing
GENERATION_FIELDS = (
    "generation_id", "model_slug", "resource", "prompt_set", "state", "owner", "attempts", "failure_kind", "error",
    "prompt", "negative_prompt", "body", "images", "variables", "seed", "sample", "request_id", "cost_usd",
    "cost_source", "output_uri", "output_sha256", "output_bytes", "output_format", "width", "height",
)  # fmt: skip
ATTEMPT_FIELDS = (
    "generation_id", "attempt", "model_slug", "resource", "prompt_set", "state", "request_id", "cost_usd",
    "cost_source",
)  # fmt: skip


class Lab(Project):
    """One project against one sandbox."""

    def __init__(self, server: SandboxServer, folder: Path, **environ: str) -> None:
        super().__init__(server, folder, **environ)
        self.said: list[str] = []

    def forget(self, key: str) -> None:
        (self.folder / "prompts" / f"{key}.yaml").unlink()

    def load(self) -> None:
        from segmind_dagster.registry import MODELS
        from segmind_dagster.source import build_source, load

        settings = self.settings()
        source = build_source(settings, prompt_sets=None)
        load(settings, source.with_resources(*(model.resource for model in MODELS), "attempts"))

    def lose_ledger(self) -> None:
        for path in (self.folder / "data").glob("ledger.sqlite*"):
            path.unlink()

    def rebuild(self, *, despite_gaps: bool = False, **environ: str) -> Rebuilt:
        return rebuild(self.settings(**environ), say=self.said.append, despite_gaps=despite_gaps)

    def generation_fields(self) -> list[dict[str, Any]]:
        return [{name: row[name] for name in GENERATION_FIELDS} for row in self.generations()]

    def attempt_fields(self) -> list[dict[str, Any]]:
        return [{name: row[name] for name in ATTEMPT_FIELDS} for row in self.ledger_rows(ATTEMPTS)]

    def spending(self) -> dict[tuple[str, str], Decimal]:
        """Committed by day and by set; which run paid is not remembered everywhere."""
        rows = self.ledger_rows(SPENDING)
        return {(row["scope"], row["name"]): row["committed_usd"] for row in rows if row["scope"] != "run"}

    def memberships(self) -> set[tuple[str, str, bool]]:
        return {
            (row["prompt_set"], row["generation_id"], row["is_current"]) for row in self.ledger_rows(SET_GENERATIONS)
        }

    @property
    def outputs(self) -> list[Path]:
        return sorted(p for p in (self.folder / "data" / "outputs").glob("*/*") if not p.name.endswith(".facts.json"))

    @property
    def sidecars(self) -> list[Path]:
        return sorted((self.folder / "data" / "outputs").glob("*/*.facts.json"))

    def check_whole(self) -> None:
        """Everything is stored, as recorded, and the books hold what the sandbox charged, to the last digit."""
        rows = self.generations()
        assert {row["state"] for row in rows} == {"succeeded"}, [(row["state"], row["error"]) for row in rows]
        for row in rows:
            assert hashlib.sha256(Path(row["output_uri"]).read_bytes()).hexdigest() == row["output_sha256"]
        assert sum((row["cost_usd"] for row in self.ledger_rows(ATTEMPTS)), Decimal(0)) == self.charged_usd
        for scope in ("day", "set"):
            assert sum(usd for (of, _), usd in self.spending().items() if of == scope) == self.charged_usd
        assert {row["request_id"] for row in rows} == self.charged_requests()


def edit(sidecar: Path, **changes: Any) -> None:
    """Change some fields; None takes one out."""
    document = {**json.loads(sidecar.read_text(encoding="utf-8")), **changes}
    kept = {name: value for name, value in document.items() if value is not None}
    sidecar.write_text(json.dumps(kept), encoding="utf-8")
