"""Whether a run may still submit, and why not: every stop goes through here.

A stop ends submitting, for the run, for a prompt set or for a model; what is in flight goes on. Which single
failures stop a run is defined in `lifecycle.failures`, when paid outputs stop a model in `breaker`; here, generations
wait for a model's scouts, and many free failures, or POSTs without an answer, stop it.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter, defaultdict
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from segmind_dagster.lifecycle.failures import POLICIES
from segmind_dagster.lifecycle.parsing import FREE
from segmind_dagster.runner.breaker import SCOUTS, CircuitBreaker
from segmind_dagster.runner.report import Ended

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from segmind_dagster.ledger.records import ModelDeliveries
    from segmind_dagster.lifecycle.failures import FailureKind
    from segmind_dagster.lifecycle.generation import Generation
    from segmind_dagster.registry import Model

# this many equal failures of a model without a success are not about one prompt
_ALIKE = 20
# this many POSTs to a model in a row without a clear answer; each may have been charged
_SILENT = 8
# the parts in which messages of the same failure differ: ids, numbers, quoted values
_PARTICULARS = re.compile(r"'[^']*'|\"[^\"]*\"|\b[0-9a-f-]{8,}\b|\d+")


class Admission:
    """What stops submitting.

    `stopped_by` and `message` say why the run stopped, if it did; `is_interrupted`, that a person ended it.

    Args:
        deliveries: what each model slug has delivered so far; one that is not in it has.
        is_by_person: whether a person asked for the run: that tries a model again that was stopped.
        quarantine: where refused outputs are.
    """

    def __init__(
        self,
        deliveries: Mapping[str, ModelDeliveries] | None = None,
        *,
        is_by_person: bool = True,
        quarantine: str = "quarantine",
    ) -> None:
        known = deliveries or {}
        self._quarantine = quarantine
        self._breakers: defaultdict[str, CircuitBreaker] = defaultdict(CircuitBreaker)
        for slug, of_model in known.items():
            self._breakers[slug] = CircuitBreaker.at_start(
                has_delivered=of_model.has_delivered, bad=of_model.bad_lately, is_by_person=is_by_person
            )
        self._bad_usd = defaultdict(Decimal, {slug: of_model.bad_lately_usd for slug, of_model in known.items()})
        self._judged = {key for of_model in known.values() for key in of_model.bad}
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.stopped_by: FailureKind | None = None
        self.message: str | None = None
        self.held_sets: dict[str, str] = {}
        self.held_models: dict[str, tuple[FailureKind, str]] = {}
        self.is_interrupted = False
        self._is_stopping = False
        self._silences: Counter[str] = Counter()
        self._alike: dict[str, Counter[tuple[str, str]]] = {}
        self._working: set[str] = set()
        self._admitted: set[str] = set()
        self._aside: Counter[str] = Counter()

    def stop(self, kind: FailureKind | None, message: str) -> None:
        """Stop submitting for the whole run; the first reason counts."""
        if not self._is_stopping:
            self._is_stopping = True
            self.stopped_by = kind
            self.message = message
            self._wake()

    def interrupt(self, message: str) -> None:
        """Stop because a person ends the run: it submits nothing more and does not wait for other runs."""
        self.is_interrupted = True
        self.stop(None, message)

    def hold_set(self, prompt_set: str, message: str) -> None:
        """Stop submitting for one prompt set, whose budget is used up."""
        self.held_sets[prompt_set] = message
        self._wake()

    def allows(self, generation: Generation) -> bool:
        """Whether this generation may be submitted, now or after its model's scouts."""
        slug = generation.model.slug
        is_held = self._is_stopping or generation.prompt_set in self.held_sets or slug in self.held_models
        return not is_held and self._breakers[slug].answer() != "stop"

    async def admits(self, generation: Generation) -> bool:
        """Wait for the scouts of its model, if there are any; return whether it may be submitted then, or once more.

        Call `landed` for each admitted generation, however it ends.
        """
        self._loop = asyncio.get_running_loop()
        slug = generation.model.slug
        while self.allows(generation):
            if generation.generation_id in self._admitted:
                return True
            if self._breakers[slug].answer() == "go":
                self._count_in(generation)
                return True
            await self._changed.wait()
        return False

    def landed(self, generation: Generation) -> None:
        """An admitted generation has ended, or waits; its ending is passed to `learn` before another task runs."""
        if generation.generation_id not in self._admitted:
            return
        self._admitted.remove(generation.generation_id)
        slug = generation.model.slug
        self._breakers[slug] = self._breakers[slug].landed()
        self._wake()

    @contextmanager
    def aside(self, generation: Generation) -> Iterator[None]:
        """Let another scout go while this one waits for the history; so at most as many wait as there are scouts."""
        slug = generation.model.slug
        is_aside = generation.generation_id in self._admitted and self._aside[slug] < SCOUTS
        if is_aside:
            self._aside[slug] += 1
            self.landed(generation)
        try:
            yield
        finally:
            if is_aside:
                self._aside[slug] -= 1
                # whatever is known by now, it goes on
                self._count_in(generation)

    def _count_in(self, generation: Generation) -> None:
        slug = generation.model.slug
        self._breakers[slug] = self._breakers[slug].sent()
        self._admitted.add(generation.generation_id)

    def answered(self, generation: Generation) -> None:
        """A POST got an answer with a clear outcome."""
        self._silences[generation.model.slug] = 0

    def unanswered(self, generation: Generation, what: str) -> None:
        """A POST got no clear answer; a model that never answers is stopped."""
        slug = generation.model.slug
        self._silences[slug] += 1
        if self._silences[slug] >= _SILENT and slug not in self.held_models:
            message = (
                f"{slug} was not asked any more: {self._silences[slug]} POSTs in a row got no answer ({what}). Each of "
                f"them may be paid for. {POLICIES['unknown_outcome'].advice}"
            )
            self.held_models[slug] = ("unknown_outcome", message)
            self._wake()

    def _wake(self) -> None:
        """Wake every waiting task; also from another thread, as when a person ends the run."""
        if self._loop is not None:
            # the loop may have ended
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._wake_now)

    def _wake_now(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def held_back(self, generation: Generation) -> Ended:
        """The ending of a generation that may not be submitted."""
        if (spent := self.held_sets.get(generation.prompt_set)) is not None:
            return Ended("held_back", "over_budget", spent)
        slug = generation.model.slug
        breaker = self._breakers[slug]
        if breaker.state == "open" and not self._is_stopping:
            self.held_models.setdefault(slug, ("bad_output", self._stopped_model(generation.model, breaker.bad)))
        if (held := self.held_models.get(slug)) is not None:
            return Ended("held_back", *held)
        return Ended("held_back", self.stopped_by, self.message)

    def _stopped_model(self, model: Model, bad: int) -> str:
        return (
            f"{model.slug} is stopped: {bad} of its outputs, one after the other, were paid for and cannot be "
            f"used (${self._bad_usd[model.slug]:.4f}). Look at them in {self._quarantine}/{model.resource}; "
            "`segmind-dagster collect` fetches them again, free of charge. To go on, materialize the prompt set "
            "yourself: that sends three more, and the rest as soon as one of these is good. `segmind-dagster resolve "
            "GENERATION --buy-again` pays once more for one of those that came."
        )

    def learn(self, generation: Generation, ended: Ended) -> None:
        """Record an ending; a model with bad outputs or repeated failures is stopped."""
        self._judge(generation, ended)
        self._count_alike(generation, ended)
        self._wake()

    def _judge(self, generation: Generation, ended: Ended) -> None:
        """Pass paid outcomes to the model's breaker, each attempt once."""
        slug = generation.model.slug
        # an output that the plan reused is old news; one that another run has stored meanwhile is not
        if ended.ending == "succeeded" or (ended.ending == "reused" and generation.step != "reuse"):
            self._breakers[slug] = self._breakers[slug].delivered()
            self._bad_usd[slug] = FREE
        elif ended.ending == "failed" and ended.failure_kind is not None and POLICIES[ended.failure_kind].is_paid:
            attempt = (generation.generation_id, ended.attempts)
            if attempt not in self._judged:
                self._judged.add(attempt)
                self._bad_usd[slug] += ended.cost_usd
                self._breakers[slug] = self._breakers[slug].disappointed()

    def _count_alike(self, generation: Generation, ended: Ended) -> None:
        slug = generation.model.slug
        if ended.ending == "succeeded":
            self._alike[slug] = Counter()
            self._working.add(slug)
        kind = ended.failure_kind
        # what got no answer is counted apart
        is_refusal = ended.ending in {"failed", "unknown"} and kind not in {None, "unknown_outcome"}
        if kind is None or not is_refusal or POLICIES[kind].is_paid or POLICIES[kind].is_of_prompt:
            return
        alike = self._alike.setdefault(slug, Counter())
        words = (kind, _PARTICULARS.sub("", ended.error or ""))
        alike[words] += 1
        is_of_model = POLICIES[kind].is_of_model and slug not in self._working
        if alike[words] >= (1 if is_of_model else _ALIKE) and slug not in self.held_models:
            message = (
                f"{slug} was not asked any more: {alike[words]} of its generations failed the same way, one after the "
                f"other ({kind}: {ended.error}). {POLICIES[kind].advice}"
            )
            self.held_models[slug] = (kind, message)

    @property
    def messages(self) -> list[str]:
        """Why generations were held back, each reason once."""
        found: list[Any] = [self.message, *self.held_sets.values(), *(text for _, text in self.held_models.values())]
        return list(dict.fromkeys(message for message in found if message))
