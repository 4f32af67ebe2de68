"""The books of everybody concerned: what was asked for, and what the provider, ledger, warehouse and disk hold.

The provider's books are its own journal and account; the ledger and the warehouse are read with plain SQL,
so that no code of the product vouches for itself. Comparing them is in `claims`.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import Counter
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from bench.chaos.world import DEALT
from segmind_dagster.sandbox.faults import (
    LATE_ERRORS,
    OUTPUT_FAULTS,
    POLL_FAULTS,
    REQUEST_FAULTS,
    SUBMIT_FAULTS,
    FaultDraw,
    Faults,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from segmind_dagster.prompts import PromptSet

Wire = tuple[str, str]
"""What the provider sees of a generation: slug and body, uploaded images left out."""

_NANO = Decimal(1_000_000_000)
_DATASET = "segmind_data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One generation that prompt sets ask for."""

    generation_id: str
    wire: Wire
    resource: str
    prompt_sets: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """One charge in the provider's journal."""

    request_id: str
    wire: Wire
    cost_usd: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """The provider's books.

    Args:
        charges: every charge.
        charged_usd: their sum, by its account.
        posts: POSTs to models that it looked at, refused ones included.
        refused_by_rate: requests answered 429.
        running: accepted jobs without an outcome.
        dealt: faults of submissions by kind.
        faulted: submissions that met one or more.
        asked: requests that submitted nothing, by route.
        spoilt: faults of such requests, by route and kind.
    """

    charges: tuple[Charge, ...]
    charged_usd: Decimal
    posts: int
    refused_by_rate: int
    running: int
    dealt: Counter[str]
    faulted: int
    asked: Mapping[str, int] = field(default_factory=dict)
    spoilt: Mapping[str, Counter[str]] = field(default_factory=dict)

    @property
    def undealt(self) -> list[str]:
        """Kinds of fault that nobody met, and routes that met none."""
        met = sum(self.spoilt.values(), Counter(self.dealt))
        return [kind for kind in (*DEALT, *REQUEST_FAULTS, *self.asked) if not (met[kind] or self.spoilt.get(kind))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The ledger's books: state and request id by generation, and the sum and number of its attempts."""

    states: Mapping[str, str]
    request_ids: Mapping[str, str | None]
    charged_usd: Decimal
    attempts: int


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a model table."""

    prompt_set: str
    generation_id: str
    status: str
    request_id: str | None
    output_uri: str | None
    output_sha256: str | None
    cost_usd: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Warehouse:
    """The warehouse: rows of the model tables, and what its `attempts` table sums up to."""

    rows: tuple[Row, ...]
    charged_usd: Decimal
    attempts: int
    charges: int


def asked_for(sets: Iterable[PromptSet]) -> tuple[Asked, ...]:
    """Every generation once, with the sets that want it."""
    wanted: dict[str, list[Any]] = {}
    for prompt_set in sets:
        for request in prompt_set.generations:
            wanted.setdefault(request.generation_id, [request, set()])[1].add(prompt_set.key)
    return tuple(
        Asked(
            generation_id=generation_id,
            wire=(request.model.slug, _text(request.body)),
            resource=request.model.resource,
            prompt_sets=frozenset(keys),
        )
        for generation_id, (request, keys) in wanted.items()
    )


def read_provider(
    journal: Path, account: Mapping[str, Any], *, images: Mapping[str, frozenset[str]], faults: Faults
) -> Provider:
    """The books of a sandbox that has stopped.

    Args:
        journal: its journal.
        account: the last it said of its account.
        images: names of image parameters by slug.
        faults: what it was told to deal.
    """
    records = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    jobs = {record["request_id"]: record for record in records if record["type"] == "job"}
    settled = {record["request_id"]: record for record in records if record["type"] == "settled"}
    dealt, faulted = _dealt(faults, jobs.values())
    return Provider(
        charges=tuple(
            Charge(
                request_id=request_id,
                wire=wire_of(job["slug"], job["body"], images=images),
                cost_usd=Decimal(job["cost_usd"]),
            )
            for request_id, job in jobs.items()
            if request_id in settled and settled[request_id]["charged"]
        ),
        charged_usd=Decimal(account["charged_usd"]),
        posts=account["requests"]["submit"],
        refused_by_rate=account["rate_limited"],
        running=len(jobs.keys() - settled.keys()),
        dealt=dealt,
        faulted=faulted,
        asked={route: count for route, count in account["requests"].items() if route != "submit" and count},
        spoilt={route: Counter(kinds) for route, kinds in account["spoilt"].items()},
    )


def read_ledger(path: Path) -> Ledger:
    """The books of a ledger file."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        rows = connection.execute("SELECT generation_id, state, request_id FROM generations").fetchall()
        nanos, attempts = connection.execute("SELECT sum(cost_usd), count(*) FROM attempts").fetchone()
    finally:
        connection.close()
    return Ledger(
        states={generation_id: state for generation_id, state, _ in rows},
        request_ids={generation_id: request_id for generation_id, _, request_id in rows},
        charged_usd=Decimal(nanos or 0) / _NANO,
        attempts=attempts,
    )


def held_by(path: Path, pid: int) -> int:
    """How many generations the run of that process is at."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        (count,) = connection.execute(
            "SELECT count(*) FROM generations JOIN runs USING (owner) "
            "WHERE pid = ? AND state IN ('submitting', 'submitted', 'unknown')",
            (pid,),
        ).fetchone()
    except sqlite3.OperationalError:  # killed before there was a table
        return 0
    finally:
        connection.close()
    return int(count)


def read_warehouse(path: Path, resources: Sequence[str]) -> Warehouse:
    """The books of a DuckDB file."""
    import duckdb

    columns = ", ".join(each.name for each in fields(Row))
    with duckdb.connect(str(path), read_only=True) as connection:
        tables = [connection.table(f"{_DATASET}.{resource}").project(columns).fetchall() for resource in resources]
        attempts = connection.table(f"{_DATASET}.attempts").project("cost_usd").fetchall()
    costs = [cost_usd for (cost_usd,) in attempts if cost_usd]
    return Warehouse(
        rows=tuple(Row(*row) for table in tables for row in table),
        charged_usd=sum(costs, Decimal(0)),
        attempts=len(attempts),
        charges=len(costs),
    )


def read_outputs(folder: Path) -> dict[str, str]:
    """SHA-256 of every stored file by path, sidecars left out."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.glob("*/*")
        if path.is_file() and not path.name.endswith(".facts.json")
    }


def _dealt(faults: Faults, jobs: Iterable[Mapping[str, Any]]) -> tuple[Counter[str], int]:
    """The faults of all submissions: each is decided by its body and number alone, and the last was accepted."""
    draw = FaultDraw(faults)
    submissions: dict[tuple[str, str], int] = {}
    for job in jobs:
        key = (job["slug"], _text(job["body"]))
        submissions[key] = max(submissions.get(key, 0), job["nth"] + 1)
    dealt: Counter[str] = Counter()
    faulted = 0
    for (slug, body), count in submissions.items():
        for nth in range(count):
            drawn = draw.draw(slug, body, nth)
            met = [kind for kind in (drawn.submit, drawn.poll, drawn.output) if kind is not None]
            # a refused submission never comes to be polled or fetched
            met = met[:1] if drawn.submit in _REFUSALS else met
            dealt.update(met)
            faulted += bool(met)
    return dealt, faulted


_LOST = (
    "gateway_timeout", "accepted_then_reset", "accepted_then_hang", "accepted_unreadable", "accepted_202", *LATE_ERRORS
)  # fmt: skip
_REFUSALS = frozenset(SUBMIT_FAULTS) - frozenset(_LOST)
FAULTS_BY_TIME = {"submitting": SUBMIT_FAULTS, "polling": POLL_FAULTS, "fetching": OUTPUT_FAULTS}


def wire_of(slug: str, body: Mapping[str, Any], *, images: Mapping[str, frozenset[str]]) -> Wire:
    """How a submission is told from others: its images are left out, whose addresses differ at each upload."""
    return slug, _text({name: value for name, value in body.items() if name not in images[slug]})


def _text(body: Mapping[str, Any]) -> str:
    """A body as the sandbox compares them."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
