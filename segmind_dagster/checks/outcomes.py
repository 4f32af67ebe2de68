"""What the checks say: rows of the ledger and looks at files -> verdict, sentence, figures. Pure.

A sentence gives the exact count first and what to do last; figures hold the count again, the money and a sample.
Which questions are asked of the ledger is decided in `ledger.check_reads`, when they are asked in `orchestration`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal

from segmind_dagster.ledger.records import InferredAbsent
from segmind_dagster.lifecycle.next_step import KEPT
from segmind_dagster.lifecycle.parsing import FREE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from segmind_dagster.lifecycle.generation import Generation
    from segmind_dagster.outputs.inspection import Inspection

    Rows = Sequence[Mapping[str, Any]]

Verdict = Literal["passed", "warning", "error"]

SAMPLE: Final = 5
CHARGED_ONCE: Final = "No generation was charged more than once, unless a person decided to buy it again."
COLLECT: Final = "Run `segmind-dagster collect`: it fetches what was paid for and buys nothing."
# of a set's budget: time to look at it
_NEARLY_USED = Decimal("0.8")
# of the seven days that Segmind keeps outputs
_HURRY = timedelta(days=5)
# the status record goes after about an hour (docs:async)
_RECORD_KEPT = timedelta(hours=1)
_NOTHING_INFERRED = InferredAbsent(0, FREE)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOutcome:
    """What one check found.

    Args:
        verdict: whether it passed, and if not, how bad that is.
        description: the same in words, with what to do.
        figures: counts and money, by name.
        sample: a few of the rows concerned.
    """

    verdict: Verdict
    description: str
    figures: Mapping[str, int | Decimal | str] = field(default_factory=dict)
    sample: Sequence[Mapping[str, str | int | float]] = ()


def not_loaded(found: CheckOutcome, *, run_id: str) -> CheckOutcome:
    """The same outcome when what is stored is not loaded.

    Args:
        found: what the ledger says.
        run_id: the run that generated and did not load.
    """
    return replace(
        found,
        verdict="error",
        description=f"Run {run_id[:8]} ended before it had loaded what it stored, so the warehouse lacks rows. Nothing "
        "is lost, and loading buys nothing: the sensor failed_generations runs it again, or materialize it. In the "
        f"ledger: {found.description}",
    )


def files(inspection: Inspection) -> CheckOutcome:
    """Whether the stored outputs are still what was stored."""
    counts = inspection.counts
    is_sample = inspection.seed is not None
    figures: dict[str, int | Decimal | str] = {
        "stored outputs": inspection.files,
        "looked for": inspection.looked_for,
        "content compared": inspection.digested,
        **{f"files {fault}": count for fault, count in counts.items()},
        **({"sample drawn with": inspection.seed} if inspection.seed else {}),
    }
    how = (
        f"existence and size of {inspection.looked_for} and the digest of {inspection.digested} were compared"
        if is_sample or inspection.digested < inspection.files
        else "existence, size and digest of each were compared"
    )
    if not inspection.faults:
        described = f"All {inspection.files} stored outputs are there; {how}." if inspection.files else "None stored."
        return CheckOutcome(verdict="passed", description=described, figures=figures)
    what = ", ".join(f"{count} {fault}" for fault, count in counts.most_common())
    return CheckOutcome(
        verdict="error",
        description=(
            f"{len(inspection.faults)} of {inspection.files} stored outputs are not what was paid for: {what} "
            f"({how}).\nPut these files back from a backup; nothing is bought again for them. If the outputs were "
            "moved to another place, set SEGMIND_OUTPUTS_URL and SEGMIND_DATA_DIR back, or move them back. Within 7 "
            "days of the purchase Segmind's request history still links to the original."
        ),
        figures=figures,
        sample=[{"output": uri, "what": fault} for uri, fault in inspection.faults[:SAMPLE]],
    )


def budget(
    *, prompt_set: str, budget_usd: Decimal | None, committed_usd: Decimal, of_model_usd: Decimal, problem: str | None
) -> CheckOutcome:
    """Whether a set keeps to its budget.

    Args:
        prompt_set: the set.
        budget_usd: its `budget_usd`; None when it has none.
        committed_usd: charged or reserved for it so far, for all its models.
        of_model_usd: charged for this model.
        problem: why its file cannot tell, if so.
    """
    figures: dict[str, int | Decimal | str] = {
        "used by the set (USD)": committed_usd,
        "of it by this model (USD)": of_model_usd,
    }
    if budget_usd is None:
        reason = f"its file cannot be read ({problem})" if problem else "it gives no `budget_usd`"
        described = (
            f"'{prompt_set}' has used ${committed_usd:.4f}; there is no budget to compare with, because {reason}."
        )
        return CheckOutcome(verdict="passed", description=described, figures=figures)
    left = budget_usd - committed_usd
    share = committed_usd / budget_usd
    figures |= {"budget (USD)": budget_usd, "left (USD)": max(left, FREE), "used (%)": round(share * 100, 1)}
    used = f"'{prompt_set}' has used ${committed_usd:.4f} of its budget of ${budget_usd} ({share:.0%})"
    if left < 0:
        return CheckOutcome(
            verdict="error",
            description=(
                f"{used}: ${-left:.4f} too much. Nothing more is bought for it. This happens when the budget was "
                "lowered after spending, or when jobs cost more than was reserved for them."
            ),
            figures=figures,
        )
    if share >= _NEARLY_USED:
        return CheckOutcome(
            verdict="warning",
            description=f"{used}; ${left:.4f} is left. Raise `budget_usd` in its file if it is to go on.",
            figures=figures,
        )
    return CheckOutcome(verdict="passed", description=f"{used}; ${left:.4f} is left.", figures=figures)


def charged_once(rows: Rows, *, inferred: InferredAbsent = _NOTHING_INFERRED) -> CheckOutcome:
    """Whether no generation was paid for twice by accident; what a person decided to buy again is shown apart.

    Args:
        rows: of `reconciliation.paid_twice`, by the ledger or by the warehouse.
        inferred: submissions that were inferred never to have arrived, which later readings may show to be charged.
    """
    accidents = [row for row in rows if row["excess_usd"]]
    decided = [row for row in rows if row["decided_usd"]]
    excess_usd, decided_usd = (total(rows, column)[0] for column in ("excess_usd", "decided_usd"))
    figures: dict[str, int | Decimal | str] = {
        "charged more than once by accident": len(accidents),
        "paid too much (USD)": excess_usd,
        "bought again by decision": len(decided),
        "bought again by decision (USD)": decided_usd,
    }
    if inferred.attempts:
        figures |= {
            "inferred never to have arrived": inferred.attempts,
            "would have cost up to (USD)": inferred.reserved_usd,
        }
    lines = []
    if accidents:
        lines.append(
            f"{counted(len(accidents), 'generation was', 'generations were')} charged more than once by accident, "
            f"${excess_usd:.4f} too much. Nothing more is bought for {'it' if len(accidents) == 1 else 'them'}. The "
            "table `attempts` has the request id of every charge: send these ids to Segmind's support."
        )
    else:
        lines.append("No generation was charged more than once by accident.")
    if decided:
        lines.append(
            f"{counted(len(decided), 'generation was', 'generations were')} bought again by decision for "
            f"${decided_usd:.4f}: a person said so with `segmind-dagster resolve --buy-again`."
        )
    return CheckOutcome(
        verdict="error" if accidents else "passed",
        description="\n".join(lines),
        figures=figures,
        sample=sampled(
            [*accidents, *(row for row in decided if not row["excess_usd"])],
            ("generation_id", "prompt_set", "charges", "excess_usd", "decided_usd", "request_ids"),
        ),
    )


def about_to_expire(rows: Iterable[Generation], *, now: datetime) -> CheckOutcome:
    """Whether anything that was paid for may vanish at Segmind before it is stored here.

    Args:
        rows: what a model was asked for and has not delivered, with what it costs or may cost, oldest first.
        now: the time.
    """
    waiting = [(row, row.sent_at or now) for row in rows]
    urgent = [(row, sent_at) for row, sent_at in waiting if now - sent_at >= _HURRY]
    gone = sum(now - sent_at >= KEPT for _, sent_at in urgent)
    usd = sum((row.cost_usd or FREE for row, _ in urgent), FREE)
    figures: dict[str, int | Decimal | str] = {
        "waiting at Segmind": len(waiting),
        "status record gone (after 1 h)": sum(now - sent_at >= _RECORD_KEPT for _, sent_at in waiting),
        "older than 5 days": len(urgent),
        "older than 7 days": gone,
        "at stake (USD)": usd,
    }
    if not urgent:
        rest = (
            f"; {counted(len(waiting), 'younger submission is', 'younger submissions are')} in flight"
            if waiting
            else ""
        )
        described = f"Nothing ordered from this model has waited at Segmind for 5 days{rest}."
        return CheckOutcome(verdict="passed", description=described, figures=figures)
    maybe_gone = f"; {gone} may be gone by now" if gone else ""
    outputs = counted(len(urgent), "output", "outputs")
    lines = [
        f"{outputs} worth ${usd:.4f} waited for 5 days or more; Segmind deletes outputs after 7 days{maybe_gone}.",
    ]
    if any(row.state != "failed" for row, _ in urgent):
        lines.append(f"{COLLECT} Do it now.")
    lines += fetched_again(row.prompt_set for row, _ in urgent if row.state == "failed")
    return CheckOutcome(
        verdict="error",
        description="\n".join(lines),
        figures=figures,
        sample=[
            {
                "generation": row.generation_id,
                "prompt set": row.prompt_set,
                "state": row.state or "",
                "since": sent_at.isoformat(timespec="minutes"),
                "request": row.request_id or "not known",
                "USD": float(row.cost_usd or FREE),
            }
            for row, sent_at in urgent[:SAMPLE]
        ],
    )


def file_current(*, digest: str | None, materialized: str | None, problem: str | None) -> CheckOutcome:
    """Whether a prompt file can be used, and is the one that was materialized last.

    Args:
        digest: of the file; None when it cannot be used.
        materialized: of the file as it was materialized last; None when it never was.
        problem: why the file cannot be used, if so.
    """
    figures = {"digest of the file": digest or "", "digest when materialized": materialized or ""}
    if digest is None:
        described = f"The prompt file cannot be used: {problem}"
        return CheckOutcome(verdict="error", description=described, figures=figures)
    if materialized is None:
        described = "The prompt file can be used; it has not been materialized yet."
        return CheckOutcome(verdict="passed", description=described, figures=figures)
    if digest != materialized:
        return CheckOutcome(
            verdict="warning",
            description=(
                "The prompt file has changed since it was materialized. Materialize it and its models to follow; "
                "only what is different is bought."
            ),
            figures=figures,
        )
    return CheckOutcome(
        verdict="passed", description="The prompt file can be used and has not changed.", figures=figures
    )


def loaded_lately(
    *, loaded_at: datetime | None, now: datetime, within: timedelta, is_schedule_running: bool, schedule: str
) -> CheckOutcome:
    """Whether the account's data is as fresh as its schedule promises; without a schedule nothing is promised.

    Args:
        loaded_at: when it was loaded last.
        now: the time.
        within: how old it may be while the schedule runs.
        is_schedule_running: whether it does.
        schedule: its name.
    """
    age = f"loaded {(now - loaded_at) / timedelta(hours=1):.1f} h ago" if loaded_at else "never loaded"
    figures = {
        "last loaded": loaded_at.isoformat(timespec="minutes") if loaded_at else "never",
        "schedule": f"{schedule} is {'on' if is_schedule_running else 'off'}",
    }
    if not is_schedule_running:
        described = f"The data was {age}. The schedule `{schedule}` is off, so that nothing newer is expected."
        return CheckOutcome(verdict="passed", description=described, figures=figures)
    if loaded_at is None or now - loaded_at > within:
        return CheckOutcome(
            verdict="warning",
            description=(
                f"The data was {age}, although the schedule `{schedule}` is on. Look at its last runs, or materialize "
                "this asset."
            ),
            figures=figures,
        )
    return CheckOutcome(verdict="passed", description=f"The data was {age}.", figures=figures)


def page_understood(models: int | None) -> CheckOutcome:
    """Whether the models page, which is made for people, could be read as rows.

    Args:
        models: how many it lists; None when it was never read.
    """
    figures = {"models on the page": "not known" if models is None else models}
    if models is None:
        return CheckOutcome(verdict="passed", description="The models page was never read.", figures=figures)
    if not models:
        return CheckOutcome(
            verdict="warning",
            description=(
                "No table of models was found on Segmind's models page: its HTML has changed. The page is kept in "
                "`models_page` as it came, and nothing else depends on it; prices come from the `models` list."
            ),
            figures=figures,
        )
    return CheckOutcome(verdict="passed", description=f"The models page lists {models} models.", figures=figures)


def combined(outcomes: Mapping[str, CheckOutcome]) -> CheckOutcome:
    """One outcome for several prompt sets, which names those that did not pass."""
    bad = {key: found for key, found in outcomes.items() if found.verdict != "passed"}
    figures = {"prompt sets": len(outcomes), "prompt sets that did not pass": len(bad)}
    if not bad:
        return CheckOutcome(verdict="passed", description=f"All {len(outcomes)} prompt sets pass.", figures=figures)
    return CheckOutcome(
        verdict="error" if any(found.verdict == "error" for found in bad.values()) else "warning",
        description=f"{len(bad)} of {len(outcomes)} prompt sets do not pass: {_named(list(bad), most=20)}.",
        figures=figures,
        sample=[{"prompt set": key, "verdict": found.verdict, "what": found.description} for key, found in bad.items()][
            :SAMPLE
        ],
    )


def fetched_again(prompt_sets: Iterable[str]) -> list[str]:
    """What to do about outputs that came damaged; nothing when there are none.

    Args:
        prompt_sets: which sets have such outputs.
    """
    keys = sorted(set(prompt_sets))
    return [f"What came damaged is fetched again when its set is materialized: {_named(keys)}."] if keys else []


def total(rows: Rows, column: str) -> tuple[Decimal, int]:
    """The sum of what is known, and how many are not."""
    known = [row[column] for row in rows if row[column] is not None]
    return sum(known, FREE), len(rows) - len(known)


def sampled(rows: Rows, columns: Sequence[str]) -> list[Mapping[str, str | int | float]]:
    """The first few rows as they are shown."""
    return [{name: _shown(row[name]) for name in columns} for row in rows[:SAMPLE]]


def _shown(value: Any) -> str | int | float:
    if isinstance(value, Decimal):
        return float(value)
    if value is None:
        return "not known"
    return value if isinstance(value, (str, int, float)) else f"{value:%Y-%m-%d %H:%M:%S}"


def counted(count: int, one: str, many: str) -> str:
    """A number with the word that goes with it."""
    return f"{count} {one if count == 1 else many}"


def _named(keys: Sequence[str], *, most: int = 10) -> str:
    shown = ", ".join(keys[:most])
    return f"{shown} and {len(keys) - most} more" if len(keys) > most else shown


def as_plain(value: int | Decimal | str) -> Any:
    """A figure as it is shown: money as a number."""
    return float(value) if isinstance(value, Decimal) else value
