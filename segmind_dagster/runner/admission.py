"""Whether a run may still submit, and why not: one place that every stop goes through.

A stop ends submitting, for the run, for a prompt set or for a model; what is in flight goes on. Which single
failures stop a run is written in `lifecycle.failures`, when what was paid for stops a model in `breaker`; here is who
waits for a model's scouts, and when many failures that cost nothing stop it, or POSTs without an answer.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter, defaultdict
from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from segmind_dagster.lifecycle.failures import POLICIES
from segmind_dagster.lifecycle.parsing import FREE
from segmind_dagster.runner.breaker import CircuitBreaker
from segmind_dagster.runner.report import Ended

if TYPE_CHECKING:
    from collections.abc import Mapping

    from segmind_dagster.ledger.records import ModelDeliveries
    from segmind_dagster.lifecycle.failures import FailureKind
    from segmind_dagster.lifecycle.generation import Generation
    from segmind_dagster.registry import Model

# so many generations of a model failing in the same words, and none succeeding, is not about one prompt
_ALIKE = 20
# so many POSTs to a model in a row without an answer that tells anything: each may be paid for
_SILENT = 8
# what tells two messages of the same failure apart: ids, numbers, quoted values
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

    def stop(self, kind: FailureKind | None, message: str) -> None:
        """The run submits nothing more; the first reason counts."""
        if not self._is_stopping:
            self._is_stopping = True
            self.stopped_by = kind
            self.message = message
            self._wake()

    def interrupt(self, message: str) -> None:
        """A person ends the run: it submits nothing more, and waits for no other run."""
        self.is_interrupted = True
        self.stop(None, message)

    def hold_set(self, prompt_set: str, message: str) -> None:
        """A prompt set has used up its budget; the others have budgets of their own."""
        self.held_sets[prompt_set] = message
        self._wake()

    def allows(self, generation: Generation) -> bool:
        """Whether this generation may be submitted, now or after its model's scouts."""
        slug = generation.model.slug
        is_held = self._is_stopping or generation.prompt_set in self.held_sets or slug in self.held_models
        return not is_held and self._breakers[slug].answer() != "stop"

    async def admits(self, generation: Generation) -> bool:
        """Wait for the scouts of its model, if there are any; whether it may be submitted then, or once more.

        One that is admitted has to land, whatever comes of it; see `landed`.
        """
        self._loop = asyncio.get_running_loop()
        slug = generation.model.slug
        while self.allows(generation):
            if generation.generation_id in self._admitted:
                return True
            if self._breakers[slug].answer() == "go":
                self._breakers[slug] = self._breakers[slug].sent()
                self._admitted.add(generation.generation_id)
                return True
            await self._changed.wait()
        return False

    def landed(self, generation: Generation) -> None:
        """One that was admitted is over, or waits; its ending is passed to `learn` before another task has a turn."""
        if generation.generation_id not in self._admitted:
            return
        self._admitted.remove(generation.generation_id)
        slug = generation.model.slug
        self._breakers[slug] = self._breakers[slug].landed()
        self._wake()

    def answered(self, generation: Generation) -> None:
        """A POST got an answer that tells what became of it."""
        self._silences[generation.model.slug] = 0

    def unanswered(self, generation: Generation, what: str) -> None:
        """A POST got none: a model that answers nobody is not asked any more."""
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
        """Let every waiting task look again; also from another thread, as when a person ends the run."""
        if self._loop is not None:
            # the loop may be over by now
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._wake_now)

    def _wake_now(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def held_back(self, generation: Generation) -> Ended:
        """How a generation ends that may not be submitted."""
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
        """Take note of an ending: a model that disappoints or fails again and again is not asked any more."""
        self._judge(generation, ended)
        self._count_alike(generation, ended)
        self._wake()

    def _judge(self, generation: Generation, ended: Ended) -> None:
        """Tell the model's breaker what came for the money, each attempt once."""
        slug = generation.model.slug
        # what the plan reused says nothing about now; what another run has stored meanwhile does
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
        """Everything that was held back, and why, each once."""
        found: list[Any] = [self.message, *self.held_sets.values(), *(text for _, text in self.held_models.values())]
        return list(dict.fromkeys(message for message in found if message))
