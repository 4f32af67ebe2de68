"""The command line as a person meets it: what is printed where, in which colour, and the exit code."""

from __future__ import annotations

import re
import sqlite3
import sys
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import requests
from click.testing import CliRunner
from sqlalchemy import update

from lab import project
from lab.project import FLUX, REALITY
from segmind_dagster.cli import main
from segmind_dagster.data_folder import opened
from segmind_dagster.ledger import Caps, entries, moves, reads
from segmind_dagster.ledger.schema import ATTEMPTS, GENERATIONS
from segmind_dagster.settings import load_settings

if TYPE_CHECKING:
    from segmind_dagster.settings import Settings

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Answer:
    """What a command did.

    Args:
        code: its exit code.
        out: standard output, without colours.
        coloured_err: standard error, as a terminal gets it.
    """

    code: int
    out: str
    coloured_err: str

    @property
    def err(self) -> str:
        return _COLOUR.sub("", self.coloured_err)

    def refusal(self) -> str:
        """The one red message of a command that was refused."""
        assert self.code == 1, (self.out, self.err)
        assert self.out == ""
        assert "Traceback" not in self.err
        assert self.coloured_err.startswith("\x1b[31m")
        assert self.coloured_err.endswith("\x1b[0m\n")
        assert self.coloured_err.count("\x1b[31m") == 1
        return self.err.rstrip("\n")


def run(*arguments: str) -> Answer:
    """Run the console script in this process."""
    before, code = sys.argv, 0
    sys.argv = ["segmind-dagster", *arguments]
    try:
        with CliRunner().isolation(color=True) as (out, err, _):
            try:
                main()
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
            return Answer(code, _COLOUR.sub("", out.getvalue().decode()), err.getvalue().decode())
    finally:
        sys.argv = before


class Project(project.Project):
    """A project whose settings are in the environment, which a command reads as well."""

    model = REALITY

    def settings(self, **_: str) -> Settings:
        return load_settings()

    def write(self, key: str, prompts: int | list[Any] = 2, /, **fields: Any) -> str:
        return super().write(key, prompts, **fields)

    def lose(self, key: str, prompts: int) -> list[str]:
        """Submissions that were accepted and whose answers were never seen; the ids of their generations."""
        self.submit_and_die(self.write(key, prompts, models=[FLUX]))
        now = datetime.now(UTC)
        with opened(self.settings()) as (ledger, _):
            ledger.write(
                lambda connection: connection.execute(
                    update(GENERATIONS).values(state="unknown", request_id=None, error="no answer", updated_at=now)
                )
            )
            ledger.write(
                lambda connection: connection.execute(update(ATTEMPTS).values(state="unknown", request_id=None))
            )
            records = ledger.read(reads.unfinished, is_alive=lambda *_: False)
        return [record.generation_id for record in records]

    def submit_and_die(self, key: str) -> None:
        """What a run leaves behind that is killed right after its POSTs were accepted."""
        found = self.prompt_set(key)
        with opened(self.settings()) as (ledger, _):
            for request in found.generations:
                now = datetime.now(UTC)
                row = {
                    "generation_id": request.generation_id, "model_slug": request.model.slug, "prompt": request.prompt,
                    "negative_prompt": None, "body": dict(request.body), "images": {}, "variables": {},
                    "seed": request.seed, "sample": 0,
                }  # fmt: skip
                resource = request.model.resource
                ledger.write(entries.register_set, prompt_set=key, resource=resource, generations=[row], now=now)
                claim = ledger.write(
                    moves.claim, generation_id=request.generation_id, owner="a run that died", run_id=None,
                    prompt_set=key, reserved_usd=Decimal("0.01"), caps=Caps(), rate_wait_ms=0, now=now,
                )  # fmt: skip
                accepted = requests.post(
                    f"{self.server.url}/v2/{request.model.slug}",
                    json=dict(request.body),
                    headers={"x-api-key": self.server.api_key},
                    timeout=10,
                )
                request_id = accepted.json()["request_id"]
                ledger.write(moves.mark_submitted, claim, request_id=request_id, http_status=200, now=now)

    def ledger_dump(self) -> list[str]:
        """Everything that the ledger holds, as SQL."""
        with closing(sqlite3.connect(self.data / "ledger.sqlite")) as connection:
            return list(connection.iterdump())
