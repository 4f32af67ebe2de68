"""What is missing of a prompt set's generations for a model, how bad that is, and what to do about it. Pure.

What may follow a failure is written in `lifecycle.failures`, what may be retried in `lifecycle.next_step`; here are
the words for both.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from segmind_dagster.checks.outcomes import SAMPLE, CheckOutcome, Verdict, counted
from segmind_dagster.lifecycle.failures import policy_of
from segmind_dagster.lifecycle.next_step import KEPT, next_step
from segmind_dagster.lifecycle.parsing import FREE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from decimal import Decimal

    from segmind_dagster.lifecycle.generation import Generation

_Status = Literal["given up", "lost", "unknown", "damaged", "failed", "not collected", "not bought"]
# worst first: this is also the order of the sample
_STATUSES: Final[Mapping[_Status, tuple[Verdict, str]]] = {
    "given up": ("error", "failed for good"),
    "lost": ("error", "paid for but gone from Segmind"),
    "unknown": ("error", "submitted with an unknown outcome"),
    "damaged": ("warning", "paid for but came damaged"),
    "failed": ("warning", "failed and can be tried again"),
    "not collected": ("warning", "submitted but not fetched yet"),
    "not bought": ("warning", "not bought yet"),
}
# paid for, and of no use
_UNUSABLE: Final[tuple[_Status, ...]] = ("lost", "damaged")


def completeness(
    asked_for: int,
    rows: Sequence[Generation],
    *,
    prompt_set: str,
    now: datetime,
    quarantined: Mapping[str, str] = MappingProxyType({}),
) -> CheckOutcome:
    """Whether a model has delivered all that a set asks of it.

    Args:
        asked_for: generations the set asks of the model.
        rows: those that are not stored.
        prompt_set: the set.
        now: the time.
        quarantined: by generation, the address of a file that was refused.
    """
    rows_by_status: defaultdict[_Status, list[Generation]] = defaultdict(list)
    under_way = 0
    for row in rows:
        status = _status(row, now)
        if status is None:
            under_way += 1
        else:
            rows_by_status[status].append(row)
    found = {status: rows_by_status[status] for status in _STATUSES if status in rows_by_status}
    figures: dict[str, int | Decimal | str] = {
        "generations asked for": asked_for,
        "stored": asked_for - len(rows),
        **({"under way": under_way} if under_way else {}),
        **{_STATUSES[status][1]: len(of_status) for status, of_status in found.items()},
    }
    unusable = [row for status in _UNUSABLE for row in found.get(status, ())]
    kept = [row for row in unusable if row.generation_id in quarantined]
    unusable_usd = sum((row.cost_usd or FREE for row in unusable), FREE)
    if unusable:
        figures |= {"paid for and not usable (USD)": unusable_usd, "of these with a file in quarantine": len(kept)}
    if not asked_for:
        return CheckOutcome(verdict="passed", description="Nothing has been asked of this model yet.", figures=figures)
    stored = f"{asked_for - len(rows)} of {asked_for} generations are stored"
    if not found:
        also = f", {under_way} being worked on" if under_way else ""
        return CheckOutcome(verdict="passed", description=f"{stored}{also}; nothing failed.", figures=figures)
    counts = ", ".join(f"{len(of_status)} {_STATUSES[status][1]}" for status, of_status in found.items())
    worst_first = [(status, row) for status, of_status in found.items() for row in of_status]
    return CheckOutcome(
        verdict="error" if any(_STATUSES[status][0] == "error" for status in found) else "warning",
        description="\n".join(
            [f"{stored}; {counts}.", *_paid(unusable, unusable_usd, kept, quarantined), *_recovery(found, prompt_set)]
        ),
        figures=figures,
        sample=[
            {
                "generation": row.generation_id,
                "prompt": row.prompt[:80],
                "what": _STATUSES[status][1],
                "kind": row.failure_kind or "",
                "runs": row.failed_runs,
                "error": (row.error or "")[:300],
                **({"file": quarantined.get(row.generation_id, "")} if kept else {}),
            }
            for status, row in worst_first[:SAMPLE]
        ],
    )


def _status(row: Generation, now: datetime) -> _Status | None:
    match next_step(row, by_person=False).step:
        case "wait" | "reuse":
            return None
        case "look_up":
            return "unknown"
        case "leave":
            return "given up"
        case "submit":
            return "not bought" if row.state == "planned" else "failed"
        case "collect" if row.state == "submitted":
            return "not collected"
        case "collect":
            is_gone = row.failure_kind == "expired" or (row.sent_at is not None and now - row.sent_at >= KEPT)
            return "lost" if is_gone else "damaged"


def _paid(
    unusable: Sequence[Generation], usd: Decimal, kept: Sequence[Generation], quarantined: Mapping[str, str]
) -> list[str]:
    """What was paid for and cannot be used: the money, where the bytes are, and what to do."""
    if not unusable:
        return []
    lines = [f"${usd:.4f} was paid for {counted(len(unusable), 'output', 'outputs')} that cannot be used."]
    if kept:
        lines.append(
            f"What came for {len(kept)} of them is kept; look at it, e.g. {quarantined[kept[0].generation_id]}."
        )
    lines.append(
        "`segmind-dagster collect` fetches them again, free of charge; `segmind-dagster resolve GENERATION "
        "--buy-again` buys one once more."
    )
    return lines


def _recovery(found: Mapping[_Status, Sequence[Generation]], prompt_set: str) -> list[str]:
    """What to do, a line each: for every kind of failure what the policy advises, then what happens by itself."""
    # what was not bought has a kind of its own only if something stopped the whole run
    kinds = Counter(
        row.failure_kind
        for rows in found.values()
        for row in rows
        if row.state == "failed"
        or (row.state == "planned" and row.failure_kind and policy_of(row.failure_kind).stops_run)
    )
    lines = [f"{kind or 'no kind recorded'} ({count}): {policy_of(kind).advice}" for kind, count in kinds.most_common()]
    if "unknown" in found:
        lines.append(
            "Unknown outcomes are looked up in Segmind's history: run `segmind-dagster collect`. What stays unknown "
            "is decided by a person: `segmind-dagster resolve`."
        )
    if "given up" in found:
        lines.append(f"Nothing tries these again by itself: mend the cause, then materialize '{prompt_set}'.")
    if found.keys() & {"failed", "damaged", "not bought"}:
        lines.append(
            "The sensor `failed_generations` retries what may be retried, within the budget; or materialize "
            f"'{prompt_set}' now."
        )
    if "not collected" in found:
        lines.append("What was submitted is fetched by the next run, or now by `segmind-dagster collect`.")
    total = sum(map(len, found.values()))
    if total > SAMPLE:
        lines.append(f"The table shows {SAMPLE} of {total}; the model's table in the warehouse holds them all.")
    return lines
