"""A project that loses its ledger, gets it back, and goes on; and what the sandbox itself says it charged."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from sqlalchemy import select

from segmind_dagster.data_folder import opened
from segmind_dagster.ledger.schema import ATTEMPTS, GENERATIONS, SET_GENERATIONS, SPENDING
from segmind_dagster.prompts import find_prompt_set
from segmind_dagster.recovery import rebuild
from segmind_dagster.runner import Batch, collect, generate
from segmind_dagster.runner.clock import SystemClock
from segmind_dagster.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from segmind_dagster.ledger import Ledger
    from segmind_dagster.recovery import Rebuilt
    from segmind_dagster.runner import RunReport
    from segmind_dagster.runner.work import Ended
    from segmind_dagster.sandbox import SandboxServer
    from segmind_dagster.settings import Settings

V1, V2 = "sdxl_newreality", "fast_flux_schnell"
TEXT, VIDEO, FACE = "llama_v3p1_8b_instruct", "wan_t2v_fast", "instantid"

# as the ledger kept them: what a rebuilding should bring back when nothing is missing
GENERATION_FACTS = (
    "generation_id", "model_slug", "resource", "prompt_set", "state", "owner", "attempts", "failure_kind", "error",
    "prompt", "negative_prompt", "body", "images", "variables", "seed", "sample", "request_id", "cost_usd",
    "cost_source", "output_uri", "output_sha256", "output_bytes", "output_format", "width", "height",
)  # fmt: skip
ATTEMPT_FACTS = (
    "generation_id", "attempt", "model_slug", "resource", "prompt_set", "state", "request_id", "cost_usd",
    "cost_source",
)  # fmt: skip


class QuickClock(SystemClock):
    """The real time; waits are naps of a fortieth."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 40)


class Lab:
    """One project against one sandbox.

    Args:
        server: a started sandbox.
        folder: the project folder.
        environ: settings as environment variables, beside the usual ones.
    """

    def __init__(self, server: SandboxServer, folder: Path, **environ: str) -> None:
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
            **environ,
        }
        self.said: list[str] = []

    def settings(self, **environ: str) -> Settings:
        return load_settings(environ={**self.environ, **environ})

    def write(self, key: str, prompts: int | Sequence[Any] = 3, /, **fields: Any) -> str:
        """A prompt set of so many prompts, or of these; for fast-flux unless told otherwise."""
        texts = [f"{key} number {n}" for n in range(prompts)] if isinstance(prompts, int) else list(prompts)
        document = {"models": [V2], "prompts": texts, **fields}
        (self.folder / "prompts" / f"{key}.yaml").write_text(json.dumps(document), encoding="utf-8")
        return key

    def forget(self, key: str) -> None:
        (self.folder / "prompts" / f"{key}.yaml").unlink()

    def generate(self, *keys: str) -> RunReport:
        folder = self.folder / "prompts"
        sets = [find_prompt_set(key, prompts_dir=folder, project_dir=self.folder) for key in keys]
        batches = [Batch(each, tuple(model.resource for model in each.models)) for each in sets]
        return generate(self.settings(), batches, clock=QuickClock())

    def collect(self) -> dict[str, Ended]:
        return collect(self.settings(), clock=QuickClock())

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

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        with opened(self.settings()) as (ledger, _):
            yield ledger

    def rows(self, table: Any = GENERATIONS) -> list[dict[str, Any]]:
        with self.ledger() as ledger, ledger.reading() as connection:
            query = select(table).order_by(*table.primary_key.columns)
            return [dict(row) for row in connection.execute(query).mappings()]

    def generations(self) -> list[dict[str, Any]]:
        return [{name: row[name] for name in GENERATION_FACTS} for row in self.rows()]

    def attempts(self) -> list[dict[str, Any]]:
        return [{name: row[name] for name in ATTEMPT_FACTS} for row in self.rows(ATTEMPTS)]

    def spending(self) -> dict[tuple[str, str], Decimal]:
        """Committed by day and by set; which run paid is not remembered everywhere."""
        rows = self.rows(SPENDING)
        return {(row["scope"], row["name"]): row["committed_usd"] for row in rows if row["scope"] != "run"}

    def memberships(self) -> set[tuple[str, str, bool]]:
        return {(row["prompt_set"], row["generation_id"], row["is_current"]) for row in self.rows(SET_GENERATIONS)}

    def states(self) -> list[str]:
        return sorted(row["state"] for row in self.rows())

    @property
    def outputs(self) -> list[Path]:
        return sorted(p for p in (self.folder / "data" / "outputs").glob("*/*") if not p.name.endswith(".facts.json"))

    @property
    def sidecars(self) -> list[Path]:
        return sorted((self.folder / "data" / "outputs").glob("*/*.facts.json"))

    @property
    def charged_usd(self) -> Decimal:
        return Decimal(self.server.account()["charged_usd"])

    @property
    def charges(self) -> int:
        charges: int = self.server.account()["charges"]
        return charges

    @property
    def posts(self) -> int:
        """POSTs to models, refused ones included."""
        posts: int = self.server.account()["requests"]["submit"]
        return posts

    def jobs(self) -> list[Mapping[str, Any]]:
        jobs: list[Mapping[str, Any]] = self.server.account()["jobs"]
        return jobs

    def check_whole(self) -> None:
        """Everything is stored, as recorded, and the books hold what the sandbox charged, to the last digit."""
        rows = self.rows()
        assert {row["state"] for row in rows} == {"succeeded"}, [(row["state"], row["error"]) for row in rows]
        for row in rows:
            assert hashlib.sha256(Path(row["output_uri"]).read_bytes()).hexdigest() == row["output_sha256"]
        assert sum((row["cost_usd"] for row in self.rows(ATTEMPTS)), Decimal(0)) == self.charged_usd
        for scope in ("day", "set"):
            assert sum(usd for (of, _), usd in self.spending().items() if of == scope) == self.charged_usd
        assert {row["request_id"] for row in rows} == {job["request_id"] for job in self.jobs() if job["charged"]}


def png(colour: str = "orange") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(stream, "PNG")
    return stream.getvalue()


def edit(sidecar: Path, **changes: Any) -> None:
    """Change some of the facts; None takes one out."""
    facts = {**json.loads(sidecar.read_text(encoding="utf-8")), **changes}
    kept = {name: value for name, value in facts.items() if value is not None}
    sidecar.write_text(json.dumps(kept), encoding="utf-8")
