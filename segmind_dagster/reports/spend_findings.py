"""What the checks of the reconciliation say: its rows -> verdict, sentence, figures. Pure.

A sentence gives the exact count and sum first and what to do last, as in `findings`. What could not be compared is
said to be unknown, and is no reason for alarm.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from segmind_dagster.reports.findings import SAMPLE, Finding, counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Rows = Sequence[Mapping[str, Any]]

_FREE: Final = Decimal(0)
_NO_HISTORY: Final = (
    "Segmind's history has not been loaded, so that nothing can be compared with it. Materialize "
    "`segmind/request_history` and `segmind/credits`, then this asset; both are free."
)
# the runway at which a person should look
_SHORT_DAYS: Final = 3


def charges_explained(rows: Rows, *, has_history: bool) -> Finding:
    """Whether every charge in the history is one of ours.

    Args:
        rows: of `spend_unexplained`.
        has_history: whether the history was ever loaded.
    """
    if not has_history:
        return Finding(verdict="passed", description=_NO_HISTORY, figures={"charges compared": "not known"})
    usd, unknown = _sum(rows, "cost_usd")
    maybe = [row for row in rows if row["may_be_ours"]]
    figures: dict[str, int | Decimal | str] = {
        "charges not explained": len(rows),
        "not explained (USD)": usd,
        **({"of it, with a cost not known": unknown} if unknown else {}),
        "perhaps ours": len(maybe),
        "perhaps ours (USD)": _sum(maybe, "cost_usd")[0],
    }
    if not rows:
        described = "Every charge in Segmind's history since our first POST is in our ledger."
        return Finding(verdict="passed", description=described, figures=figures)
    are = "is" if len(rows) == 1 else "are"
    charges = counted(len(rows), "charge", "charges")
    lines = [f"{charges} of ${usd:.4f} in Segmind's history {are} not in our ledger{_and_unknown(unknown)}."]
    if maybe:
        lines.append(
            f"{counted(len(maybe), 'of them is', 'of them are')} for what a submission of ours asked for whose "
            "outcome nobody has seen: run `segmind-dagster collect`, which looks it up and buys nothing."
        )
    if len(maybe) < len(rows):
        lines.append(
            "What else uses this account (a colleague, Segmind's website, another project) shows here too. If nothing "
            "does, change the API key, and ask Segmind's support with the request ids."
        )
    return Finding(
        verdict="error" if maybe else "warning",
        description="\n".join(lines),
        figures=figures,
        sample=_sample(rows, ("request_id", "model", "status", "cost_usd", "created_at")),
    )


def nothing_paid_twice(rows: Rows) -> Finding:
    """Whether no generation was charged more than once.

    Args:
        rows: of `spend_paid_twice`.
    """
    excess, _ = _sum(rows, "excess_usd")
    figures: dict[str, int | Decimal | str] = {"paid more than once": len(rows), "paid too much (USD)": excess}
    if not rows:
        return Finding(verdict="passed", description="No generation was paid for twice.", figures=figures)
    return Finding(
        verdict="error",
        description=(
            f"{counted(len(rows), 'generation was', 'generations were')} paid for more than once, ${excess:.4f} too "
            "much. `spend_paid_twice` has every request id, which Segmind's support can look at; nothing more is "
            "bought for them."
        ),
        figures=figures,
        sample=_sample(rows, ("generation_id", "prompt_set", "charges", "excess_usd", "request_ids")),
    )


def everything_paid_is_held(rows: Rows) -> Finding:
    """Whether everything that was charged is stored here.

    Args:
        rows: of `spend_not_held`.
    """
    waiting = [row for row in rows if row["can_be_fetched"]]
    lost = [row for row in rows if not row["can_be_fetched"]]
    waiting_usd, lost_usd = (_sum(some, "cost_usd")[0] for some in (waiting, lost))
    figures: dict[str, int | Decimal | str] = {
        "can be fetched": len(waiting),
        "can be fetched (USD)": waiting_usd,
        "lost": len(lost),
        "lost (USD)": lost_usd,
    }
    if not rows:
        return Finding(verdict="passed", description="Everything that was paid for is stored here.", figures=figures)
    lines = []
    if waiting:
        first = min(row["expires_at"] for row in waiting)
        lines.append(
            f"{counted(len(waiting), 'output', 'outputs')} worth ${waiting_usd:.4f} can still be fetched, the first "
            f"until {first:%Y-%m-%d %H:%M} UTC. Run `segmind-dagster collect`: it fetches what was paid for and buys "
            "nothing."
        )
        if damaged := sorted({row["prompt_set"] for row in waiting if row["failure_kind"] == "bad_output"}):
            lines.append(f"What came damaged is fetched again when its set is materialized: {', '.join(damaged[:10])}.")
    if lost:
        lines.append(
            f"{counted(len(lost), 'output', 'outputs')} worth ${lost_usd:.4f} can no longer be fetched: Segmind keeps "
            "files for 7 days. Ask its support with the request ids; buying them again takes your word."
        )
    return Finding(
        verdict="error",
        description="\n".join(lines),
        figures=figures,
        sample=_sample([*waiting, *lost], ("generation_id", "prompt_set", "request_id", "cost_usd", "expires_at")),
    )


def costs_agree(rows: Rows, *, has_history: bool) -> Finding:
    """Whether ledger and history name the same amount for every request.

    Args:
        rows: of `spend_cost_differences`.
        has_history: whether the history was ever loaded.
    """
    if not has_history:
        return Finding(verdict="passed", description=_NO_HISTORY, figures={"costs compared": "not known"})
    different = [row for row in rows if row["difference_usd"] is not None]
    absent = [row for row in rows if row["difference_usd"] is None]
    usd, absent_usd = _sum(different, "difference_usd")[0], _sum(absent, "ledger_cost_usd")[0]
    estimated = sum(row["cost_source"] == "estimated" for row in rows)
    figures: dict[str, int | Decimal | str] = {
        "costs that differ": len(different),
        "history less ledger (USD)": usd,
        "in the ledger only": len(absent),
        "in the ledger only (USD)": absent_usd,
        "of these, estimated by us": estimated,
    }
    if not rows:
        described = "Ledger and history name the same cost for every request that has ended."
        return Finding(verdict="passed", description=described, figures=figures)
    lines = []
    if different:
        lines.append(
            f"{counted(len(different), 'request has', 'requests have')} another cost in Segmind's history than in our "
            f"ledger: ${usd:+.4f} altogether."
        )
    if absent:
        lines.append(
            f"{counted(len(absent), 'charge', 'charges')} of ${absent_usd:.4f} in our ledger "
            f"{'is' if len(absent) == 1 else 'are'} not in Segmind's history."
        )
    lines.append(
        f"{estimated} of them were estimated, because no cost was reported. `spend_cost_differences` has both amounts; "
        "summaries show the ledger's. Ask Segmind's support with the request ids about reported costs that differ."
    )
    return Finding(
        verdict="warning",
        description="\n".join(lines),
        figures=figures,
        sample=_sample(rows, ("request_id", "what", "ledger_cost_usd", "history_cost_usd", "cost_source")),
    )


def balance_agrees(rows: Rows, *, has_history: bool) -> Finding:
    """Whether the balance fell by what the history says was charged.

    Args:
        rows: of `spend_balance`, in order of time.
        has_history: whether the history was ever loaded.
    """
    if not has_history:
        return Finding(verdict="passed", description=_NO_HISTORY, figures={"stretches compared": "not known"})
    if not rows:
        described = "The balance was read once; it takes two looks to compare. `segmind/credits` is free to read."
        return Finding(verdict="passed", description=described, figures={"stretches compared": 0})
    by_verdict = {verdict: [row for row in rows if row["verdict"] == verdict] for verdict in _VERDICTS}
    known = [row for row in rows if row["difference_usd"] is not None]
    topped_up = _sum(by_verdict["topped up"], "difference_usd")[0]
    fell = by_verdict["fell too far"]
    missing = -_sum(fell, "difference_usd")[0]
    figures: dict[str, int | Decimal | str] = {
        **{f"stretches that {_VERDICTS[verdict]}": len(some) for verdict, some in by_verdict.items() if some},
        "balance fell by (USD)": _sum(known, "decrease_usd")[0],
        "charged according to the history (USD)": _sum(known, "history_usd")[0],
        "charged according to the ledger (USD)": _sum(known, "ledger_usd")[0],
        "topped up (USD)": topped_up,
        "gone without a record (USD)": missing,
    }
    if not fell:
        told = (
            f"${figures['charged according to the history (USD)']:.4f} in Segmind's history and "
            f"${figures['charged according to the ledger (USD)']:.4f} in our ledger against a balance that fell by "
            f"${_sum(known, 'decrease_usd')[0] + topped_up:.4f}"
        )
        added = f", apart from ${topped_up:.4f} that came in" if topped_up else ""
        rest = len(rows) - len(known) + len(by_verdict["too early to tell"])
        stretches = counted(rest, "stretch is", "stretches are")
        later = f" {stretches} left open: not known, or too early to tell." if rest else ""
        return Finding(verdict="passed", description=f"{told}{added}.{later}", figures=figures)
    return Finding(
        verdict="error",
        description=(
            f"Between {counted(len(fell), 'pair', 'pairs')} of readings the balance fell by ${missing:.4f} more than "
            "Segmind's history accounts for. Compare `spend_balance` with the invoices; if nothing explains it, ask "
            "Segmind's support with the times."
        ),
        figures=figures,
        sample=_sample(fell, ("from_at", "to_at", "decrease_usd", "history_usd", "ledger_usd", "difference_usd")),
    )


def balance_lasts(rows: Rows) -> Finding:
    """Whether the balance lasts for a few days at the current rate.

    Args:
        rows: of `spend_runway`, in order of time.
    """
    if not rows:
        return Finding(
            verdict="passed", description="The balance was never read.", figures={"runway (days)": "not known"}
        )
    latest = rows[-1]
    days, per_day = latest["runway_days"], latest["spent_per_day_usd"]
    figures: dict[str, int | Decimal | str] = {
        "balance (USD)": latest["balance_usd"],
        "spent a day (USD)": "not known" if per_day is None else per_day,
        "runway (days)": "not known" if days is None else Decimal(str(round(days, 1))),
    }
    if days is None:
        why = "nothing was spent lately" if per_day is not None else "less than a day of readings is too little to tell"
        described = f"${latest['balance_usd']:.4f} left; how long it lasts is not known: {why}."
        return Finding(verdict="passed", description=described, figures=figures)
    described = f"${latest['balance_usd']:.4f} left, {days:.1f} days at ${per_day:.4f} a day."
    if days < _SHORT_DAYS:
        described += " Top up the account: without credits nothing more is bought, and what is missing waits."
        return Finding(verdict="warning", description=described, figures=figures)
    return Finding(verdict="passed", description=described, figures=figures)


# verdicts of `spend_balance`, and how a figure names them
_VERDICTS: Final = {
    "agrees": "agree",
    "topped up": "were topped up",
    "fell too far": "fell too far",
    "too early to tell": "it is too early to tell of",
    "not known": "are not known",
}

CHECKS: Final[Mapping[str, tuple[str, str, Callable[..., Finding]]]] = {
    "spend_unexplained": (
        "charges_explained",
        "Every charge in Segmind's history is in our ledger.",
        charges_explained,
    ),
    "spend_paid_twice": ("nothing_paid_twice", "No generation was charged more than once.", nothing_paid_twice),
    "spend_not_held": ("everything_paid_is_held", "Every output that was charged is stored.", everything_paid_is_held),
    "spend_cost_differences": ("costs_agree", "Ledger and history name the same costs.", costs_agree),
    "spend_balance": ("balance_agrees", "The balance fell by what the history says was charged.", balance_agrees),
    "spend_runway": ("balance_lasts", f"The balance lasts for {_SHORT_DAYS} days or more.", balance_lasts),
}


def judged(name: str, rows: Rows, *, has_history: bool) -> Finding:
    """What the check of a table says.

    Args:
        name: of the table.
        rows: of the table.
        has_history: whether the history was ever loaded.
    """
    judge = CHECKS[name][2]
    return judge(rows, has_history=has_history) if name in _NEED_HISTORY else judge(rows)


_NEED_HISTORY: Final = {"spend_unexplained", "spend_cost_differences", "spend_balance"}


def _sum(rows: Rows, column: str) -> tuple[Decimal, int]:
    """The sum of what is known, and how many are not."""
    known = [row[column] for row in rows if row[column] is not None]
    return sum(known, _FREE), len(rows) - len(known)


def _and_unknown(count: int) -> str:
    return f"; what {count} of them cost is not known" if count else ""


def _sample(rows: Rows, columns: Sequence[str]) -> list[Mapping[str, str | int | float]]:
    return [{name: _shown(row[name]) for name in columns} for row in rows[:SAMPLE]]


def _shown(value: Any) -> str | int | float:
    if isinstance(value, Decimal):
        return float(value)
    if value is None:
        return "not known"
    return value if isinstance(value, (str, int, float)) else f"{value:%Y-%m-%d %H:%M:%S}"
