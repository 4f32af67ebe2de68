"""The failure kinds and what may follow each: the only such table in the project.

Retries have one owner each: the gateway repeats GETs, which are free; the runner repeats a generation
within a run, as `POLICIES` says; a later run tries again what `POLICIES` calls unpaid, once per run.
A permanent failure stops all three. Nothing is bought again while its outcome is unknown.

Sources for the answers: Segmind's error documentation (docs:api, docs:async) and its official SDK 1.3.0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from segmind_dagster.lifecycle.error_text import spoken, topic_of

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

FailureKind = Literal[
    "rate_limited",
    "server_error",
    "connect_error",
    "unknown_outcome",
    "invalid_request",
    "forbidden_model",
    "retired_model",
    "refused_content",
    "job_failed",
    "invalid_job",
    "bad_output",
    "expired",
    "unauthorized",
    "no_credits",
    "team_limit",
    "over_budget",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What may follow a failure.

    Args:
        attempts: POSTs that one run may send for one generation when they all fail this way; 1 is no retry.
        stops_run: whether everything else would fail the same way, so that submitting stops.
        is_permanent: whether only a change (of the prompt set, the model, the account) can help.
        is_paid: whether the generation was charged, so that buying again needs a person's word.
        is_of_model: whether every generation of the model would fail the same way.
        is_unclear: whether its cost is unknown, so that only a person's run touches it again.
        is_of_prompt: whether it says something of this one generation only, so that many of them stop no model.
        advice: what a person can do.
    """

    attempts: int = 1
    stops_run: bool = False
    is_permanent: bool = False
    is_paid: bool = False
    is_of_model: bool = False
    is_unclear: bool = False
    is_of_prompt: bool = False
    advice: str

    @property
    def may_be_paid(self) -> bool:
        """Whether a charge is certain, or cannot be ruled out."""
        return self.is_paid or self.is_unclear


POLICIES: Final[Mapping[FailureKind, Policy]] = {
    "rate_limited": Policy(attempts=20, advice="Lower SEGMIND_REQUESTS_PER_MINUTE to what your plan allows."),
    # a 500 is often a bad parameter (docs:api): few attempts
    "server_error": Policy(attempts=3, advice="Segmind had a problem, or a parameter has a value it cannot run."),
    "connect_error": Policy(attempts=4, advice="Check the network and SEGMIND_API_URL."),
    "unknown_outcome": Policy(
        attempts=3, advice="Its fate is looked up in Segmind's history; run `segmind-dagster collect`."
    ),
    "invalid_request": Policy(is_permanent=True, advice="Correct the prompt set; the message says what was refused."),
    "forbidden_model": Policy(
        is_permanent=True, is_of_model=True, advice="Ask Segmind or your team's owner for access to the model."
    ),
    "retired_model": Policy(
        is_permanent=True, is_of_model=True, advice="Segmind has retired the model; choose another one."
    ),
    "refused_content": Policy(
        is_permanent=True,
        is_of_prompt=True,
        advice="Moderation refused it, free of charge; reword the prompt or leave it out. The rest goes on.",
    ),
    "job_failed": Policy(attempts=3, advice="The job failed on Segmind's side, free of charge; materialize again."),
    "invalid_job": Policy(is_permanent=True, advice="Segmind refused the inputs; correct the prompt set."),
    "bad_output": Policy(
        is_paid=True, advice="The file was paid for but cannot be used; materialize to fetch it again."
    ),
    "expired": Policy(
        is_paid=True,
        advice="The file was paid for but Segmind no longer has it; `segmind-dagster resolve GENERATION --buy-again` "
        "lets it be bought once more.",
    ),
    "unauthorized": Policy(stops_run=True, advice="Check SEGMIND_API_KEY; Segmind did not accept it."),
    "no_credits": Policy(stops_run=True, advice="Top up the account; what is missing resumes at the next run."),
    "team_limit": Policy(stops_run=True, advice="Ask your team's owner to raise the limit."),
    "over_budget": Policy(stops_run=True, advice="Raise SEGMIND_DAILY_BUDGET_USD, or go on tomorrow."),
}

# a ledger may hold kinds of a newer or older version, or edited by hand
UNFAMILIAR: Final = Policy(
    is_permanent=True,
    is_unclear=True,
    advice="This version does not know that kind of failure, so it may have been charged: nothing tries it again by "
    "itself. Update segmind-dagster, or materialize: that asks Segmind for it first, where it was accepted.",
)

PAID_KINDS: Final = frozenset(kind for kind, policy in POLICIES.items() if policy.is_paid)
LOOKED_UP: Final[frozenset[FailureKind]] = frozenset({"rate_limited", "server_error"})
"""Error answers after which the history has to show that no job was made, before the request is sent again."""
FREE_KINDS: Final = frozenset(kind for kind, policy in POLICIES.items() if not policy.may_be_paid)
"""All other known kinds: one in neither set may have been charged, if it was accepted (`is_unclear`)."""

# a refused parameter may speak of credit cards and white balances
_NO_CREDITS = re.compile(r"^(?!.*(invalid value|parameter)).*(insufficient|\bcredits\b|\bbalance\b)", re.DOTALL)
_TEAM_LIMIT = re.compile(r"\bteam\b.*\blimit\b|\blimit\b.*\bteam\b")
# statuses that may carry a moderation verdict; the others have their own meaning
_MODERATED_STATUSES: Final = frozenset({400, 403, 404, 405, 406, 409, 415, 422, 451})


def policy_of(stored: str | None) -> Policy:
    """The policy for a failure kind that was read from a ledger or a warehouse.

    Args:
        stored: the kind as it stands there; one that this version does not know, or none, is unclear.
    """
    kind = known_kind(stored)
    return UNFAMILIAR if kind is None else POLICIES[kind]


def known_kind(stored: str | None) -> FailureKind | None:
    """A stored kind, if this version knows it."""
    return next((kind for kind in POLICIES if kind == stored), None)


def classify_submit(status: int, said: str, *, is_envelope: bool) -> FailureKind:  # noqa: PLR0911  one line a documented answer
    """What an answer to a POST means, when it is not a readable acceptance.

    An undocumented answer counts as unknown: it may have been charged.

    Args:
        status: HTTP status.
        said: the readable part of the answer.
        is_envelope: whether the answer is Segmind's own JSON error envelope.
    """
    words = spoken(said)
    match status:
        case 429:
            return "rate_limited"
        case 401:
            return "unauthorized"
        case 406 if _TEAM_LIMIT.search(words):
            return "team_limit"
        case 406 if _NO_CREDITS.search(words):
            return "no_credits"
        case _ if _is_moderated(status, said, is_envelope=is_envelope):
            return "refused_content"
        # a firewall's page says nothing about the model
        case 403 if is_envelope:
            return "forbidden_model"
        case 410:
            return "retired_model"
        case 400 | 404 | 405 | 406 | 422:
            return "invalid_request"
        # without the JSON envelope it may come from a proxy while the job runs
        case 500 | 503 if is_envelope:
            return "server_error"
        case _:
            return "unknown_outcome"


def _is_moderated(status: int, said: str, *, is_envelope: bool) -> bool:
    """Whether an answer to a POST is a moderation verdict; a page without the envelope may be a firewall's."""
    is_free = status in {400, 406, 422} or (is_envelope and status in _MODERATED_STATUSES)
    return is_free and topic_of(said) == "moderation"


def classify_job(error: str) -> FailureKind:
    """What the failure of a job means: invalid inputs stay invalid, anything else may succeed later.

    Args:
        error: the `error` text of a FAILED answer.
    """
    match topic_of(error):
        case "moderation":
            return "refused_content"
        case "inputs":
            return "invalid_job"
        case _:
            return "job_failed"


def retry_delay_s(kind: FailureKind, attempt: int, chance: random.Random) -> float:
    """How long to wait before the next attempt: exponential, with jitter, at most a minute.

    Args:
        kind: why the last attempt failed; after `rate_limited` the limiter does the waiting.
        attempt: attempts of this run so far, from 1.
        chance: source of the jitter.
    """
    if kind == "rate_limited":
        return 0.0
    return min(60.0, 0.5 * 2.0 ** min(attempt, 10)) * chance.uniform(0.5, 1.0)
