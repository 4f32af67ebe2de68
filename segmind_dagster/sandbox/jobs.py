"""The job book: every accepted job, where it stands now, and what was charged for it.

A job's whole future is fixed when it is accepted, and its state is computed from the clock when somebody
looks: no task per job. Charging happens once, when a job has completed. Nothing here speaks HTTP.
"""

from __future__ import annotations

import heapq
import json
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, cast, get_args
from uuid import uuid4

from segmind_dagster.sandbox.faults import NO_FAULT, Drawn, OutputFault, PollFault, unit_draw
from segmind_dagster.sandbox.lies import NO_LIES
from segmind_dagster.sandbox.offers import Offer, offers
from segmind_dagster.sandbox.validation import MAX_SAMPLES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from segmind_dagster.sandbox.journal import Journal
    from segmind_dagster.sandbox.lies import Lies
    from segmind_dagster.sandbox.settings import SandboxSettings

JobStatus = Literal["QUEUED", "PROCESSING", "COMPLETED", "FAILED"]
Outcome = Literal["completed", "failed", "stuck"]

QUEUE_SHARE = 0.2
_MICRO_USD = Decimal("0.000001")
_TRANSIENT_ERROR = "CUDA out of memory. Tried to allocate 2.00 GiB"
_VALIDATION_ERROR = "Prompt is Mandatory and must be string"
_EXTENSIONS = {"image": "jpeg", "video": "mp4", "audio": "wav", "text": "json"}
_CONTENT_TYPES = {"jpeg": "image/jpeg", "png": "image/png", "mp4": "video/mp4", "wav": "audio/wav"}
_PNG_SLUGS = frozenset({"face-to-sticker"})


@dataclass(slots=True)
class Job:
    """One accepted job; everything but the last group is fixed at acceptance.

    Args:
        request_id: its id in the books.
        stated_id: the id that everybody is told; the same, unless it repeats an earlier one.
        nth: how many submissions of its body there were before.
        slug: the model.
        body: the request's JSON object.
        seed: the seed the picture is drawn from.
        created_at: acceptance, UTC epoch seconds.
        latency_s: time from acceptance to the outcome.
        cost_usd: charged when it completes.
        outcome: how it ends; a `stuck` job ends as failed with its record.
        error: why it fails.
        samples: number of outputs.
        poll_fault: what goes wrong on the first look at its status.
        output_fault: what goes wrong when an output is fetched.
        is_finished: whether the outcome is in the books.
        remaining_usd: balance right after its charge.
        faulted: outputs and polls whose one-time fault has happened.
    """

    request_id: str
    stated_id: str
    nth: int
    slug: str
    body: dict[str, Any]
    seed: int
    created_at: float
    latency_s: float
    cost_usd: Decimal
    outcome: Outcome = "completed"
    error: str | None = None
    samples: int = 1
    poll_fault: PollFault | None = None
    output_fault: OutputFault | None = None
    is_finished: bool = False
    remaining_usd: Decimal | None = None
    faulted: set[str] = field(default_factory=set)

    @property
    def ends_at(self) -> float:
        """When the outcome is there, UTC epoch seconds."""
        return self.created_at + self.latency_s

    @property
    def is_charged(self) -> bool:
        """Whether it was paid for."""
        return self.is_finished and self.outcome == "completed"

    @property
    def offer(self) -> Offer:
        """The model, as sold."""
        return offers()[self.slug]

    @property
    def extension(self) -> str:
        """Of its output files."""
        return "png" if self.slug in _PNG_SLUGS else _EXTENSIONS[self.offer.output]

    @property
    def content_type(self) -> str:
        """Of its output files."""
        return _CONTENT_TYPES.get(self.extension, "application/json")

    def status(self, now: float) -> JobStatus:
        """Where it stands."""
        if now >= self.ends_at or self.is_finished:
            return "COMPLETED" if self.outcome == "completed" else "FAILED"
        if self.outcome == "stuck":
            return "PROCESSING"
        return "QUEUED" if now < self.created_at + QUEUE_SHARE * self.latency_s else "PROCESSING"

    def output_names(self) -> list[str]:
        """File names of its outputs; none for text."""
        if self.offer.output == "text":
            return []
        rest = [f"{self.request_id}-{index}.{self.extension}" for index in range(1, self.samples)]
        return [f"{self.request_id}.{self.extension}", *rest]

    def fault_once(self, key: str) -> bool:
        """True the first time it is asked for that key."""
        if key in self.faulted:
            return False
        self.faulted.add(key)
        return True


def canonical(body: Mapping[str, Any]) -> str:
    """A body as one string, whatever the order of its keys."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def usual_price_usd(offer: Offer, body: Mapping[str, Any]) -> Decimal:
    """What a body usually costs: every sample is paid for."""
    return offer.price_usd * _samples_of(body)


class JobBook:
    """All jobs and the account's money.

    Args:
        settings: prices, latencies, lifetimes.
        journal: where it is remembered; None for memory only.
    """

    def __init__(self, settings: SandboxSettings, journal: Journal | None = None) -> None:
        self.jobs: dict[str, Job] = {}
        self.balance_usd = settings.initial_credits
        self.charged_usd = Decimal(0)
        self.charges = 0
        self._settings = settings
        self._journal = journal
        self._ending: list[tuple[float, str]] = []
        self._submissions: dict[tuple[str, str], int] = {}
        self._by_stated_id: dict[str, str] = {}
        self._stated_last: str | None = None

    def next_attempt(self, slug: str, canonical_body: str) -> int:
        """How many submissions of that body there were before this one; counts it."""
        key = (slug, canonical_body)
        nth = self._submissions.get(key, 0)
        self._submissions[key] = nth + 1
        return nth

    def accept(
        self,
        offer: Offer,
        body: dict[str, Any],
        *,
        key: str,
        nth: int = 0,
        drawn: Drawn = NO_FAULT,
        error: str | None = None,
        lies: Lies = NO_LIES,
    ) -> Job:
        """Take a job on.

        Args:
            offer: the model.
            body: the request's JSON object.
            key: the body, `canonical`.
            nth: how many submissions of that body there were before.
            drawn: the faults it will meet.
            error: why the job will fail; None when nothing is wrong with it.
            lies: what it costs beside the usual price, and whether it is told an id of its own.
        """
        settings = self._settings
        outcome, error = _outcome(drawn, error)
        cost_usd = usual_price_usd(offer, body)
        if settings.price_jitter:
            cost_usd *= Decimal(repr(0.9 + 0.2 * unit_draw("price", offer.slug, key, nth)))
        cost_usd *= Decimal(repr(lies.price_factor))
        latency_s = settings.fixed_latency_s
        if latency_s is None:
            latency_s = offer.latency_s * settings.time_scale * (0.7 + 0.6 * unit_draw("latency", offer.slug, key, nth))
        seed = body.get("seed")
        if not isinstance(seed, int) or seed < 0:
            seed = int(unit_draw("seed", offer.slug, key, nth) * 2**53)
        request_id = stated_id = str(uuid4())
        if self._stated_last is not None and unit_draw(lies.seed, "id", offer.slug, key, nth) < lies.repeated_id_share:
            stated_id = self._stated_last
        job = Job(
            request_id=request_id,
            stated_id=stated_id,
            nth=nth,
            slug=offer.slug,
            body=body,
            seed=seed,
            created_at=settings.clock(),
            latency_s=settings.record_ttl_s if outcome == "stuck" else latency_s,
            cost_usd=cost_usd.quantize(_MICRO_USD),
            outcome=outcome,
            error=error,
            samples=_samples_of(body),
            poll_fault=drawn.poll,
            output_fault=drawn.output,
        )
        self._enter(job)
        if self._journal is not None:
            self._journal.append({"type": "job", **_as_record(job)})
            self._journal.commit()
        return job

    def find(self, request_id: str) -> Job | None:
        """The first job that was told this id, while its record lives."""
        job = self.ever(request_id)
        if job is None or self._settings.clock() >= job.created_at + self._settings.record_ttl_s:
            return None
        return job

    def ever(self, stated_id: str) -> Job | None:
        """The first job that was told this id, whatever its age."""
        return self.jobs.get(self._by_stated_id.get(stated_id, ""))

    def finish_ended(self) -> None:
        """Enter every outcome that has come about by now, in order."""
        now = self._settings.clock()
        while self._ending and self._ending[0][0] <= now:
            self.finish(self.jobs[heapq.heappop(self._ending)[1]])

    def finish(self, job: Job) -> None:
        """Enter one job's outcome: charge a success, once."""
        if job.is_finished:
            return
        job.is_finished = True
        if job.outcome == "completed":
            self._charge(job)
        if self._journal is not None:
            self._journal.append(
                {"type": "settled", "request_id": job.request_id, "outcome": job.outcome, "charged": job.is_charged}
            )

    def add_credits(self, amount_usd: Decimal) -> None:
        """Raise (or, negative, lower) the balance."""
        self.balance_usd += amount_usd
        if self._journal is not None:
            self._journal.append({"type": "credits", "amount_usd": str(amount_usd)})

    def restore(self, record: Mapping[str, Any]) -> None:
        """Take one journal record back in."""
        if record["type"] == "job":
            job = _from_record(record)
            self._enter(job)
            key = (job.slug, canonical(job.body))
            self._submissions[key] = max(self._submissions.get(key, 0), record["nth"] + 1)
        elif record["type"] == "settled":
            job = self.jobs[record["request_id"]]
            if not job.is_finished:
                job.is_finished = True
                if record["charged"]:
                    self._charge(job)
        elif record["type"] == "credits":
            self.balance_usd += Decimal(record["amount_usd"])

    def _enter(self, job: Job) -> None:
        self.jobs[job.request_id] = job
        self._by_stated_id.setdefault(job.stated_id, job.request_id)
        self._stated_last = job.stated_id
        heapq.heappush(self._ending, (job.ends_at, job.request_id))

    def _charge(self, job: Job) -> None:
        # like the provider, only the submission checks the balance: jobs in flight may take it below zero
        self.balance_usd -= job.cost_usd
        self.charged_usd += job.cost_usd
        self.charges += 1
        job.remaining_usd = self.balance_usd


def _samples_of(body: Mapping[str, Any]) -> int:
    samples = body.get("samples", 1)
    return samples if isinstance(samples, int) and 1 <= samples <= MAX_SAMPLES else 1


def _outcome(drawn: Drawn, error: str | None) -> tuple[Outcome, str | None]:
    if error is not None:
        return "failed", error
    match drawn.poll:
        case "failed":
            return "failed", _TRANSIENT_ERROR
        case "failed_validation":
            return "failed", _VALIDATION_ERROR
        case "stuck":
            return "stuck", "The request timed out"
        case _:
            return "completed", None


def _as_record(job: Job) -> dict[str, Any]:
    record = asdict(job)
    for volatile in ("is_finished", "remaining_usd", "faulted"):
        del record[volatile]
    return {**record, "cost_usd": str(job.cost_usd)}


def _from_record(record: Mapping[str, Any]) -> Job:
    fields = {name: value for name, value in record.items() if name != "type"}
    poll_fault, output_fault = fields.pop("poll_fault"), fields.pop("output_fault")
    return Job(
        # journals of earlier versions have no `stated_id`
        **{"stated_id": fields["request_id"], **fields, "cost_usd": Decimal(fields["cost_usd"])},
        poll_fault=cast("PollFault", poll_fault) if poll_fault in get_args(PollFault) else None,
        output_fault=cast("OutputFault", output_fault) if output_fault in get_args(OutputFault) else None,
    )
