"""Whether a run may still submit, and why not: one place that every stop goes through.

A stop ends submitting, for the run, for a prompt set or for a model; what is in flight goes on. Which single
failures stop a run is written in `lifecycle.failures`; here is only when many of them do.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from segmind_dagster.lifecycle.failures import POLICIES
from segmind_dagster.runner.work import Ended

if TYPE_CHECKING:
    from segmind_dagster.lifecycle.failures import FailureKind
    from segmind_dagster.runner.work import Work

# so many generations of a model failing in the same words, and none succeeding, is not about one prompt
_ALIKE = 20
# what tells two messages of the same failure apart: ids, numbers, quoted values
_PARTICULARS = re.compile(r"'[^']*'|\"[^\"]*\"|\b[0-9a-f-]{8,}\b|\d+")


class Brake:
    """What stops submitting.

    `stopped_by` and `message` say why the run stopped, if it did; `is_interrupted`, that somebody ended it.
    """

    def __init__(self) -> None:
        self.stopped_by: FailureKind | None = None
        self.message: str | None = None
        self.held_sets: dict[str, str] = {}
        self.held_models: dict[str, tuple[FailureKind, str]] = {}
        self.is_interrupted = False
        self._is_stopping = False
        self._alike: dict[str, Counter[tuple[str, str]]] = {}
        self._working: set[str] = set()

    def stop(self, kind: FailureKind | None, message: str) -> None:
        """The run submits nothing more; the first reason counts."""
        if not self._is_stopping:
            self._is_stopping = True
            self.stopped_by = kind
            self.message = message

    def interrupt(self, message: str) -> None:
        """Somebody ends the run: it submits nothing more, and waits for no other run."""
        self.is_interrupted = True
        self.stop(None, message)

    def hold_set(self, prompt_set: str, message: str) -> None:
        """A prompt set has used up its budget; the others have budgets of their own."""
        self.held_sets[prompt_set] = message

    def allows(self, work: Work) -> bool:
        """Whether this generation may be submitted."""
        return not (self._is_stopping or work.prompt_set in self.held_sets or work.model.slug in self.held_models)

    def held_back(self, work: Work) -> Ended:
        """How a generation ends that may not be submitted."""
        if (spent := self.held_sets.get(work.prompt_set)) is not None:
            return Ended("held_back", "over_budget", spent)
        if (held := self.held_models.get(work.model.slug)) is not None:
            return Ended("held_back", *held)
        return Ended("held_back", self.stopped_by, self.message)

    def learn(self, work: Work, ended: Ended) -> None:
        """Take note of an ending: a model whose generations all fail the same way is not asked again."""
        slug = work.model.slug
        if ended.ending == "succeeded":
            self._alike[slug] = Counter()
            self._working.add(slug)
        kind = ended.failure_kind
        if ended.ending != "failed" or kind is None or POLICIES[kind].is_paid:
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
