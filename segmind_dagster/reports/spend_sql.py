"""What the reconciliation asks of the warehouse, as SQL: our `attempts`, Segmind's history and the balances, joined.

Rows that deserve a look; what each of them means is decided in `reconciliation`. Every query is about one API and
account (`:api_origin`), because a warehouse may hold several.
"""

from __future__ import annotations

from typing import Final

FIRST_INTENT: Final = "SELECT MIN(a.intent_at) AS first_at FROM attempts AS a WHERE a.api_origin = :api_origin"

# charged according to the history, and in no row of ours; a cost that is not known may be one
NOT_OURS: Final = """
    SELECT h.request_id, h.model, h.status, h.cost_usd, h.created_at, h.request_body
    FROM request_history AS h
    LEFT JOIN attempts AS a ON a.request_id = h.request_id AND a.api_origin = h.api_origin
    WHERE h.api_origin = :api_origin AND a.request_id IS NULL
        AND (h.cost_usd > 0 OR (h.cost_usd IS NULL AND h.status = 'COMPLETED'))
    ORDER BY h.created_at, h.request_id
"""

_CHARGED: Final = """
    charged AS (
        SELECT a.generation_id, a.attempt, a.model, a.prompt_set, a.request_id, a.status, a.failure_kind,
            a.intent_at, a.submitted_at, {usd} AS cost_usd
        FROM attempts AS a {join}
        WHERE a.api_origin = :api_origin AND {usd} > 0
    )
"""
_BY_LEDGER: Final = _CHARGED.format(usd="a.cost_usd", join="")
# what the history says of a charge counts where the ledger has none yet
_BY_BOTH: Final = _CHARGED.format(
    usd="COALESCE(a.cost_usd, h.cost_usd)",
    join="LEFT JOIN request_history AS h ON h.request_id = a.request_id AND h.api_origin = a.api_origin",
)


def charged_again(*, with_history: bool) -> str:
    """Every charge of the generations that have more than one, first to last."""
    return f"""
        WITH {_BY_BOTH if with_history else _BY_LEDGER},
        again AS (SELECT c.generation_id FROM charged AS c GROUP BY c.generation_id HAVING COUNT(*) > 1)
        SELECT c.generation_id, c.attempt, c.model, c.prompt_set, c.request_id, c.failure_kind, c.cost_usd, c.intent_at
        FROM charged AS c JOIN again AS g ON g.generation_id = c.generation_id
        ORDER BY c.generation_id, c.attempt
    """


def charged_in_vain(*, with_history: bool) -> str:
    """Charges of the generations of which no attempt brought a stored output."""
    return f"""
        WITH {_BY_BOTH if with_history else _BY_LEDGER},
        held AS (SELECT a.generation_id FROM attempts AS a WHERE a.status = 'succeeded' GROUP BY a.generation_id)
        SELECT c.generation_id, c.attempt, c.model, c.prompt_set, c.request_id, c.status, c.failure_kind, c.cost_usd,
            COALESCE(c.submitted_at, c.intent_at) AS submitted_at
        FROM charged AS c LEFT JOIN held AS d ON d.generation_id = c.generation_id
        WHERE d.generation_id IS NULL
        ORDER BY c.submitted_at, c.generation_id, c.attempt
    """


# settled here, and the history says another amount, or nothing at all
DIFFERENT: Final = """
    SELECT a.generation_id, a.attempt, a.model, a.prompt_set, a.request_id, a.cost_usd AS ledger_cost_usd,
        a.cost_source, a.submitted_at, h.request_id AS found_id, h.status AS history_status,
        h.cost_usd AS history_cost_usd
    FROM attempts AS a
    LEFT JOIN request_history AS h ON h.request_id = a.request_id AND h.api_origin = a.api_origin
    WHERE a.api_origin = :api_origin AND a.request_id IS NOT NULL AND a.cost_usd IS NOT NULL
        AND ((h.request_id IS NULL AND a.cost_usd > 0) OR a.cost_usd <> h.cost_usd)
    ORDER BY a.submitted_at, a.generation_id, a.attempt
"""

BALANCES: Final = """
    SELECT c.observed_at, c.balance_usd FROM credits AS c WHERE c.api_origin = :api_origin ORDER BY c.observed_at
"""

# of everything Segmind lists, what it charged and what our ledger has for it
CHARGES: Final = """
    SELECT h.created_at, h.ended_at, h.status, h.cost_usd, a.cost_usd AS ledger_cost_usd,
        CASE WHEN a.request_id IS NULL THEN 0 ELSE 1 END AS is_ours
    FROM request_history AS h
    LEFT JOIN attempts AS a ON a.request_id = h.request_id AND a.api_origin = h.api_origin
    WHERE h.api_origin = :api_origin
        AND (h.cost_usd > 0 OR (h.cost_usd IS NULL AND h.status <> 'FAILED') OR h.ended_at IS NULL)
"""

# what both books say of the requests in the history since our first POST: what was bought before it is not ours
BOTH_BOOKS: Final = """
    WITH began AS (SELECT MIN(a.intent_at) AS first_at FROM attempts AS a WHERE a.api_origin = :api_origin)
    SELECT SUM(h.cost_usd) AS history_usd,
        SUM(CASE WHEN h.cost_usd IS NULL AND COALESCE(h.status, '') <> 'FAILED' THEN 1 ELSE 0 END) AS history_unknown,
        SUM(a.cost_usd) AS ledger_usd,
        SUM(CASE WHEN a.request_id IS NOT NULL AND a.cost_usd IS NULL THEN 1 ELSE 0 END) AS ledger_unknown
    FROM request_history AS h
    CROSS JOIN began AS b
    LEFT JOIN attempts AS a ON a.request_id = h.request_id AND a.api_origin = h.api_origin
    WHERE h.api_origin = :api_origin
        AND (a.request_id IS NOT NULL OR h.created_at IS NULL OR h.created_at >= b.first_at)
"""
