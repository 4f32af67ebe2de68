"""Cost and failure rate for each value of a prompt matrix's placeholders, from figures for each combination. Pure.

A generation has one value for every placeholder of its prompt, so that its money stands once under each placeholder:
the values of one placeholder add up to the set's spend, different placeholders must not be added to each other.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SUMMED: Final = (
    "generations", "succeeded", "failed", "attempts", "outputs",
    "cost_usd", "reported_cost_usd", "history_cost_usd", "estimated_cost_usd",
)  # fmt: skip


def by_variable(combinations: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of `usage_by_variable`.

    Args:
        combinations: a row for each prompt set, model and `chosen` (placeholder values as JSON), with sums.
    """
    sums: dict[tuple[str, str, str, str], dict[str, Any]] = {}
    for combination in combinations:
        for name, value in json.loads(combination["chosen"]).items():
            key = (combination["prompt_set"], combination["model"], name, _shown(value))
            found = sums.setdefault(key, dict.fromkeys(_SUMMED, 0))
            for column in _SUMMED:
                found[column] = _added(found[column], combination[column], is_money=column.endswith("_usd"))
    return [
        {
            **dict(zip(("prompt_set", "model", "variable", "value"), key, strict=True)),
            **found,
            "failure_rate": _ratio(found["failed"], found["succeeded"] + found["failed"]),
            "cost_per_output_usd": _ratio(
                _added(found["cost_usd"], found["estimated_cost_usd"], is_money=True), found["outputs"]
            ),
        }
        for key, found in sorted(sums.items())
    ]


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _added(amount: Any, more: Any, *, is_money: bool) -> Any:
    """A sum, which is not known (None) when a part of it is not."""
    if amount is None or more is None:
        return None
    return amount + (Decimal(str(more)) if is_money else int(more))


def _ratio(part: Any, whole: int) -> Any:
    return part / whole if whole and part is not None else None
