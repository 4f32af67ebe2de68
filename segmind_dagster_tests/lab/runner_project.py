"""A project folder, a sandbox and the runner between them; and what the sandbox itself says it charged."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from sqlalchemy import select

from segmind_dagster.data_folder import opened
from segmind_dagster.ledger.schema import ATTEMPTS, GENERATIONS, SPENDING
from segmind_dagster.prompts import find_prompt_set
from segmind_dagster.runner import Batch, collect, generate
from segmind_dagster.runner.clock import SystemClock
from segmind_dagster.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from segmind_dagster.ledger import Ledger
    from segmind_dagster.prompts import PromptSet
    from segmind_dagster.runner import RunReport
    from segmind_dagster.runner.work import Ended
    from segmind_dagster.sandbox import SandboxServer
    from segmind_dagster.settings import Settings

V1, V2 = "sdxl_newreality", "fast_flux_schnell"
_NAPS = 40


class QuickClock(SystemClock):
    """The real time, possibly some days ahead; waits are naps of a fortieth."""

    def __init__(self, *, ahead: timedelta = timedelta(0)) -> None:
        self.ahead = ahead

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / _NAPS)


class HandClock:
    """A clock that moves only while somebody sleeps on it, or when it is told to."""

    def __init__(self, start: datetime = datetime(2026, 3, 1, 12, tzinfo=UTC)) -> None:
        self._start = start
        self._passed_s = 0.0
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._passed_s)

    def monotonic(self) -> float:
        return self._passed_s

    def advance(self, seconds: float) -> None:
        self._passed_s += seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._passed_s += seconds
        await asyncio.sleep(0)


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
        (folder / "prompts").mkdir(parents=True, exist_ok=True)
        self.environ = {
            "SEGMIND_PROJECT_DIR": str(folder),
            "SEGMIND_API_URL": server.url,
            "SEGMIND_API_KEY": server.api_key,
            "SEGMIND_REQUESTS_PER_MINUTE": "60000",
            "SEGMIND_UNKNOWN_SETTLE_SECONDS": "0.15",
            "SEGMIND_V1_TIMEOUT_SECONDS": "3",
            **environ,
        }

    def settings(self, **environ: str) -> Settings:
        return load_settings(environ={**self.environ, **environ})

    def write(self, key: str, prompts: int | list[str] = 3, /, **fields: Any) -> str:
        """A prompt set of so many prompts, or of these; for fast-flux unless told otherwise."""
        texts = [f"{key} number {n}" for n in range(prompts)] if isinstance(prompts, int) else prompts
        document = {"models": [V2], "prompts": texts, **fields}
        (self.folder / "prompts" / f"{key}.yaml").write_text(json.dumps(document), encoding="utf-8")
        return key

    def load(self, key: str) -> PromptSet:
        return find_prompt_set(key, prompts_dir=self.folder / "prompts", project_dir=self.folder)

    def generate(self, *keys: str, clock: QuickClock | None = None, **options: Any) -> RunReport:
        sets = [self.load(key) for key in keys]
        settings = options.pop("settings", None) or self.settings()
        batches = [Batch(each, tuple(model.resource for model in each.models)) for each in sets]
        return generate(settings, batches, clock=clock or QuickClock(), **options)

    def collect(self, *, settings: Settings | None = None, clock: QuickClock | None = None) -> dict[str, Ended]:
        return collect(settings or self.settings(), clock=clock or QuickClock())

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        with opened(self.settings()) as (ledger, _):
            yield ledger

    def generations(self) -> list[Mapping[str, Any]]:
        with self.ledger() as ledger, ledger.reading() as connection:
            return [dict(row) for row in connection.execute(select(GENERATIONS)).mappings()]

    def attempts(self) -> list[Mapping[str, Any]]:
        with self.ledger() as ledger, ledger.reading() as connection:
            query = select(ATTEMPTS).order_by(ATTEMPTS.c.intent_at)
            return [dict(row) for row in connection.execute(query).mappings()]

    def states(self) -> list[str]:
        return sorted(row["state"] for row in self.generations())

    def committed_usd(self, scope: str = "day") -> Decimal:
        """What the ledger says was charged or is reserved, over all days (or sets, or runs)."""
        with self.ledger() as ledger, ledger.reading() as connection:
            return sum(
                connection.execute(select(SPENDING.c.committed_usd).where(SPENDING.c.scope == scope)).scalars(),
                Decimal(0),
            )

    def committed_per_attempt(self) -> list[Decimal]:
        return [row["cost_usd"] if row["cost_usd"] is not None else row["reserved_usd"] for row in self.attempts()]

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
        return {job["request_id"] for job in self.server.account()["jobs"] if job["charged"]}

    def check_all_bought_once(self, generations: int) -> None:
        """Every generation is charged once, stored, and in the books with what the sandbox charged."""
        rows = self.generations()
        assert [row["state"] for row in rows] == ["succeeded"] * generations, [
            (row["state"], row["failure_kind"], row["error"]) for row in rows
        ]
        assert self.charges == generations
        assert {row["request_id"] for row in rows} == self.charged_requests()
        self.check_money()
        for row in rows:
            content = Path(row["output_uri"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == row["output_sha256"]

    def check_money(self) -> None:
        """The day's money and the attempts' sum are what the sandbox charged, to the last digit."""
        assert {self.committed_usd(scope) for scope in ("day", "run", "set")} == {self.charged_usd}
        assert sum((row["cost_usd"] or 0 for row in self.attempts()), Decimal(0)) == self.charged_usd


def png(colour: str = "orange") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(stream, "PNG")
    return stream.getvalue()
