"""The one record of a generation: its request, its recorded state, its plan, and its attempt.

Every layer adds what it knows and passes it on: `prompts` creates it, the ledger adds its state, `planning` the next
step, and the runner executes that. Nothing is decided here: which moves exist is in `states`, which one is next in
`next_step`, what one may cost in `budget`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from segmind_dagster.lifecycle.budget import Caps

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from decimal import Decimal
    from pathlib import Path

    from segmind_dagster.lifecycle.budget import UnitCost
    from segmind_dagster.lifecycle.next_step import NextStep, Step
    from segmind_dagster.lifecycle.states import State
    from segmind_dagster.registry import Model

NO_CAPS: Final = Caps()
_NOTHING: Final = MappingProxyType[str, Any]({})


@dataclass(frozen=True, slots=True)
class ImageInput:
    """An image that a model takes: either a URL, or a local file with its digest.

    Args:
        url: where Segmind can fetch the image; None for a local file.
        path: the local file, resolved; None for a URL, and for a file of which only the digest is recorded.
        sha256: hex digest of the local file's bytes; None for a URL.
    """

    url: str | None
    path: Path | None
    sha256: str | None


class Generation(NamedTuple):
    """One generation. A tuple, because there are hundreds of thousands, each copied in every layer.

    Args:
        generation_id: identity of what is bought; see `prompts.identity`.
        prompt_set: key of the set that asks for it; of the one that bought it where only the ledger knows it.
        model: the registry entry.
        body: as it is sent, local images left out. No registry defaults are filled in.
        images: local images by parameter name; URLs stand in `body` as text.
        prompt: the text, placeholders filled in.
        negative_prompt: what to avoid, placeholders filled in; None when nothing is sent.
        seed: the seed sent; None for a model without one.
        sample: number of the sample, 0-based.
        variables: the placeholder values used.
        position: order in the set, 0-based.
        state: its recorded state; None when nothing is recorded.
        owner: run that holds it while it is in progress.
        is_owner_alive: whether that run still holds its lease.
        attempts: POSTs sent so far.
        request_id: Segmind's id of the latest accepted POST.
        submitted_at: when that was.
        intent_at: when the latest claim was recorded, just before its POST.
        failure_kind: why it failed, or why its last attempt did.
        error: the same for people.
        cost_usd: what was paid; None while nothing is known.
        output_uri: where the output is stored.
        failed_runs: runs in which it failed; those that the account stopped do not count.
        step: what happens to it in this run.
        reason: why, for people.
        is_retry: whether it failed earlier, unpaid, and has to leave that state first.
        unit_cost: what it may cost; None unless it is bought, or may have to be.
        may_buy: whether a POST for it may be sent in this run.
        caps: the limits on money that its POST keeps to.
    """

    generation_id: str
    prompt_set: str
    model: Model
    body: Mapping[str, Any] = _NOTHING
    images: Mapping[str, ImageInput] = _NOTHING
    prompt: str = ""
    negative_prompt: str | None = None
    seed: int | None = None
    sample: int = 0
    variables: Mapping[str, str] = _NOTHING
    position: int = 0
    state: State | None = None
    owner: str | None = None
    is_owner_alive: bool = False
    attempts: int = 0
    request_id: str | None = None
    submitted_at: datetime | None = None
    intent_at: datetime | None = None
    failure_kind: str | None = None
    error: str | None = None
    cost_usd: Decimal | None = None
    output_uri: str | None = None
    failed_runs: int = 0
    step: Step = "submit"
    reason: str = ""
    is_retry: bool = False
    unit_cost: UnitCost | None = None
    may_buy: bool = False
    caps: Caps = NO_CAPS

    @property
    def was_accepted(self) -> bool:
        """Whether its last attempt has a request id."""
        return self.request_id is not None

    @property
    def sent_at(self) -> datetime | None:
        """When its last POST was sent; None before the first one."""
        return self.submitted_at or self.intent_at

    @property
    def estimate_usd(self) -> Decimal | None:
        """What counts as its cost if none is reported."""
        return self.unit_cost.high if self.unit_cost else None

    @property
    def reserve_usd(self) -> Decimal | None:
        """What to reserve before its POST; None when it may not be bought."""
        return self.estimate_usd if self.may_buy else None

    @property
    def is_to_buy(self) -> bool:
        """Whether this run begins with a POST for it."""
        return self.step == "submit" and self.reserve_usd is not None

    def with_record(self, recorded: Generation) -> Generation:
        """The same, with its record in the ledger."""
        return self._replace(
            state=recorded.state,
            owner=recorded.owner,
            is_owner_alive=recorded.is_owner_alive,
            attempts=recorded.attempts,
            request_id=recorded.request_id,
            submitted_at=recorded.submitted_at,
            intent_at=recorded.intent_at,
            failure_kind=recorded.failure_kind,
            error=recorded.error,
            cost_usd=recorded.cost_usd,
            output_uri=recorded.output_uri,
            failed_runs=recorded.failed_runs,
        )

    def with_step(self, following: NextStep, *, unit_cost: UnitCost | None = None, caps: Caps = NO_CAPS) -> Generation:
        """The same, with its next step.

        Args:
            following: what may happen, and why.
            unit_cost: what it may cost, if it is bought.
            caps: the limits that this keeps to.
        """
        return self._replace(
            step=following.step,
            reason=following.reason,
            is_retry=following.is_retry,
            unit_cost=unit_cost,
            caps=caps,
        )

    def as_bought(self) -> Generation:
        """The same, allowed to be bought."""
        return self._replace(may_buy=True)


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to send one POST and to record its outcome; proof that the intent is durable.

    Args:
        generation_id: the generation.
        attempt: number of this POST, from 1; with the owner it is the fencing token.
        owner: the run that may send it.
    """

    generation_id: str
    attempt: int
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounting:
    """Cost and times of an attempt as the provider reports them; None where it does not.

    Args:
        cost_usd: charged.
        queue_ms: time in the provider's queue.
        inference_ms: time of the model.
        seed: the seed that was used.
    """

    cost_usd: Decimal | None = None
    queue_ms: int | None = None
    inference_ms: int | None = None
    seed: int | None = None

    def or_else(self, other: Accounting) -> Accounting:
        """The same, with missing values from the other one."""
        return Accounting(
            **{
                each.name: theirs if (ours := getattr(self, each.name)) is None else ours
                for each in fields(self)
                for theirs in [getattr(other, each.name)]
            }
        )


NOT_REPORTED: Final = Accounting()


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A stored output.

    Args:
        uri: where it is: a path, or an fsspec URL.
        sha256: digest of the stored bytes.
        size_bytes: size of the stored bytes.
        format: `jpeg`, `mp4`, ...
        width: pixels, for pictures.
        height: pixels, for pictures.
    """

    uri: str
    sha256: str
    size_bytes: int
    format: str
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One POST that was accepted, until its output is stored.

    Args:
        claim: the right to record what becomes of it.
        request_id: Segmind's id.
        began_s: our monotonic clock when it was sent; its latency counts from here.
        accepted_s: the same when its acceptance was known; looks at it count from here.
        accepted_at: when that was, on the ledger's clock; None when unknown.
        is_watched: whether this run saw it from its POST on, so that its latency is known.
        accounting: what the provider has said of its cost and times so far.
        cost_source: who reported the cost: the result (`reported`) or the `history`.
        estimate_usd: what counts as charged when no cost is reported; what is reserved when None.
        output: what was stored; None until then.
        provider_sha256: digest of the bytes as they came.
        latency_ms: from our POST to the stored bytes; None where one of the two was not seen.
        completed_at: when the bytes were stored.
    """

    claim: Claim
    request_id: str
    began_s: float = 0.0
    accepted_s: float = 0.0
    accepted_at: datetime | None = None
    is_watched: bool = True
    accounting: Accounting = NOT_REPORTED
    cost_source: str = "reported"
    estimate_usd: Decimal | None = None
    output: Output | None = None
    provider_sha256: str | None = None
    latency_ms: int | None = None
    completed_at: datetime | None = None

    def with_cost(self, cost_usd: Decimal | None, source: str) -> Attempt:
        """The same, with a cost from elsewhere; a reported one stays."""
        if cost_usd is None or self.accounting.cost_usd is not None:
            return self
        return replace(self, accounting=replace(self.accounting, cost_usd=cost_usd), cost_source=source)

    def with_output(self, output: Output, provider_sha256: str, *, now: datetime, now_s: float) -> Attempt:
        """The same, stored."""
        return replace(
            self,
            output=output,
            provider_sha256=provider_sha256,
            latency_ms=int((now_s - self.began_s) * 1000) if self.is_watched else None,
            completed_at=now,
        )
