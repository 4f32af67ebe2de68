"""The usage summaries as SQL: what is counted, summed and ranked. Asking is `queries`' business.

All money is summed over `attempts`, one row a POST, because a charge stands there once and may stand in the model
tables of several prompt sets. Percentiles are taken from counts by value, which every dialect can do exactly and
which costs less than sorting: a destination's own function exists in some, is approximate in others, and is only a
window function in the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_OPEN: Final = "('planned', 'submitting', 'submitted')"
TIMES: Final = ("queue", "inference", "latency")
PERCENTS: Final = (50, 95, 99)

_SPEND: Final = """
    SUM(CASE WHEN a.cost_source IN ('reported', 'history') THEN a.cost_usd ELSE 0 END) AS cost_usd,
    SUM(CASE WHEN a.cost_source = 'reported' THEN a.cost_usd ELSE 0 END) AS reported_cost_usd,
    SUM(CASE WHEN a.cost_source = 'history' THEN a.cost_usd ELSE 0 END) AS history_cost_usd,
    CASE WHEN MAX(CASE WHEN a.status = 'succeeded' AND a.cost_usd IS NULL AND COALESCE(a.reserved_usd, 0) = 0
                       THEN 1 ELSE 0 END) = 0
         THEN SUM(CASE WHEN a.cost_source = 'estimated' THEN a.cost_usd
                       WHEN a.cost_usd IS NULL THEN a.reserved_usd ELSE 0 END) END AS estimated_cost_usd
"""
_SENT: Final = f"""
    COUNT(*) AS attempts,
    SUM(CASE WHEN a.status = 'succeeded' THEN 1 ELSE 0 END) AS succeeded,
    SUM(CASE WHEN a.status = 'failed' THEN 1 ELSE 0 END) AS failed,
    SUM(CASE WHEN a.failure_kind = 'rate_limited' THEN 1 ELSE 0 END) AS rate_limited,
    SUM(a.rate_wait_ms) AS rate_wait_ms,
    {_SPEND}
"""
_SPEND_COLUMNS: Final = ("cost_usd", "reported_cost_usd", "history_cost_usd", "estimated_cost_usd")


def _of_sent(name: str) -> str:
    """0 where nothing was sent; what is not known stays so."""
    return f"CASE WHEN s.attempts IS NULL THEN 0 ELSE s.{name} END"


_FROM_SENT: Final = ", ".join(
    f"{_of_sent(name)} AS {name}" for name in ("attempts", "rate_limited", "rate_wait_ms", *_SPEND_COLUMNS)
)


def _known_sum(value: str) -> str:
    """A sum that is not known when a part of it is not."""
    return f"CASE WHEN MAX(CASE WHEN {value} IS NULL THEN 1 ELSE 0 END) = 0 THEN SUM({value}) END"


_PER_OUTPUT: Final = "(s.cost_usd + s.estimated_cost_usd) / NULLIF(s.succeeded, 0) AS cost_per_output_usd"
_PERCENTILE_NAMES: Final = tuple(f"{time}_p{percent}_ms" for time in TIMES for percent in PERCENTS)
_FROM_PERCENTILES: Final = ", ".join(f"p.{name}" for name in _PERCENTILE_NAMES)


def usage_sql(resources: Sequence[str], *, dated: Sequence[str] | None = None) -> dict[str, str]:
    """The query of each summary that is SQL from end to end, by table name.

    Args:
        resources: models whose tables exist; at least one.
        dated: of these, whose tables say when a set asked for something: those loaded since there is a column for
            it; all of them when None.
    """
    return {
        "usage_by_model": _by_model(resources),
        "usage_by_prompt_set": _by_prompt_set(resources),
        "usage_by_day": _by_day(resources, dated=resources if dated is None else dated),
        "usage_by_failure": f"""
            WITH every AS ({_generations(resources, "generation_id, model, status, failure_kind, error")}),
            sent AS (
                SELECT a.failure_kind, a.model, MIN(a.error) AS example, {_SENT}
                FROM attempts AS a WHERE a.failure_kind IS NOT NULL GROUP BY a.failure_kind, a.model
            ),
            still AS (
                SELECT e.failure_kind, e.model, MIN(e.error) AS example, COUNT(DISTINCT e.generation_id) AS still_failed
                FROM every AS e WHERE e.status = 'failed' AND e.failure_kind IS NOT NULL
                GROUP BY e.failure_kind, e.model
            ),
            keys AS (SELECT s.failure_kind, s.model FROM sent AS s UNION SELECT t.failure_kind, t.model FROM still AS t)
            SELECT k.failure_kind, k.model, {_of_sent("attempts")} AS attempts,
                COALESCE(t.still_failed, 0) AS still_failed, {_of_sent("rate_wait_ms")} AS rate_wait_ms,
                {", ".join(f"{_of_sent(name)} AS {name}" for name in _SPEND_COLUMNS)},
                COALESCE(s.example, t.example) AS example
            FROM keys AS k
            LEFT JOIN sent AS s ON s.failure_kind = k.failure_kind AND s.model = k.model
            LEFT JOIN still AS t ON t.failure_kind = k.failure_kind AND t.model = k.model
            ORDER BY 3 DESC, k.failure_kind, k.model
        """,
    }


def combinations_sql(resources: Sequence[str], *, as_text: str) -> str:
    """Counts and money for each combination of placeholder values of a prompt set; `variables` takes them apart.

    Args:
        resources: models whose tables exist; at least one.
        as_text: how the destination makes text of a JSON column, with `{}` for the column.
    """
    columns = f"prompt_set, generation_id, model, status, is_current, {as_text.format('variables')} AS chosen"
    return f"""
        WITH every AS ({_generations(resources, columns)}),
        paid AS (
            SELECT a.generation_id, a.prompt_set, {_SENT} FROM attempts AS a GROUP BY a.generation_id, a.prompt_set
        )
        SELECT e.prompt_set, e.model, e.chosen,
            SUM(CASE WHEN e.is_current THEN 1 ELSE 0 END) AS generations,
            SUM(CASE WHEN e.is_current AND e.status = 'succeeded' THEN 1 ELSE 0 END) AS succeeded,
            SUM(CASE WHEN e.is_current AND e.status = 'failed' THEN 1 ELSE 0 END) AS failed,
            SUM(COALESCE(s.attempts, 0)) AS attempts, SUM(COALESCE(s.succeeded, 0)) AS outputs,
            {", ".join(f"{_known_sum(_of_sent(name))} AS {name}" for name in _SPEND_COLUMNS)}
        FROM every AS e
        LEFT JOIN paid AS s ON s.generation_id = e.generation_id AND s.prompt_set = e.prompt_set
        WHERE e.chosen IS NOT NULL AND e.chosen <> '{{}}'
        GROUP BY e.prompt_set, e.model, e.chosen
    """


def _by_prompt_set(resources: Sequence[str]) -> str:
    def count(condition: str) -> str:
        # what a set no longer asks for is not counted, but its money is
        return f"SUM(CASE WHEN e.is_current AND {condition} THEN 1 ELSE 0 END)"

    counted = f"""
        SELECT e.prompt_set, SUM(CASE WHEN e.is_current THEN 1 ELSE 0 END) AS generations,
            {count("e.status = 'succeeded'")} AS succeeded,
            {count("e.status = 'failed'")} AS failed,
            {count("e.status = 'unknown'")} AS unknown,
            {count(f"e.status IN {_OPEN}")} AS unfinished,
            {count("e.is_reused")} AS reused,
            {_known_sum("CASE WHEN e.is_current THEN e.saved_usd ELSE 0 END")} AS saved_usd
        FROM every AS e GROUP BY e.prompt_set
    """
    return _asked_and_sent("prompt_set", resources, counted)


def _by_model(resources: Sequence[str]) -> str:
    # a generation may stand in several sets, loaded at different times: its most finished row tells
    counted = f"""
        SELECT o.model, COUNT(*) AS generations,
            SUM(CASE WHEN o.finished = 4 THEN 1 ELSE 0 END) AS succeeded,
            SUM(CASE WHEN o.finished = 3 THEN 1 ELSE 0 END) AS failed,
            SUM(CASE WHEN o.finished = 2 THEN 1 ELSE 0 END) AS unknown,
            SUM(CASE WHEN o.finished = 1 THEN 1 ELSE 0 END) AS unfinished,
            SUM(o.reused) AS reused,
            {_known_sum("o.saved_usd")} AS saved_usd
        FROM (
            SELECT e.model, e.generation_id,
                MAX(CASE WHEN e.status = 'succeeded' THEN 4 WHEN e.status = 'failed' THEN 3
                         WHEN e.status IN {_OPEN} THEN 1 ELSE 2 END) AS finished,
                SUM(CASE WHEN e.is_reused THEN 1 ELSE 0 END) AS reused,
                {_known_sum("e.saved_usd")} AS saved_usd
            FROM every AS e WHERE e.is_current GROUP BY e.model, e.generation_id
        ) AS o GROUP BY o.model
    """
    return _asked_and_sent("model", resources, counted)


def _by_day(resources: Sequence[str], *, dated: Sequence[str]) -> str:
    """What sets ask for, on the day when they first did, beside what was sent, on the day of the POST."""

    def asked_day(resource: str) -> str:
        return "asked_day" if resource in dated else "CAST(NULL AS DATE) AS asked_day"

    every = " UNION ALL ".join(
        f"SELECT {asked_day(resource)}, generation_id, status, is_current, is_reused, saved_usd FROM {resource}"
        for resource in resources
    )
    counts = ("generations", "reused", "stored", "still_failed")
    # rows without a day were loaded before there was one: they count as the ledger dates its own old rows, on the
    # day of the last POST
    return f"""
        WITH every AS ({every}),
        undated AS (
            SELECT a.generation_id, MAX(a.day) AS day FROM attempts AS a
            WHERE a.generation_id IN (SELECT e.generation_id FROM every AS e WHERE e.asked_day IS NULL)
            GROUP BY a.generation_id
        ),
        placed AS (
            SELECT COALESCE(e.asked_day, u.day) AS day, e.status, e.is_reused, e.saved_usd
            FROM every AS e LEFT JOIN undated AS u ON u.generation_id = e.generation_id
            WHERE e.is_current
        ),
        asked AS (
            SELECT p.day, COUNT(*) AS generations,
                SUM(CASE WHEN p.is_reused THEN 1 ELSE 0 END) AS reused,
                SUM(CASE WHEN p.status = 'succeeded' THEN 1 ELSE 0 END) AS stored,
                SUM(CASE WHEN p.status = 'failed' THEN 1 ELSE 0 END) AS still_failed,
                {_known_sum("p.saved_usd")} AS saved_usd
            FROM placed AS p WHERE p.day IS NOT NULL GROUP BY p.day
        ),
        sent AS (SELECT a.day, {_SENT} FROM attempts AS a GROUP BY a.day),
        keys AS (SELECT s.day FROM sent AS s UNION SELECT c.day FROM asked AS c),
        {_percentiles("day")}
        SELECT k.day, {", ".join(f"COALESCE(c.{name}, 0) AS {name}" for name in counts)},
            CASE WHEN c.generations IS NULL THEN 0 ELSE c.saved_usd END AS saved_usd,
            {_FROM_SENT}, {_of_sent("succeeded")} AS succeeded, {_of_sent("failed")} AS failed,
            {_PER_OUTPUT}, {_FROM_PERCENTILES}
        FROM keys AS k
        LEFT JOIN asked AS c ON c.day = k.day
        LEFT JOIN sent AS s ON s.day = k.day
        LEFT JOIN percentiles AS p ON p.day = k.day
        ORDER BY k.day
    """


def _asked_and_sent(dimension: str, resources: Sequence[str], counted: str) -> str:
    """Counts of what is asked for beside what was sent, also where there is only one of the two."""
    columns = "prompt_set, generation_id, model, status, is_reused, is_current, saved_usd"
    counts = ("generations", "succeeded", "failed", "unknown", "unfinished", "reused")
    return f"""
        WITH every AS ({_generations(resources, columns)}),
        counted AS ({counted}),
        sent AS (SELECT a.{dimension}, {_SENT} FROM attempts AS a GROUP BY a.{dimension}),
        keys AS (
            SELECT e.{dimension} FROM every AS e GROUP BY e.{dimension}
            UNION SELECT s.{dimension} FROM sent AS s
        ),
        {_percentiles(dimension)}
        SELECT k.{dimension}, {", ".join(f"COALESCE(c.{name}, 0) AS {name}" for name in counts)},
            {_FROM_SENT}, CASE WHEN c.generations IS NULL THEN 0 ELSE c.saved_usd END AS saved_usd,
            {_PER_OUTPUT}, {_FROM_PERCENTILES}
        FROM keys AS k
        LEFT JOIN counted AS c ON c.{dimension} = k.{dimension}
        LEFT JOIN sent AS s ON s.{dimension} = k.{dimension}
        LEFT JOIN percentiles AS p ON p.{dimension} = k.{dimension}
        ORDER BY k.{dimension}
    """


def _percentiles(dimension: str) -> str:
    """CTEs that end in `percentiles`: a row for each value of the dimension, a column for each percentile.

    The percentile of n values lies at place percent * (n - 1) / 100, counted from 0. `through` tells how many values
    are not larger, so that the value below a place is the least with `through > place`, the one above it the least
    with `through - 1 >= place`: whole numbers throughout, and a straight line between the two at the very end.
    """
    by_value = " UNION ALL ".join(
        f"SELECT a.{dimension}, '{time}' AS measure, a.{time}_ms AS ms, COUNT(*) AS n "
        f"FROM attempts AS a WHERE a.{time}_ms IS NOT NULL GROUP BY a.{dimension}, a.{time}_ms"
        for time in TIMES
    )
    ends = ", ".join(
        f"MIN(CASE WHEN r.through * 100 > {percent} * (t.n - 1) THEN r.ms END) AS p{percent}_below, "
        f"MIN(CASE WHEN (r.through - 1) * 100 >= {percent} * (t.n - 1) THEN r.ms END) AS p{percent}_above"
        for percent in PERCENTS
    )
    between = ", ".join(
        f"MAX(CASE WHEN q.measure = '{time}' THEN q.p{percent}_below "
        f"+ (q.p{percent}_above - q.p{percent}_below) * CAST(MOD({percent} * (q.n - 1), 100) AS DOUBLE) / 100.0 END) "
        f"AS {time}_p{percent}_ms"
        for time in TIMES
        for percent in PERCENTS
    )
    return f"""
        by_value AS ({by_value}),
        totals AS (SELECT v.{dimension}, v.measure, SUM(v.n) AS n FROM by_value AS v GROUP BY v.{dimension}, v.measure),
        ranked AS (
            SELECT v.{dimension}, v.measure, v.ms, SUM(v.n) OVER (
                PARTITION BY v.{dimension}, v.measure ORDER BY v.ms ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
            ) AS through FROM by_value AS v
        ),
        ends AS (
            SELECT r.{dimension}, r.measure, t.n, {ends}
            FROM ranked AS r JOIN totals AS t ON t.{dimension} = r.{dimension} AND t.measure = r.measure
            GROUP BY r.{dimension}, r.measure, t.n
        ),
        percentiles AS (SELECT q.{dimension}, {between} FROM ends AS q GROUP BY q.{dimension})
    """


def _generations(resources: Sequence[str], columns: str) -> str:
    return " UNION ALL ".join(f"SELECT {columns} FROM {resource}" for resource in resources)
