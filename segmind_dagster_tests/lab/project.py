"""A project folder and a sandbox, with the runner between them; and what the sandbox itself says it charged.

What only the tests of one layer ask of a project is in that layer's own project, which extends this one.
"""

from __future__ import annotations

import io
import json
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

from PIL import Image
from sqlalchemy import select

from lab.clocks import QuickClock
from segmind_dagster.data_folder import opened
from segmind_dagster.ledger import entries
from segmind_dagster.ledger.schema import ATTEMPTS, GENERATIONS
from segmind_dagster.prompts import find_prompt_set
from segmind_dagster.registry import MODELS
from segmind_dagster.runner import Batch, collect, generate
from segmind_dagster.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from segmind_dagster.ledger import Ledger
    from segmind_dagster.prompts import PromptSet
    from segmind_dagster.runner import RunReport
    from segmind_dagster.runner.report import Ended
    from segmind_dagster.sandbox import SandboxServer
    from segmind_dagster.settings import Settings

REALITY, FLUX, STICKER = "sdxl_newreality", "fast_flux_schnell", "face_to_sticker"
TEXT, VIDEO, FACE = "llama_v3p1_8b_instruct", "wan_t2v_fast", "instantid"
# a model whose answer is the output, and one whose jobs are polled
V1, V2 = REALITY, FLUX


def quick_settings(server: SandboxServer, folder: Path) -> dict[str, str]:
    """The settings of a project against a sandbox, as environment variables: nothing waits long."""
    return {
        "SEGMIND_PROJECT_DIR": str(folder),
        "SEGMIND_API_URL": server.url,
        "SEGMIND_API_KEY": server.api_key,
        "SEGMIND_REQUESTS_PER_MINUTE": "60000",
        "SEGMIND_UNKNOWN_SETTLE_SECONDS": "0.15",
        "SEGMIND_V1_TIMEOUT_SECONDS": "3",
    }


class Project:
    """One project against one sandbox.

    Args:
        server: a started sandbox.
        folder: the project folder.
        environ: settings as environment variables, beside the usual ones.
    """

    model: ClassVar[str] = FLUX  # of sets that name none

    def __init__(self, server: SandboxServer, folder: Path, **environ: str) -> None:
        self.server = server
        self.folder = folder
        self.prompts = folder / "prompts"
        self.data = folder / "data"
        for path in (self.prompts, folder / ".dlt"):
            path.mkdir(parents=True, exist_ok=True)
        self.environ = {**quick_settings(server, folder), **environ}

    def settings(self, **environ: str) -> Settings:
        return load_settings(environ={**self.environ, **environ})

    def write(self, key: str, prompts: int | list[Any] = 3, /, **fields: Any) -> str:
        """A prompt file of so many prompts, or of these."""
        texts = [f"{key} number {n}" for n in range(prompts)] if isinstance(prompts, int) else prompts
        document = {"models": [self.model], "prompts": texts, **fields}
        (self.prompts / f"{key}.yaml").write_text(json.dumps(document), encoding="utf-8")
        return key

    def prompt_set(self, key: str) -> PromptSet:
        return find_prompt_set(key, prompts_dir=self.prompts, project_dir=self.folder)

    def generate(self, *keys: str, clock: QuickClock | None = None, **options: Any) -> RunReport:
        sets = [self.prompt_set(key) for key in keys]
        settings = options.pop("settings", None) or self.settings()
        batches = [Batch(each, tuple(model.resource for model in each.models)) for each in sets]
        return generate(settings, batches, clock=clock or QuickClock(), **options)

    def collect(self, *, settings: Settings | None = None, clock: QuickClock | None = None) -> dict[str, Ended]:
        return collect(settings or self.settings(), clock=clock or QuickClock())

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        with opened(self.settings()) as (ledger, _):
            yield ledger

    def publish_short_latencies(self) -> None:
        """Record short latencies as of the models list, so that waiting for a job of an unseen model is short."""
        with self.ledger() as ledger:
            quick = {model.slug: (None, 50) for model in MODELS}
            ledger.write(entries.record_model_prices, quick, now=datetime.now(UTC))

    def ledger_rows(self, table: Any) -> list[dict[str, Any]]:
        with self.ledger() as ledger, ledger.reading() as connection:
            query = select(table).order_by(*table.primary_key.columns)
            return [dict(row) for row in connection.execute(query).mappings()]

    def generations(self) -> list[dict[str, Any]]:
        return self.ledger_rows(GENERATIONS)

    def attempts(self) -> list[dict[str, Any]]:
        """In the order in which they were sent."""
        return sorted(self.ledger_rows(ATTEMPTS), key=lambda row: row["intent_at"])

    def states(self) -> list[str]:
        return sorted(row["state"] for row in self.generations())

    @property
    def duckdb_path(self) -> Path:
        return self.data / "segmind.duckdb"

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of a query on the warehouse; tables are those of the dataset."""
        import duckdb

        with duckdb.connect(str(self.duckdb_path)) as connection:
            connection.execute("USE segmind_data")
            return connection.execute(query).fetchall()

    def jobs(self) -> list[dict[str, Any]]:
        """Every job the sandbox took, with what it charged."""
        jobs: list[dict[str, Any]] = self.server.account()["jobs"]
        return jobs

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

    def charged_requests(self) -> set[str]:
        return {job["request_id"] for job in self.jobs() if job["charged"]}


def png(colour: str = "orange") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(stream, "PNG")
    return stream.getvalue()
