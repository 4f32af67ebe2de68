"""The ledger's tables, for SQLite and PostgreSQL alike.

Money is stored as whole nano-dollars and time as whole microseconds: exact, summable and indexable in
every SQL dialect. Changes here need a new file in `migrations/versions`; a test compares the two.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    and_,
    func,
    literal_column,
    or_,
    text,
)
from sqlalchemy.types import TypeDecorator

from segmind_dagster.lifecycle.failures import FREE_KINDS, PAID_KINDS

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NANO = Decimal(1_000_000_000)


def whole_nanos(amount_usd: Decimal) -> Decimal:
    """An amount in whole nano-dollars, so that sums of stored amounts are exact."""
    return (amount_usd * _NANO).to_integral_value(ROUND_HALF_EVEN) / _NANO


class Usd(TypeDecorator[Decimal]):
    """A Decimal of dollars, stored as nano-dollars."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> int | None:  # noqa: ARG002  SQLAlchemy's signature
        """Dollars to nano-dollars."""
        return None if value is None else int((value * _NANO).to_integral_value(ROUND_HALF_EVEN))

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:  # noqa: ARG002  SQLAlchemy's signature
        """Nano-dollars to dollars."""
        return None if value is None else Decimal(int(value)) / _NANO


class Utc(TypeDecorator[datetime]):
    """An aware datetime, stored as microseconds since 1970 UTC."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002  SQLAlchemy's signature
        """A datetime to microseconds."""
        return None if value is None else (value - _EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002  SQLAlchemy's signature
        """Microseconds to a datetime."""
        return None if value is None else _EPOCH + timedelta(microseconds=value)


class JsonText(TypeDecorator[Any]):
    """A JSON value stored as text, with its key order."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002  SQLAlchemy's signature
        """A value to its text."""
        return None if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002  SQLAlchemy's signature
        """Text to its value."""
        return None if value is None else json.loads(value)


METADATA = MetaData()

GENERATIONS = Table(
    "generations",
    METADATA,
    Column("generation_id", Text, primary_key=True),
    Column("model_slug", Text, nullable=False),
    Column("resource", Text, nullable=False),
    Column("prompt_set", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("owner", Text),
    Column("attempts", Integer, nullable=False, default=0),
    Column("failure_kind", Text),
    Column("error", Text),
    Column("prompt", Text, nullable=False),
    Column("negative_prompt", Text),
    Column("body", JsonText, nullable=False),
    Column("images", JsonText, nullable=False),
    Column("variables", JsonText, nullable=False),
    Column("seed", BigInteger),
    Column("sample", Integer, nullable=False),
    Column("request_id", Text),
    Column("intent_at", Utc),
    Column("submitted_at", Utc),
    Column("completed_at", Utc),
    Column("cost_usd", Usd),
    Column("cost_source", Text),
    Column("queue_ms", BigInteger),
    Column("inference_ms", BigInteger),
    Column("latency_ms", BigInteger),
    Column("output_uri", Text),
    Column("output_sha256", Text),
    Column("provider_sha256", Text),
    Column("output_bytes", BigInteger),
    Column("output_format", Text),
    Column("width", Integer),
    Column("height", Integer),
    Column("run_id", Text),
    Column("updated_at", Utc, nullable=False),
    # totals
    Index("generations_by_state", "state", "cost_usd"),
    # sensors and the start of every run query what is not stored: a partial index stays small for years
    Index(
        "generations_open",
        "state", "failure_kind", "generation_id", "resource", "owner", "updated_at", "submitted_at",
        "intent_at",
        sqlite_where=text("state <> 'succeeded'"),
        postgresql_where=text("state <> 'succeeded'"),
    ),
)  # fmt: skip

# literal, to use `generations_open`: SQLite matches the text of the condition, which bound values do not have
IS_OPEN = GENERATIONS.c.state != literal_column("'succeeded'")
# paid for by its kind of failure; or accepted, and failed in a way that this version does not know
MAY_BE_PAID_FAILURE = and_(
    GENERATIONS.c.state == "failed",
    or_(
        GENERATIONS.c.failure_kind.in_(sorted(PAID_KINDS)),
        and_(
            func.coalesce(GENERATIONS.c.failure_kind, "").not_in(sorted(FREE_KINDS)),
            GENERATIONS.c.submitted_at.is_not(None),
        ),
    ),
)

SET_GENERATIONS = Table(
    "set_generations",
    METADATA,
    Column("prompt_set", Text, primary_key=True),
    Column("generation_id", Text, primary_key=True),
    Column("resource", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("is_current", Boolean, nullable=False),
    Column("asked_at", Utc),
    Index("set_generations_by_generation", "generation_id", "is_current", "prompt_set"),
)

ATTEMPTS = Table(
    "attempts",
    METADATA,
    Column("generation_id", Text, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("model_slug", Text, nullable=False),
    Column("resource", Text, nullable=False),
    Column("prompt_set", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("run_id", Text),
    Column("request_id", Text),
    Column("http_status", Integer),
    Column("failure_kind", Text),
    Column("error", Text),
    Column("reserved_usd", Usd, nullable=False),
    Column("cost_usd", Usd),
    Column("cost_source", Text),
    Column("rate_wait_ms", BigInteger, nullable=False, default=0),
    Column("queue_ms", BigInteger),
    Column("inference_ms", BigInteger),
    Column("latency_ms", BigInteger),
    Column("intent_at", Utc, nullable=False),
    Column("submitted_at", Utc),
    Column("completed_at", Utc),
    Index("attempts_by_request", "request_id", unique=True),
    Index("attempts_by_day", "intent_at"),
    Index("attempts_by_run", "run_id"),
    Index("attempts_by_set", "prompt_set"),
    # recent costs and latencies of a model
    Index("attempts_by_model", "model_slug", "state", "completed_at"),
    # in how many runs a generation failed
    Index(
        "attempts_failed",
        "generation_id", "owner", "failure_kind",
        sqlite_where=text("failure_kind IS NOT NULL"),
        postgresql_where=text("failure_kind IS NOT NULL"),
    ),
    # every claim asks what is open or was never reported: few of all, answered from the index alone, in groups as it is
    # ordered
    Index(
        "attempts_unreported",
        "model_slug", "prompt_set", "state", "run_id", "owner", "reserved_usd", "cost_usd", "cost_source",
        "intent_at",
        sqlite_where=text("cost_usd IS NULL OR cost_source = 'estimated'"),
        postgresql_where=text("cost_usd IS NULL OR cost_source = 'estimated'"),
    ),
)  # fmt: skip

# literal, to use `attempts_unreported`, as with `IS_OPEN`
IS_UNREPORTED = ATTEMPTS.c.cost_usd.is_(None) | (ATTEMPTS.c.cost_source == literal_column("'estimated'"))

RUNS = Table(
    "runs",
    METADATA,
    Column("owner", Text, primary_key=True),
    Column("run_id", Text),
    Column("place", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", Utc, nullable=False),
    # on the holder's wall clock, for people; the two below decide, see `leases`
    Column("lease_until", Utc, nullable=False),
    Column("process_started", BigInteger),
    Column("until_s", Float),
    Column("until_database_s", Float),
    Column("ended_at", Utc),
    Index("runs_by_run", "run_id"),
    Index("runs_by_lease", "lease_until"),
)

# committed by each UTC day, run and prompt set: charges plus reservations, so that a cap is one lookup
SPENDING = Table(
    "spending",
    METADATA,
    Column("scope", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("committed_usd", Usd, nullable=False),
)

# the latest prices and latencies in Segmind's models list
MODEL_PRICES = Table(
    "model_prices",
    METADATA,
    Column("model_slug", Text, primary_key=True),
    Column("cost_usd", Usd),
    Column("latency_ms", BigInteger),
    Column("observed_at", Utc, nullable=False),
)

# the highest cost reported lately: used by the caps until the others are reported
REPORTED_PRICES = Table(
    "reported_prices",
    METADATA,
    Column("model_slug", Text, primary_key=True),
    Column("highest_usd", Usd, nullable=False),
    Column("reported_at", Utc, nullable=False),
)

UPLOADS = Table(
    "uploads",
    METADATA,
    Column("sha256", Text, primary_key=True),
    Column("url", Text, nullable=False),
    Column("uploaded_at", Utc, nullable=False),
)

RATE_LIMIT = Table(
    "rate_limit",
    METADATA,
    Column("scope", Text, primary_key=True),
    Column("per_minute", Float, nullable=False),
    Column("next_slot_at", Utc, nullable=False),
    Column("cut_at", Utc),
    # when these moments were written: by the writer's wall clock, and on the clock of its machine
    Column("written_at", Utc),
    Column("boot", Text),
    Column("written_s", Float),
)

# the key in `meta` of the last balance seen, as JSON
BALANCE_KEY = "balance"

META = Table(
    "meta",
    METADATA,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
