"""What the checks of the reconciliation say: its rows -> verdict, sentence, figures. Pure.

A sentence gives the exact count and sum first and what to do last, as in `outcomes`; until when it holds, and what is
not compared yet, is said by `spend_reach`. What could not be compared is no reason for alarm.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from segmind_dagster.checks.outcomes import (
    CHARGED_ONCE,
    COLLECT,
    CheckOutcome,
    charged_once,
    counted,
    fetched_again,
    sampled,
    total,
)
from segmind_dagster.checks.spend_reach import compared_until, nothing_compared
from segmind_dagster.checks.spend_reach import figures as reach_figures
from segmind_dagster.lifecycle.states import WRITTEN_OFF

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from segmind_dagster.reports.spend_reach import Reach

    Rows = Sequence[Mapping[str, Any]]

# the runway at which a person should look
_SHORT_DAYS: Final = 3


def charges_explained(rows: Rows) -> CheckOutcome:
    """Whether every charge in Segmind's history is one of ours: the rows of `spend_unexplained`."""
    maybe = [row for row in rows if row["may_be_ours"]]
    unknown = total(rows, "cost_usd")[1]
    figures: dict[str, int | Decimal | str] = {
        "charges not explained": len(rows),
        "not explained (USD)": _known(rows),
        **({"of it, with a cost not known": unknown} if unknown else {}),
        "perhaps ours": len(maybe),
        "perhaps ours (USD)": _known(maybe),
    }
    if not rows:
        described = "Every charge that Segmind's history lists since our first submission is in our ledger too."
        return CheckOutcome(verdict="passed", description=described, figures=figures)
    charges = counted(len(rows), "charge", "charges")
    lines = [f"{charges} of {_worth(rows)} in Segmind's history {'is' if len(rows) == 1 else 'are'} not in our ledger."]
    lines.append("Segmind lists what it charged, so `balance_agrees` can be green beside this.")
    if maybe:
        lines.append(
            f"{counted(len(maybe), 'of them asks', 'of them ask')} for the same as a submission of ours whose answer "
            f"never came. {COLLECT} It also finds out whether it is this one."
        )
    if len(maybe) < len(rows):
        others = f"The other {len(rows) - len(maybe)}" if maybe else "They" if len(rows) > 1 else "It"
        lines.append(
            f"{others} may come from what else uses this account: a colleague, Segmind's website, another project. If "
            "nothing does, change the API key, and ask Segmind's support with the request ids."
        )
    return CheckOutcome(
        verdict="error" if maybe else "warning",
        description="\n".join(lines),
        figures=figures,
        sample=sampled(rows, ("request_id", "model", "status", "cost_usd", "created_at")),
    )


def _known(rows: Rows) -> Decimal | str:
    """The sum of what is known, where anything is."""
    usd, unknown = total(rows, "cost_usd")
    return "not known" if unknown and unknown == len(rows) else usd


def _worth(rows: Rows) -> str:
    """The same in words."""
    usd, unknown = total(rows, "cost_usd")
    if unknown == len(rows):
        return "unknown cost"
    return f"${usd:.4f} and more (what {unknown} of them cost is not known)" if unknown else f"${usd:.4f}"


def everything_paid_is_held(rows: Rows) -> CheckOutcome:
    """Whether everything that was charged is stored here: the rows of `spend_not_held`."""
    waiting = [row for row in rows if row["can_be_fetched"]]
    written_off = [row for row in rows if row["failure_kind"] == WRITTEN_OFF]
    lost = [row for row in rows if not row["can_be_fetched"] and row["failure_kind"] != WRITTEN_OFF]
    waiting_usd, lost_usd, written_off_usd = (total(some, "cost_usd")[0] for some in (waiting, lost, written_off))
    figures: dict[str, int | Decimal | str] = {
        "can be fetched": len(waiting),
        "can be fetched (USD)": waiting_usd,
        "lost": len(lost),
        "lost (USD)": lost_usd,
        "written off by decision": len(written_off),
        "written off by decision (USD)": written_off_usd,
    }
    lines = [] if waiting or lost else ["Every output that was paid for, and not written off, is stored here."]
    if waiting:
        first = min(row["expires_at"] for row in waiting)
        lines.append(
            f"{counted(len(waiting), 'output', 'outputs')} worth ${waiting_usd:.4f} can still be fetched, the first "
            f"until {first:%Y-%m-%d %H:%M} UTC. {COLLECT}"
        )
        lines += fetched_again(row["prompt_set"] for row in waiting if row["failure_kind"] == "bad_output")
    if lost:
        lines.append(
            f"{counted(len(lost), 'output', 'outputs')} worth ${lost_usd:.4f} can no longer be fetched: Segmind keeps "
            "files for 7 days. Ask its support with the request ids. To have one all the same, pay for it a second "
            "time: `segmind-dagster resolve GENERATION --buy-again`."
        )
    if written_off:
        outputs = counted(len(written_off), "lost output", "lost outputs")
        lines.append(
            f"{outputs} worth ${written_off_usd:.4f} {'is' if len(written_off) == 1 else 'are'} to be bought again by "
            "decision, when the set is materialized."
        )
    return CheckOutcome(
        verdict="error" if waiting or lost else "passed",
        description="\n".join(lines),
        figures=figures,
        sample=sampled(
            [*waiting, *lost, *written_off], ("generation_id", "prompt_set", "request_id", "cost_usd", "expires_at")
        ),
    )


def costs_agree(rows: Rows) -> CheckOutcome:
    """Whether ledger and history name the same amount for every request: the rows of `spend_cost_differences`."""
    different = [row for row in rows if row["difference_usd"] is not None]
    absent = [row for row in rows if row["difference_usd"] is None]
    usd, absent_usd = total(different, "difference_usd")[0], total(absent, "ledger_cost_usd")[0]
    estimated = sum(row["cost_source"] == "estimated" for row in rows)
    figures: dict[str, int | Decimal | str] = {
        "costs that differ": len(different),
        "history less ledger (USD)": usd,
        "in the ledger only": len(absent),
        "in the ledger only (USD)": absent_usd,
        "of these, estimated by us": estimated,
    }
    if not rows:
        described = "Our ledger and Segmind's history name the same cost for every request that both list as ended."
        return CheckOutcome(verdict="passed", description=described, figures=figures)
    lines = []
    if different:
        lines.append(
            f"{counted(len(different), 'request has', 'requests have')} another cost in Segmind's history than in our "
            f"ledger: altogether the history has ${abs(usd):.4f} {'more' if usd >= 0 else 'less'}."
        )
    if absent:
        lines.append(
            f"{counted(len(absent), 'charge', 'charges')} of ${absent_usd:.4f} in our ledger "
            f"{'is' if len(absent) == 1 else 'are'} not in Segmind's history, which should have "
            f"{'it' if len(absent) == 1 else 'them'} by now."
        )
    if estimated:
        lines.append(
            f"In {estimated} of {len(rows)} the ledger's amount is our estimate, because Segmind reported none; there "
            "the history is right."
        )
    if estimated < len(rows):
        lines.append(
            f"In {len(rows) - estimated} of {len(rows)} Segmind reported the ledger's amount itself: ask its support "
            "with the request ids."
        )
    lines.append("`spend_cost_differences` has both amounts of each. All other tables and reports show the ledger's.")
    return CheckOutcome(
        verdict="warning",
        description="\n".join(lines),
        figures=figures,
        sample=sampled(rows, ("request_id", "what", "ledger_cost_usd", "history_cost_usd", "cost_source")),
    )


def balance_agrees(rows: Rows) -> CheckOutcome:
    """Whether the balance fell by what the history says was charged.

    Args:
        rows: of `spend_balance`, in order of time.
    """
    if not rows:
        described = (
            "Nothing to compare: it takes two readings of the balance. Materialize `segmind/credits` again later; it "
            "is free."
        )
        return CheckOutcome(verdict="passed", description=described, figures={"stretches compared": 0})
    by_verdict = {verdict: [row for row in rows if row["verdict"] == verdict] for verdict in _VERDICTS}
    known = [row for row in rows if row["difference_usd"] is not None]
    fell = by_verdict["fell too far"]
    missing_usd = -total(fell, "difference_usd")[0]
    ledger_usd, ledger_unknown = total(known, "ledger_usd")
    figures: dict[str, int | Decimal | str] = {
        "stretches compared": len(known),
        **{f"stretches that {_VERDICTS[verdict]}": len(some) for verdict, some in by_verdict.items() if some},
        "balance fell by (USD)": total(known, "decrease_usd")[0],
        "charged according to the history (USD)": total(known, "history_usd")[0],
        "charged according to the ledger (USD)": "not known" if ledger_unknown else ledger_usd,
        "topped up (USD)": total(by_verdict["topped up"], "difference_usd")[0],
        "gone without a record (USD)": missing_usd,
    }
    if fell:
        return CheckOutcome(
            verdict="error",
            description=(
                f"Between {counted(len(fell), 'pair', 'pairs')} of readings the balance fell by ${missing_usd:.4f} "
                "more than Segmind's own history lists as charged. Look up the times in `spend_balance` and compare "
                "them with Segmind's invoices; if these do not explain it, ask Segmind's support."
            ),
            figures=figures,
            sample=sampled(
                fell, ("from_at", "to_at", "decrease_usd", "history_usd", "ledger_usd", "difference_usd")
            ),
        )  # fmt: skip
    lines = [*_both_sides(known, by_verdict["topped up"])]
    if rest := len(rows) - len(known) + len(by_verdict["too early to tell"]):
        lines.append(
            f"{counted(rest, 'stretch', 'stretches')} between two readings not compared: Segmind's history does not "
            "cover it, or not all of it yet."
        )
    return CheckOutcome(verdict="passed", description="\n".join(lines), figures=figures)


def _both_sides(known: Rows, topped_up: Rows) -> list[str]:
    """What balance and history say of the same time, and why the ledger may have less."""
    if not known:
        return ["Nothing could be compared yet: no stretch between two readings of the balance is known whole."]
    added_usd = total(topped_up, "difference_usd")[0]
    history_usd, fell_usd = total(known, "history_usd")[0], total(known, "decrease_usd")[0] + added_usd
    ledger_usd, unknown = total(known, "ledger_usd")
    added = f"Apart from ${added_usd:.4f} that came in, the" if added_usd else "The"
    lines = [f"{added} balance fell by ${fell_usd:.4f}, and Segmind's history lists ${history_usd:.4f} as charged."]
    if unknown:
        lines.append("What our ledger has of it is not known yet.")
    elif ledger_usd == history_usd:
        lines.append(f"Our ledger has the same ${ledger_usd:.4f}.")
    else:
        lines.append(
            f"Our ledger has ${ledger_usd:.4f} of it. That is not for this check, which only looks whether Segmind "
            "agrees with itself: `charges_explained` tells of charges that are not ours, `costs_agree` of amounts "
            "that differ."
        )
    return lines


def balance_lasts(rows: Rows) -> CheckOutcome:
    """Whether the balance lasts for a few days at the current rate.

    Args:
        rows: of `spend_runway`, in order of time.
    """
    if not rows:
        return CheckOutcome(
            verdict="passed",
            description="The balance was never read. Materialize `segmind/credits`; it is free.",
            figures={"runway (days)": "not known"},
        )
    latest = rows[-1]
    days, per_day = latest["runway_days"], latest["spent_per_day_usd"]
    figures: dict[str, int | Decimal | str] = {
        "balance (USD)": latest["balance_usd"],
        "balance read at (UTC)": f"{latest['observed_at']:%Y-%m-%d %H:%M:%S}",
        "spent a day (USD)": "not known" if per_day is None else per_day,
        "runway (days)": "not known" if days is None else Decimal(str(round(days, 1))),
    }
    left = f"${latest['balance_usd']:.4f} left as of {latest['observed_at']:%Y-%m-%d %H:%M} UTC, when it was last read"
    if days is None:
        why = "nothing was spent lately" if per_day is not None else "less than a day of readings is too little to tell"
        described = f"{left}; how long it lasts is not known: {why}."
        return CheckOutcome(verdict="passed", description=described, figures=figures)
    described = f"{left}: enough for {days:.1f} days at ${per_day:.4f} a day, as in the week before."
    if days < _SHORT_DAYS:
        described += " Top up the account: without credits nothing more is bought, and what is missing waits."
        return CheckOutcome(verdict="warning", description=described, figures=figures)
    return CheckOutcome(verdict="passed", description=described, figures=figures)


# verdicts of `spend_balance`, and how a figure names them
_VERDICTS: Final = {
    "agrees": "agree",
    "topped up": "were topped up",
    "fell too far": "fell too far",
    "too early to tell": "it is too early to tell of",
    "not known": "are not known",
}

CHECKS: Final[Mapping[str, tuple[str, str, Callable[[Rows], CheckOutcome]]]] = {
    "spend_unexplained": (
        "charges_explained",
        "Segmind's history against our ledger: every charge that Segmind lists is one of ours.",
        charges_explained,
    ),
    "spend_paid_twice": ("nothing_paid_twice", CHARGED_ONCE, charged_once),
    "spend_not_held": (
        "everything_paid_is_held",
        "Our ledger against what is stored: every output that was charged is here, or written off by decision.",
        everything_paid_is_held,
    ),
    "spend_cost_differences": (
        "costs_agree",
        "Our ledger against Segmind's history, request by request: both name the same cost.",
        costs_agree,
    ),
    "spend_balance": (
        "balance_agrees",
        "Segmind's balance against Segmind's history: the balance fell by what was charged, whoever bought it.",
        balance_agrees,
    ),
    "spend_runway": ("balance_lasts", f"The balance lasts for {_SHORT_DAYS} days or more.", balance_lasts),
}
# of these nothing is known without the history
_NEED_HISTORY: Final = {"spend_unexplained", "spend_cost_differences", "spend_balance"}


def judged(name: str, rows: Rows, *, reach: Reach) -> CheckOutcome:
    """What the check of a table says, and how far that reaches."""
    found = CHECKS[name][2](rows)
    if name == "spend_runway":  # of the balance alone
        return found
    has_nothing = reach.read_at is None or not (reach.has_compared or rows or name == "spend_balance")
    nothing, figures = nothing_compared(reach), reach_figures(reach)
    if name in _NEED_HISTORY and has_nothing:
        return CheckOutcome(verdict="passed", description=nothing, figures=figures)
    until = f"This is by our ledger alone. {nothing}" if reach.read_at is None else compared_until(reach, reach.read_at)
    return replace(found, description=f"{found.description}\n{until}", figures={**found.figures, **figures})
